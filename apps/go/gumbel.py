"""Planning with Gumbel at the root: a choice that improves the policy even with a handful of simulations.

"Policy improvement by planning with Gumbel" (Danihelka et al. 2022, ICLR). Below the root it is PUCT that walks, where
the paper has a deterministic policy of its own.
"""

from __future__ import annotations

import numpy as np

from apps.go.search import Search
from apps.go.tree import ENDED

VISIT, SCALE = 50.0, 0.5
"""c_visit and c_scale of equation 8; the latter half the paper's, for utilities lie in -1..1 and not 0..1."""


def improved(prior: np.ndarray, visits: np.ndarray, q: np.ndarray, value: float) -> np.ndarray:
    """The policy that a search has improved, softmax(logits + sigma(completed q)) of equation 11: self-play's target.

    Moves that were not visited are given the mixed value of the paper's appendix D.

    Args:
        prior: (A,) of the root, negative where illegal.
        visits, q: (A,) of the root's moves, q in -1..1.
        value: what the net thought of the root.
    """
    legal, seen = prior >= 0, visits > 0
    mixed = value
    if seen.any():
        found = float((prior[seen] * q[seen]).sum() / max(prior[seen].sum(), 1e-9))
        mixed = (value + visits.sum() * found) / (1 + visits.sum())
    score = np.log(np.maximum(prior, 1e-9)) + sigma(np.where(seen, q, mixed), visits)
    weights = np.where(legal, np.exp(score - score[legal].max()), 0.0)
    return weights / weights.sum()


def sigma(q: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """(c_visit + max N) c_scale q, over the last axis."""
    return (VISIT + visits.max(-1, keepdims=True)) * SCALE * q


def halving(search: Search, simulations: int, considered: int, rng: np.random.Generator) -> np.ndarray:
    """Chooses a move in each tree by Gumbel noise and sequential halving (the paper's algorithm 2).

    Of the `considered` moves with the largest noisy logits each gets the same number of simulations, the better half
    of them again, and so on until the simulations are spent.

    Returns:
        (G,) moves, -1 where the game has ended.
    """
    search.open()
    tree = search.tree
    prior = tree.prior[:, 0]
    noisy = np.where(prior >= 0, np.log(np.maximum(prior, 1e-9)) + rng.gumbel(size=prior.shape), -np.inf)
    m = max(1, min(considered, prior.shape[1], simulations))
    order = np.argsort(-noisy, axis=1, kind="stable")[:, :m].astype(np.int32)
    order[~np.take_along_axis(prior >= 0, order, 1) | (tree.kind[:, :1] == ENDED)] = -2  # these are the last ones
    phases = max(1, int(np.ceil(np.log2(m))))
    left = simulations
    while left >= m:
        for _ in range(max(1, simulations // (phases * m))):
            if left >= m:
                search.step(order, np.full(len(order), m, np.int32))
                left -= m
        order = _ranked(search, noisy, order)[:, : max(1, (m + 1) // 2)]
        m = order.shape[1]
    best = _ranked(search, noisy, order)[:, 0]
    return np.where(best == -2, -1, best)


def _ranked(search: Search, noisy: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The considered moves (G, m), those with the best noisy logit plus what was found first."""
    visits = search.tree.visits[:, 0]
    q = search.tree.total[:, 0, :, 0] / np.maximum(visits, 1)
    worth = np.take_along_axis(noisy + sigma(q, visits), np.maximum(order, 0), 1)
    return np.take_along_axis(order, np.argsort(np.where(order >= 0, -worth, np.inf), axis=1, kind="stable"), 1)
