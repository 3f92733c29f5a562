"""Many games of one kind played side by side: where they stand, what was played, how they ended."""

from __future__ import annotations

import numpy as np

from apps.go import goban, rules
from apps.go.state import GO, OVER, PLIES, Spec


class Boards:
    """G games that begin together and end each in its time.

    Args:
        longest: moves after which a game is over as it stands; 0 is three times the points.

    Attributes:
        states: (G, L) int16.
        moves: (G, longest) int16, -2 after the end.
    """

    def __init__(self, board: Spec, games: int, longest: int = 0) -> None:
        self.board, self.longest = board, longest or 3 * board.rows * board.columns
        self.states = np.stack([rules.new(board)] * games)
        self.moves = np.full((games, self.longest), -2, np.int16)
        self._history = np.zeros((games, self.longest + 1), np.uint64)
        self._history[:, 0] = rules.key(board, self.states[0])

    @property
    def going(self) -> np.ndarray:
        """(G,) bool: the games that go on."""
        return (self.states[:, OVER] == 0) & (self.states[:, PLIES] < self.longest)

    def histories(self, which: np.ndarray) -> list[np.ndarray]:
        """The keys of the positions of some games."""
        return [self._history[g, : self.states[g, PLIES] + 1] for g in which]

    def legal(self, g: int) -> np.ndarray:
        """The legal moves of a game."""
        mask = np.empty(self.board.actions, np.int8)
        rules.legal(self.board, self.states[g], self._history[g], int(self.states[g, PLIES]) + 1, mask)
        return np.flatnonzero(mask)

    def play(self, g: int, move: int) -> None:
        """Plays a legal move in a game that goes on."""
        s = self.states[g]
        self.moves[g, s[PLIES]] = move
        rules.play(self.board, s, move)
        self._history[g, s[PLIES]] = rules.key(self.board, s)

    def scatter(self, g: int, moves: int, rng: np.random.Generator) -> None:
        """Plays so many random moves, none of which passes or ends the game; fewer if there are none."""
        for _ in range(moves):
            for move in rng.permutation(self.legal(g)):
                after = self.states[g].copy()
                rules.play(self.board, after, int(move))
                if not after[OVER] and (self.board.game != GO or move < self.board.actions - 1):
                    self.play(g, int(move))
                    break
            else:
                return

    def margins(self) -> np.ndarray:
        """(G,) float32: the first player's margin, by area where Go was cut off."""
        return np.array([rules.margin(self.board, s) for s in self.states], np.float32)

    def owners(self) -> np.ndarray:
        """(G, points) int8: +1 the first player's, -1 the second's; zeros in games other than Go."""
        owner = np.zeros((len(self.states), self.board.rows * self.board.columns), np.int8)
        if self.board.game == GO:
            for s, row in zip(self.states, owner, strict=True):
                goban.area(self.board, s, row)
        return owner
