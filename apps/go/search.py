"""Trees that grow by batches of simulations within a budget. The verbs are in tree.py, Gumbel's root in gumbel.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.go.features import NUMBERS, PLANES
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
    """

    def __init__(self, spec: Spec, states: np.ndarray, histories: list[np.ndarray], evaluate: Evaluator, nodes: int,
                 options: Options | None = None) -> None:
        self.spec, self.evaluate, self.options = spec, evaluate, options or Options()
        self.tree = plant(spec, states, histories, nodes)
        self.ownership = np.zeros((len(states), spec.rows, spec.columns))
        self.judged = np.zeros(len(states), np.int64)
        self._planes = np.empty((0, PLANES, spec.rows, spec.columns), np.float32)
        self._numbers = np.empty((0, NUMBERS), np.float32)

    def step(self, moves: np.ndarray, budget: np.ndarray) -> int:
        """Runs one batch of simulations (see `gather`); returns how many nodes the net judged."""
        most, o = moves.size, self.options
        if len(self._planes) < most:
            self._planes = np.empty((most, *self._planes.shape[1:]), np.float32)
            self._numbers = np.empty((most, NUMBERS), np.float32)
        where = np.empty((most, 2), np.int32)
        n = gather(self.spec, self.tree, moves, budget, o.exploration, o.growth, o.first, o.lead, self._planes,
                   self._numbers, where)
        if n:
            where = where[:n]
            out = self.evaluate(self._planes[:n], self._numbers[:n])
            land(self.tree, where, out.logits, out.chance, out.lead, o.lead)
            tally(self.tree, where, out.ownership, self.ownership, self.judged)
        return n

    def open(self) -> None:
        """Lets the net judge the roots that it has not seen."""
        if (self.tree.kind[:, 0] == WAITING).any():
            self.step(np.full((len(self.judged), 1), -2, np.int32), np.zeros(len(self.judged), np.int32))

    def run(self, simulations: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Runs so many PUCT simulations in each tree, or fewer if `stop()` becomes true between two batches."""
        self.open()
        budget = np.full(len(self.judged), simulations, np.int32)
        while budget.any() and not stop():
            moves = np.full((len(budget), max(1, min(self.options.leaves, int(budget.max())))), -1, np.int32)
            before = int(budget.sum())
            if not self.step(moves, budget) and int(budget.sum()) == before:
                break  # every root has ended

    def root(self, g: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The root's priors (A,), visits (A,) and mean utilities (A,) for the side to move (NaN where unseen)."""
        visits = self.tree.visits[g, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.tree.prior[g, 0], visits, self.tree.total[g, 0, :, 0] / visits
