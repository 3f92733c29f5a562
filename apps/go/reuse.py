"""A tree that goes on after a move: what was thought below it is kept."""

from __future__ import annotations

import numpy as np

from apps.go import rules
from apps.go.jit import jit
from apps.go.state import OVER, Spec
from apps.go.tree import ENDED, WAITING, Tree


@jit
def replant(spec: Spec, tree: Tree, g: int, move: int) -> None:
    """Plays a legal move at the root: the subtree below it becomes the tree, the rest is cleared for new nodes.

    Nodes keep their order, so that each moves down or stays; nothing may be under way.
    """
    old = tree.size[g]
    root = tree.child[g, 0, move]
    if root == 0:  # never looked at: an unjudged root
        rules.play(spec, tree.states[g, 0], move)
        tree.keys[g, 0] = rules.key(spec, tree.states[g, 0])
        tree.kind[g, 0] = ENDED if tree.states[g, 0, OVER] else WAITING
        kept = 1
        _clear(tree, g, 0)
    else:
        place = np.full(old, -1, np.int32)
        place[root] = 0
        kept = 1
        for node in range(root + 1, old):
            if place[tree.parent[g, node]] >= 0:
                place[node] = kept
                kept += 1
        for node in range(root, old):
            new = place[node]
            if new < 0:
                continue
            tree.states[g, new], tree.kind[g, new] = tree.states[g, node], tree.kind[g, node]
            tree.keys[g, new], tree.judged[g, new] = tree.keys[g, node], tree.judged[g, node]
            tree.parent[g, new], tree.came[g, new] = place[tree.parent[g, node]], tree.came[g, node]
            for a in range(spec.actions):
                below = tree.child[g, node, a]
                tree.child[g, new, a] = place[below] if below else 0
                tree.prior[g, new, a], tree.visits[g, new, a] = tree.prior[g, node, a], tree.visits[g, node, a]
                tree.pending[g, new, a] = 0
                tree.total[g, new, a] = tree.total[g, node, a]
        tree.parent[g, 0], tree.came[g, 0] = 0, -1
    for node in range(kept, old):
        tree.kind[g, node] = WAITING
        _clear(tree, g, node)
    tree.size[g] = kept
    tree.history[g, tree.known[g]] = tree.keys[g, 0]
    tree.known[g] += 1


@jit
def _clear(tree: Tree, g: int, node: int) -> None:
    tree.child[g, node], tree.visits[g, node], tree.pending[g, node] = 0, 0, 0
    tree.prior[g, node], tree.total[g, node] = -1, 0
