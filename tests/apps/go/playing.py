"""A game of apps.go as tests want it: the state, its history, and a few words about them."""

from __future__ import annotations

import numpy as np

from apps.go import rules
from apps.go.state import HEADER, OVER, TO_MOVE, Spec, cell, spec


class Playing:
    """A state with its history; no move is checked."""

    def __init__(self, made: Spec) -> None:
        self.spec, self.state = made, rules.new(made)
        self.history, self.count = np.zeros(2000, np.uint64), 0
        self.mask = np.zeros(made.actions, np.int8)
        self.append()

    @classmethod
    def go(cls, rows: int, columns: int | None = None, **options) -> Playing:
        return cls(spec("go", (rows, columns or rows), **options))

    def append(self) -> None:
        self.history[self.count] = rules.key(self.spec, self.state)
        self.count += 1

    def play(self, *moves: int) -> Playing:
        for move in moves:
            rules.play(self.spec, self.state, move)
            self.append()
        return self

    def put(self, picture: str, first_to_move: bool = True) -> Playing:
        """Sets up rows of X, O and dots, as one who plays with himself would, and forgets how it came about."""
        stones = "".join(picture.split())
        for colour, sign in enumerate("XO"):
            for move, stone in enumerate(stones):
                if stone == sign:
                    self.state[TO_MOVE] = colour
                    rules.play(self.spec, self.state, move)
        self.state[TO_MOVE] = 0 if first_to_move else 1
        self.count = 0
        self.append()
        return self

    @property
    def board(self) -> tuple[int, ...]:
        points = range(self.spec.rows * self.spec.columns)
        return tuple(int(self.state[HEADER + cell(self.spec, move)]) for move in points)

    @property
    def over(self) -> bool:
        return bool(self.state[OVER])

    @property
    def to_move(self) -> int:
        return int(self.state[TO_MOVE])

    def legal(self) -> set[int]:
        count = rules.legal(self.spec, self.state, self.history, self.count, self.mask)
        assert count == self.mask.sum()
        return {int(move) for move in np.flatnonzero(self.mask)}

    def reason(self, move: int) -> int:
        return int(rules.reason(self.spec, self.state, self.history, self.count, move))

    def repeats(self, move: int) -> int:
        return int(rules.repeats_ply(self.spec, self.state, self.history, self.count, move))

    def margin(self) -> float:
        return float(rules.margin(self.spec, self.state))


def reachable(spec: Spec, start: np.ndarray, turns: tuple[int, ...]) -> np.ndarray:
    """All boards (n, points) that come about when only the sides in `turns` move, whenever they like, without ko."""
    first, end = HEADER, HEADER + spec.cells
    seen, todo = {start[first:end].tobytes()}, [start.copy()]
    mask, history = np.zeros(spec.actions, np.int8), np.zeros(1, np.uint64)
    while todo:
        s = todo.pop()
        for turn in turns:
            s[TO_MOVE] = turn
            rules.legal(spec, s, history, 0, mask)
            for move in np.flatnonzero(mask[:-1]):
                after = s.copy()
                rules.play(spec, after, move)
                board = after[first:end].tobytes()
                if board not in seen:
                    seen.add(board)
                    todo.append(after)
    points = [cell(spec, move) for move in range(spec.rows * spec.columns)]
    return np.array([np.frombuffer(board, np.int16)[points] for board in seen])
