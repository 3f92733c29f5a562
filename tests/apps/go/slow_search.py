"""Monte-Carlo tree search as one would first write it: objects, recursion, copies. The search is held against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from apps.go import rules
from apps.go.state import OVER, TO_MOVE, Spec


def oracle(key: int, actions: int) -> tuple[np.ndarray, float, float]:
    """An opinion about a position that depends on its key alone: logits, chance to win, lead."""
    rng = np.random.default_rng(key)
    return rng.normal(size=actions).astype(np.float32), float(np.float32(rng.random())), float(np.float32(rng.normal()))


@dataclass
class Node:
    state: np.ndarray
    history: list[int]
    prior: dict[int, float] = field(default_factory=dict)
    children: dict[int, Node] = field(default_factory=dict)
    visits: dict[int, int] = field(default_factory=dict)
    total: dict[int, float] = field(default_factory=dict)
    utility: float = 0.0


def value_of(chance: float, lead: float, weight: float) -> float:
    return 2 * chance - 1 + weight * 2 / math.pi * math.atan(lead / 10)


def judge(spec: Spec, node: Node, weight: float) -> float:
    s = node.state
    if s[OVER]:
        margin = rules.margin(spec, s) * (1 - 2 * int(s[TO_MOVE]))
        return value_of(0.5 + 0.5 * np.sign(margin), margin, weight)
    mask = np.empty(spec.actions, np.int8)
    rules.legal(spec, s, np.array(node.history, np.uint64), len(node.history), mask)
    logits, chance, lead = oracle(node.history[-1], spec.actions)
    weights = {a: math.exp(logits[a]) for a in range(spec.actions) if mask[a]}
    node.prior = {a: w / sum(weights.values()) for a, w in weights.items()}
    node.utility = value_of(chance, lead, weight)
    return node.utility


def simulate(spec: Spec, node: Node, exploration: float, growth: float, first: float, weight: float) -> float:
    """One simulation; returns the utility for the side to move at the node."""
    if node.state[OVER]:
        return judge(spec, node, weight)
    n = sum(node.visits.values())
    unseen = node.utility - first * math.sqrt(sum(node.prior[a] for a in node.visits))
    pull = (exploration + growth * math.log((n + 501) / 500)) * math.sqrt(n + 0.01)

    def score(a: int) -> float:
        k = node.visits.get(a, 0)
        return (node.total[a] / k if k else unseen) + pull * node.prior[a] / (1 + k)

    move = max(node.prior, key=score)
    if move not in node.children:
        s = node.state.copy()
        rules.play(spec, s, move)
        below = node.children[move] = Node(s, [*node.history, int(rules.key(spec, s))])
        value = -judge(spec, below, weight)
    else:
        value = -simulate(spec, node.children[move], exploration, growth, first, weight)
    node.visits[move] = node.visits.get(move, 0) + 1
    node.total[move] = node.total.get(move, 0.0) + value
    return value
