"""Trees that grow by batches of simulations within a budget. The verbs are in tree.py, Gumbel's root in gumbel.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.go.features import NUMBERS, PLANES
from apps.go.reuse import replant
from apps.go.state import Spec
from apps.go.tree import WAITING, gather, land, plant, tally


@dataclass(frozen=True)
class Options:
    """How the tree grows."""

    exploration: float = 1.1
    """PUCT's constant: how much a prior draws against what was found."""
    growth: float = 0.45
    """How it grows with the logarithm of the visits (KataGo's cpuctExplorationLog)."""
    first: float = 0.2
    """How much worse than its parent an unseen move is taken to be (first-play urgency)."""
    lead: float = 0.1
    """Weight of the lead beside winning."""
    leaves: int = 8
    """Simulations of one tree that wait for the net together."""
    forced: float = 0.0
    """Gives each of the root's moves that was seen sqrt(forced P N) visits at least: KataGo has 2 in self-play."""


class Judged(NamedTuple):
    """What an evaluator says of B positions, each for its side to move."""

    logits: np.ndarray
    """(B, A) float32."""
    chance: np.ndarray
    """(B,) float32: to win, a draw counting half."""
    lead: np.ndarray
    """(B,) float32 points."""
    ownership: np.ndarray
    """(B, H, W) float32 in -1..1, positive the side to move's."""


Evaluator = Callable[[np.ndarray, np.ndarray], Judged]
"""From planes (B, F, H, W) and numbers (B, G) to what is thought of them."""


class Search:
    """Grows G trees with one evaluator; `tree` is there to be read.

    Attributes:
        tree: the trees.
        ownership: (G, H, W) float64: the sum of what was thought of the points, positive the first player's.
        judged: (G,) nodes behind that sum.
        waiting: (n, 2) int32 game and number of the nodes that the evaluator is asked about.
    """

    def __init__(self, spec: Spec, states: np.ndarray, histories: list[np.ndarray], evaluate: Evaluator, nodes: int,
                 options: Options | None = None, *, moves: int = 0) -> None:
        self.spec, self.evaluate, self.options = spec, evaluate, options or Options()
        self.tree = plant(spec, states, histories, nodes, moves)
        self.ownership = np.zeros((len(states), spec.rows, spec.columns))
        self.judged = np.zeros(len(states), np.int64)
        self.waiting = np.empty((0, 2), np.int32)
        self._planes = np.empty((0, PLANES, spec.rows, spec.columns), np.float32)
        self._numbers = np.empty((0, NUMBERS), np.float32)

    def step(self, moves: np.ndarray, budget: np.ndarray) -> int:
        """Runs one batch of simulations (see `gather`); returns how many nodes the net judged."""
        most, o = moves.size, self.options
        if len(self._planes) < most:
            self._planes = np.empty((most, *self._planes.shape[1:]), np.float32)
            self._numbers = np.empty((most, NUMBERS), np.float32)
        where = np.empty((most, 2), np.int32)
        n = gather(self.spec, self.tree, moves, budget, o.exploration, o.growth, o.first, o.lead, o.forced,
                   self._planes, self._numbers, where)
        if n:
            self.waiting = where = where[:n]
            out = self.evaluate(self._planes[:n], self._numbers[:n])
            land(self.tree, where, out.logits, out.chance, out.lead, o.lead)
            tally(self.tree, where, out.ownership, self.ownership, self.judged)
        return n

    def open(self) -> None:
        """Lets the net judge the roots that it has not seen."""
        if (self.tree.kind[:, 0] == WAITING).any():
            self.step(np.full((len(self.judged), 1), -2, np.int32), np.zeros(len(self.judged), np.int32))

    def run(self, simulations: int | np.ndarray, stop: Callable[[], bool] = lambda: False) -> None:
        """Runs so many PUCT simulations in each tree (or (G,) of them), or fewer if `stop()` becomes true between two
        batches."""
        self.open()
        budget = np.full(len(self.judged), simulations, np.int32)
        while budget.any() and not stop():
            moves = np.full((len(budget), max(1, min(self.options.leaves, int(budget.max())))), -1, np.int32)
            before = int(budget.sum())
            if not self.step(moves, budget) and int(budget.sum()) == before:
                break  # every root has ended

    def advance(self, moves: np.ndarray) -> None:
        """Plays a move (G,) at each root, none where it is negative, and keeps what was found below it.

        A tree can take as many moves as `Search(moves=...)` said. Of the ownership, what is seen from here on counts.
        """
        for g, move in enumerate(moves):
            if move >= 0:
                replant(self.spec, self.tree, g, move)
                self.ownership[g], self.judged[g] = 0, 0

    def root(self, g: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The root's priors (A,), visits (A,) and mean utilities (A,) for the side to move (NaN where unseen)."""
        visits = self.tree.visits[g, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.tree.prior[g, 0], visits, self.tree.total[g, 0, :, 0] / visits


def add_noise(search: Search, share: float, rng: np.random.Generator, g: int = 0) -> None:
    """Mixes Dirichlet noise into a root's priors; its concentration is AlphaZero's, 10.8 over the legal moves."""
    prior = search.tree.prior[g, 0]
    legal = prior >= 0
    prior[legal] = (1 - share) * prior[legal] + share * rng.dirichlet(np.full(legal.sum(), 10.8 / legal.sum()))


def pruned(prior: np.ndarray, visits: np.ndarray, q: np.ndarray, options: Options) -> np.ndarray:
    """The root's visits as a policy without what was forced: self-play's target for PUCT (KataGo, section 3.2).

    From each move but the most visited, as many of its sqrt(forced P N) forced visits are taken as leave its PUCT score
    below the best's; a move that is left with one visit loses it too.

    Args:
        prior, visits, q: (A,) of the root, as `Search.root` gives them.

    Returns:
        (A,) shares that sum to 1.
    """
    n, kept = visits.sum(), visits.astype(np.float64)
    pull = (options.exploration + options.growth * np.log((n + 501) / 500)) * np.sqrt(n + 0.01)
    best = int(visits.argmax())
    score = q[best] + pull * prior[best] / (1 + visits[best])
    for a in np.flatnonzero(visits):
        if a == best:
            continue
        forced = np.ceil(np.sqrt(options.forced * prior[a] * n))
        if q[a] < score:  # the fewest visits at which PUCT still would not take it
            fewest = np.ceil(max(0.0, pull * prior[a] / (score - q[a]) - 1))
            kept[a] = min(visits[a], max(visits[a] - forced, fewest))
        if kept[a] <= 1 and options.forced:
            kept[a] = 0
    return kept / kept.sum()
