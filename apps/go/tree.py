"""Monte-Carlo tree search: simulate, expand, backward on arrays, for many games at once.

A simulation walks from the root by PUCT (Silver et al. 2017; Rosin 2011) to a move that has no node yet, makes the node
and stops; the net judges all new nodes of a batch together; what it says flows back to the root. While a node waits for
the net, its path counts as lost ("virtual loss"), so that the next simulation of the batch looks elsewhere. A game that
has ended is worth what the rules say, not what the net thinks.

A utility is won minus lost, in -1..1, plus a little for the lead, so that a decided game is still played well; it is
always that of the side to move at the node, and edges hold the mover's. Letters: G games, N nodes, A moves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from apps.go import rules
from apps.go.features import encode
from apps.go.jit import jit, lean
from apps.go.state import OVER, TO_MOVE, Spec

WAITING, OPEN, ENDED = 0, 1, 2
"""A node waits for the net, has been judged, or ends the game."""


class Tree(NamedTuple):
    """G search trees; node 0 is the root, and 0 as a child means none."""

    states: np.ndarray
    """(G, N, L) int16."""
    kind: np.ndarray
    """(G, N) int8: WAITING, OPEN or ENDED."""
    keys: np.ndarray
    """(G, N) uint64, as a history keeps them."""
    parent: np.ndarray
    """(G, N) int32."""
    came: np.ndarray
    """(G, N) int16: the parent's move that leads here."""
    judged: np.ndarray
    """(G, N, 3) float32: utility, chance to win, lead, as net or rules judge the node for its side to move."""
    child: np.ndarray
    """(G, N, A) int32."""
    prior: np.ndarray
    """(G, N, A) float32; -1 marks an illegal move."""
    visits: np.ndarray
    """(G, N, A) int32."""
    pending: np.ndarray
    """(G, N, A) int16: simulations under way."""
    total: np.ndarray
    """(G, N, A, 3) float32: sums of utility, chance and lead for the side that moves."""
    size: np.ndarray
    """(G,) int32: nodes in use."""
    history: np.ndarray
    """(G, H) uint64: the keys of the games so far, with room for the path that is looked at."""
    known: np.ndarray
    """(G,) int32: keys in use, the root's the last."""


def plant(spec: Spec, states: np.ndarray, histories: list[np.ndarray], nodes: int, moves: int = 0) -> Tree:
    """Makes trees with one unjudged root each.

    Args:
        states: (G, L) int16.
        histories: for each game the keys of its positions, the present one the last.
        nodes: how many nodes a tree may get.
        moves: how often it may be replanted.
    """
    games, n, a = len(states), nodes, spec.actions
    longest = max(len(h) for h in histories)
    history = np.zeros((games, longest + n + 1 + moves), np.uint64)
    for row, keys in zip(history, histories, strict=True):
        row[: len(keys)] = keys
    tree = Tree(
        np.zeros((games, n, spec.length), np.int16), np.zeros((games, n), np.int8), np.zeros((games, n), np.uint64),
        np.zeros((games, n), np.int32), np.full((games, n), -1, np.int16), np.zeros((games, n, 3), np.float32),
        np.zeros((games, n, a), np.int32), np.full((games, n, a), -1, np.float32), np.zeros((games, n, a), np.int32),
        np.zeros((games, n, a), np.int16), np.zeros((games, n, a, 3), np.float32), np.ones(games, np.int32), history,
        np.array([len(h) for h in histories], np.int32))
    tree.states[:, 0] = states
    tree.keys[:, 0] = [h[-1] for h in histories]
    return tree


@lean
def select(tree: Tree, g: int, node: int, exploration: float, growth: float, first: float, forced: float) -> int:
    """The move that PUCT takes at an open node; of the root's, one with fewer than sqrt(forced P N) visits, if it has
    been seen (KataGo's forced playouts, section 3.2)."""
    prior, total = tree.prior[g, node], tree.total[g, node]
    visits, pending = tree.visits[g, node], tree.pending[g, node]
    n, seen = 0, 0.0
    for a in range(len(prior)):
        if visits[a] + pending[a] > 0:
            n += visits[a] + pending[a]
            seen += prior[a]
    unseen = tree.judged[g, node, 0] - first * np.sqrt(seen)
    pull = (exploration + growth * np.log((n + 501.0) / 500.0)) * np.sqrt(n + 0.01)
    best, choice = -np.inf, -1
    for a in range(len(prior)):
        if prior[a] >= 0:
            k, score = visits[a] + pending[a], unseen + pull * prior[a]
            if k:
                score = (total[a, 0] - pending[a]) / k + pull * prior[a] / (1 + k)
                if node == 0 and k < np.sqrt(forced * prior[a] * n):
                    score += 1e6
            if score > best:
                best, choice = score, a
    return choice


