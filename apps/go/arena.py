"""Matches of many games at once, for gates and ratings: nets, random play, and a search that knows nothing.

The anchors never change, so that ratings of different runs can be compared: `random` draws legal moves; `rollouts@N`
searches N positions with uniform priors and judges each by one game of random moves (Coulom 2006).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.go import rules
from apps.go.boards import Boards
from apps.go.jit import jit
from apps.go.search import Judged, Options, Search
from apps.go.selfplay import player
from apps.go.state import OVER, TO_MOVE, Spec


@dataclass(frozen=True)
class Entrant:
    """One who plays: a net with so many visits (1: without search), or without weights `rollouts@visits`, `random`."""

    name: str
    visits: int = 0
    weights: bytes = field(default=b"", repr=False)


def anchor(name: str) -> Entrant:
    """The anchor of a name, `random` or `rollouts@N`.

    Raises:
        ValueError: if there is no such anchor.
    """
    kind, _, visits = name.partition("@")
    if name == "random":
        return Entrant(name)
    if kind == "rollouts" and visits.isdecimal() and 0 < int(visits) <= 100_000:
        return Entrant(name, int(visits))
    raise ValueError(f"there is no anchor {name!r}; random or rollouts@N, such as rollouts@100, is wanted")


@dataclass(frozen=True)
class Bout:
    """A match of A and B as one piece of work; each opening is played twice, with colours exchanged."""

    key: str
    a: Entrant
    b: Entrant
    board: Spec
    games: int
    opening: int
    seed: int
    longest: int = 0
    """As for `Boards`."""

    @property
    def digest(self) -> str:
        """Of everything; a file of another match is told by it."""
        sides = [(e.name, e.visits, hashlib.sha256(e.weights).hexdigest()) for e in (self.a, self.b)]
        everything = sides, tuple(self.board), self.games, self.opening, self.seed, self.longest
        return hashlib.sha256(repr(everything).encode()).hexdigest()


def fight(bout: Bout) -> dict[str, Any]:
    """Plays a match.

    Returns:
        points: (games,) float32 of A: 1 won, 0.5 drawn, 0 lost; A has the first move in the even games; distinct: how
        many games are not the same as another; a, b: their names; and the match's digest.
    """
    boards, rng = Boards(bout.board, bout.games, bout.longest), np.random.default_rng(bout.seed)
    for g in range(bout.games):
        boards.scatter(g, bout.opening, np.random.default_rng((bout.seed, g // 2)))
    first = np.arange(bout.games) % 2  # who of the two, 0 A, 1 B, has the first move
    while (going := np.flatnonzero(boards.going)).size:
        turn = (boards.states[going, TO_MOVE] + first[going]) % 2
        for side, entrant in enumerate((bout.a, bout.b)):
            which = going[turn == side]
            if which.size:
                for g, move in zip(which, choose(entrant, boards, which, rng), strict=True):
                    boards.play(int(g), int(move))
    signs = np.sign(boards.margins()) * (1 - 2 * first)
    return {"points": ((1 + signs) / 2).astype(np.float32), "distinct": np.int64(len(np.unique(boards.moves, axis=0))),
            "a": np.array(bout.a.name), "b": np.array(bout.b.name), "digest": np.array(bout.digest)}


def choose(entrant: Entrant, boards: Boards, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The moves (len(which),) of an entrant in some games."""
    if not entrant.visits:
        return np.array([rng.choice(boards.legal(g)) for g in which])
    states, histories = boards.states[which], boards.histories(which)
    if not entrant.weights:
        return rollouts(boards.board, states, histories, entrant.visits, rng)
    net = player(entrant.weights)
    search = Search(boards.board, states, histories, net.evaluate, entrant.visits + 1, net.options)
    search.run(entrant.visits - 1)
    tree = search.tree
    return (tree.visits[:, 0] + np.maximum(tree.prior[:, 0], 0) * 1e-3 - (tree.prior[:, 0] < 0)).argmax(1)


def rollouts(board: Spec, states: np.ndarray, histories: list[np.ndarray], visits: int,
             rng: np.random.Generator) -> np.ndarray:
    """The most visited moves (G,) of a search with uniform priors that judges by random games."""

    def judge(planes: np.ndarray, numbers: np.ndarray) -> Judged:
        n = len(planes)
        chance = np.empty(n, np.float32)
        _play_out(board, search.tree.states, search.waiting, chance, int(rng.integers(1 << 31)))
        return Judged(np.zeros((n, board.actions), np.float32), chance, np.zeros(n, np.float32),
                      np.zeros((n, board.rows, board.columns), np.float32))

    search = Search(board, states, histories, judge, visits + 1, Options(lead=0.0, leaves=1))
    search.run(visits - 1)
    return search.tree.visits[:, 0].argmax(1)


@jit
def _play_out(spec: Spec, states: np.ndarray, where: np.ndarray, chance: np.ndarray, seed: int) -> None:
    """Fills in, for the side to move at each node, 1, 0.5 or 0: how one random game from there ended.

    The game knows no earlier position, and after twice as many moves as there are points it counts as it stands.
    """
    np.random.seed(seed)
    mask, history = np.empty(spec.actions, np.int8), np.empty(1, np.uint64)
    for i in range(len(where)):
        s = states[where[i, 0], where[i, 1]].copy()
        mover = s[TO_MOVE]
        for _ in range(2 * spec.rows * spec.columns):
            if s[OVER]:
                break
            history[0] = rules.key(spec, s)
            skip = np.random.randint(rules.legal(spec, s, history, 1, mask))
            move = -1
            while skip >= 0:
                move += 1
                skip -= mask[move]
            rules.play(spec, s, move)
        margin = rules.margin(spec, s) * (1 - 2 * mover)
        chance[i] = 1.0 if margin > 0 else 0.0 if margin < 0 else 0.5