@jit
def simulate(spec: Spec, tree: Tree, g: int, move: int, mask: np.ndarray, exploration: float, growth: float,
             first: float, lead: float, forced: float) -> int:
    """Walks to a new node of game g, beginning with a move of the root (-1: PUCT's), and makes it.

    Returns:
        The new node, which waits for the net; or -1 if the game has ended there, and the result has flowed back; or -2
        if the walk came to a node that already waits, or the tree is full, and nothing has changed.
    """
    new = _descend(spec, tree, g, move, exploration, growth, first, forced)
    if new < 0:
        return new
    if tree.states[g, new, OVER]:
        judge_end(spec, tree.states[g, new], lead, tree.judged[g, new])
        tree.kind[g, new] = ENDED
        backward(tree, g, new)
        return -1
    legal(spec, tree, g, new, mask)
    return new


@lean
def _descend(spec: Spec, tree: Tree, g: int, move: int, exploration: float, growth: float, first: float,
             forced: float) -> int:
    """Walks to a new node and makes it, but for its judgement and its moves; else -1 or -2 as `simulate`."""
    node = 0
    while True:
        a = move if node == 0 and move >= 0 else select(tree, g, node, exploration, growth, first, forced)
        tree.pending[g, node, a] += 1
        below = tree.child[g, node, a]
        if below == 0:
            break
        node = below
        if tree.kind[g, node] == ENDED:
            backward(tree, g, node)
            return -1
        if tree.kind[g, node] == WAITING:
            _retreat(tree, g, node)
            return -2
    new = tree.size[g]
    if new == tree.states.shape[1]:
        tree.pending[g, node, a] -= 1
        _retreat(tree, g, node)
        return -2
    tree.size[g] = new + 1
    tree.child[g, node, a] = new
    tree.parent[g, new], tree.came[g, new] = node, a
    s, before = tree.states[g, new], tree.states[g, node]
    for i in range(spec.length):
        s[i] = before[i]
    rules.play(spec, s, a)
    tree.keys[g, new] = rules.key(spec, s)
    return new


@lean
def legal(spec: Spec, tree: Tree, g: int, node: int, mask: np.ndarray) -> None:
    """Finds the legal moves of a node, with the path from the root as the end of its history; marks the others."""
    depth, above = 0, node
    while above:
        depth += 1
        above = tree.parent[g, above]
    count, above = tree.known[g] + depth, node
    for i in range(depth):
        tree.history[g, count - 1 - i] = tree.keys[g, above]
        above = tree.parent[g, above]
    rules.legal(spec, tree.states[g, node], tree.history[g], count, mask)
    prior = tree.prior[g, node]
    for a in range(spec.actions):
        prior[a] = 0 if mask[a] else -1


@jit
def judge_end(spec: Spec, s: np.ndarray, lead: float, judged: np.ndarray) -> None:
    """What the rules say of a game that has ended, for the side to move."""
    margin = rules.margin(spec, s)
    if s[TO_MOVE] == 1:
        margin = -margin
    judged[1] = 1.0 if margin > 0 else 0.0 if margin < 0 else 0.5
    judged[2] = margin
    judged[0] = utility(judged[1], margin, lead)


@lean
def utility(chance: float, lead: float, weight: float) -> float:
    """Won minus lost, and a little for the lead, which saturates like KataGo's score utility."""
    return 2 * chance - 1 + weight * 2 / np.pi * np.arctan(lead / 10)


@lean
def _retreat(tree: Tree, g: int, node: int) -> None:
    """Takes a simulation under way back, from a node up."""
    while node:
        tree.pending[g, tree.parent[g, node], tree.came[g, node]] -= 1
        node = tree.parent[g, node]


@lean
def backward(tree: Tree, g: int, node: int) -> None:
    """Lets what was judged of a node flow to the root, changing sides at each move."""
    u, chance, lead = tree.judged[g, node, 0], tree.judged[g, node, 1], tree.judged[g, node, 2]
    while node:
        above, a = tree.parent[g, node], tree.came[g, node]
        u, chance, lead = -u, 1 - chance, -lead
        tree.pending[g, above, a] -= 1
        tree.visits[g, above, a] += 1
        tree.total[g, above, a, 0] += u
        tree.total[g, above, a, 1] += chance
        tree.total[g, above, a, 2] += lead
        node = above


@lean
def expand(tree: Tree, g: int, node: int, logits: np.ndarray, chance: float, lead: float, weight: float) -> None:
    """Opens a node that waited: its priors are the softmax of the logits (A,) over its legal moves."""
    prior = tree.prior[g, node]
    top, total = -np.inf, 0.0
    for a in range(len(prior)):
        if prior[a] >= 0 and logits[a] > top:
            top = logits[a]
    for a in range(len(prior)):
        if prior[a] >= 0:
            prior[a] = np.exp(logits[a] - top)
            total += prior[a]
    for a in range(len(prior)):
        if prior[a] >= 0:
            prior[a] /= total
    tree.judged[g, node, 0] = utility(chance, lead, weight)
    tree.judged[g, node, 1], tree.judged[g, node, 2] = chance, lead
    tree.kind[g, node] = OPEN


@jit
def gather(spec: Spec, tree: Tree, moves: np.ndarray, budget: np.ndarray, exploration: float, growth: float,
           first: float, lead: float, forced: float, planes: np.ndarray, numbers: np.ndarray, where: np.ndarray) -> int:
    """Runs up to moves.shape[1] simulations in each game that has budget; lists the nodes that wait for the net.

    Args:
        moves: (G, K) int32 moves of the root to begin with; -1 leaves it to PUCT, -2 runs none.
        budget: (G,) int32 simulations left; it is lowered by those that were run.
        planes, numbers: (G K, ...) are filled for each waiting node.
        where: (G K, 2) int32 is filled with its game and number.

    Returns:
        How many nodes wait.
    """
    mask = np.empty(spec.actions, np.int8)
    waiting = 0
    for g in range(moves.shape[0]):
        if tree.kind[g, 0] == ENDED:
            continue
        if tree.kind[g, 0] == WAITING:
            legal(spec, tree, g, 0, mask)
            encode(spec, tree.states[g, 0], mask, planes[waiting], numbers[waiting])
            where[waiting, 0], where[waiting, 1] = g, 0
            waiting += 1
            continue
        for k in range(moves.shape[1]):
            if budget[g] <= 0 or moves[g, k] == -2:
                break
            node = simulate(spec, tree, g, moves[g, k], mask, exploration, growth, first, lead, forced)
            if node == -2:
                if tree.size[g] == tree.states.shape[1]:
                    budget[g] = 0
                break
            budget[g] -= 1
            if node >= 0:
                encode(spec, tree.states[g, node], mask, planes[waiting], numbers[waiting])
                where[waiting, 0], where[waiting, 1] = g, node
                waiting += 1
    return waiting


@lean
def land(tree: Tree, where: np.ndarray, logits: np.ndarray, chance: np.ndarray, lead: np.ndarray,
         weight: float) -> None:
    """Expands all nodes that waited and lets them flow back."""
    for i in range(len(where)):
        g, node = where[i, 0], where[i, 1]
        expand(tree, g, node, logits[i], chance[i], lead[i], weight)
        backward(tree, g, node)


@lean
def tally(tree: Tree, where: np.ndarray, ownership: np.ndarray, sums: np.ndarray, judged: np.ndarray) -> None:
    """Adds what was thought of the points (B, H, W), each for its side to move, to sums (G, H, W) for the first."""
    for i in range(len(where)):
        g = where[i, 0]
        sign = 1 - 2 * tree.states[g, where[i, 1], TO_MOVE]
        judged[g] += 1
        for row in range(sums.shape[1]):
            for column in range(sums.shape[2]):
                sums[g, row, column] += sign * ownership[i, row, column]
