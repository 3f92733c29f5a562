"""The tree against a slow one, against rules it must keep, and against positions whose value is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.go import rules
from apps.go.gumbel import halving, improved
from apps.go.search import Judged, Options, Search
from apps.go.state import spec
from apps.go.tree import ENDED, OPEN
from tests.apps.go import slow_search

STORED = Path(__file__).parent / "tree_3x3.json"


class ByKey:
    """The slow search's oracle as an evaluator: it is told the keys of the nodes that wait, in their order."""

    def __init__(self, actions, shape):
        self.actions, self.shape, self.search = actions, shape, None

    def __call__(self, planes, numbers):
        tree = self.search.tree
        waiting = [(g, n) for g in range(len(tree.size)) for n in range(tree.size[g]) if tree.kind[g, n] == 0]
        rows = [slow_search.oracle(int(tree.keys[g, n]), self.actions) for g, n in waiting]
        assert len(rows) == len(planes)
        return Judged(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows], np.float32),
                      np.array([r[2] for r in rows], np.float32), np.zeros((len(rows), *self.shape), np.float32))


def uniform(planes, numbers):
    b, (h, w) = len(planes), planes.shape[-2:]
    return Judged(np.zeros((b, h * w + 1), np.float32), np.full(b, 0.5, np.float32), np.zeros(b, np.float32),
                  np.zeros((b, h, w), np.float32))


def begin(size, *, komi=0.0, evaluate=uniform, nodes=1000, games=1, options=None, moves=(), **more):
    s_spec = spec("go", size, komi=komi, **more)
    s = rules.new(s_spec)
    keys = [rules.key(s_spec, s)]
    for move in moves:
        rules.play(s_spec, s, move)
        keys.append(rules.key(s_spec, s))
    search = Search(s_spec, np.stack([s] * games), [np.array(keys, np.uint64)] * games, evaluate, nodes, options)
    if isinstance(evaluate, ByKey):
        evaluate.search = search
    return search


def slow(search, simulations):
    o, tree = search.options, search.tree
    root = slow_search.Node(tree.states[0, 0].copy(), [int(k) for k in tree.history[0, : tree.known[0]]])
    slow_search.judge(search.spec, root, o.lead)
    for _ in range(simulations):
        slow_search.simulate(search.spec, root, o.exploration, o.growth, o.first, o.lead)
    return root


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 4), (5, 5)])
@pytest.mark.parametrize("komi", [0.0, 2.5])
def test_one_leaf_at_a_time_the_tree_is_that_of_the_slow_search(size, komi):
    actions = size[0] * size[1] + 1
    search = begin(size, komi=komi, evaluate=ByKey(actions, size), options=Options(leaves=1))
    search.run(300)
    root = slow(search, 300)

    def compare(node, number):
        tree = search.tree
        assert {a: int(tree.visits[0, number, a]) for a in np.flatnonzero(tree.visits[0, number])} == node.visits
        for a, below in node.children.items():
            assert tree.total[0, number, a, 0] == pytest.approx(node.total[a], abs=1e-3)
            compare(below, int(tree.child[0, number, a]))

    compare(root, 0)


def as_json(node, depth=2):
    return {"visits": {str(a): v for a, v in sorted(node.visits.items())},
            "below": {str(a): as_json(below, depth - 1) for a, below in sorted(node.children.items()) if depth}}


def test_a_small_tree_is_what_it_was():
    """A change of the search that was not meant shows here; `python -m tests.apps.go.test_search` writes the file."""
    search = begin(3, evaluate=ByKey(10, (3, 3)), options=Options(leaves=1))
    search.run(60)
    stored = json.loads(STORED.read_text())

    def compare(node, number):
        seen = np.flatnonzero(search.tree.visits[0, number])
        assert {str(a): int(search.tree.visits[0, number, a]) for a in seen} == node["visits"]
        for a, below in node["below"].items():
            compare(below, int(search.tree.child[0, number, int(a)]))

    compare(stored, 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 16), st.integers(1, 3), st.integers(0, 200),
       st.sampled_from([0.0, 0.5, 7.0]))
def test_what_a_tree_must_keep(rows, columns, leaves, games, simulations, komi):
    search = begin((rows, columns), komi=komi, games=games, options=Options(leaves=leaves), nodes=150)
    search.run(simulations)
    tree = search.tree
    assert not tree.pending.any()
    for g in range(games):
        n = int(tree.size[g])
        assert set(tree.kind[g, :n].tolist()) <= {OPEN, ENDED}
        assert int(tree.visits[g, 0].sum()) <= simulations
        if n < 150:
            assert int(tree.visits[g, 0].sum()) == simulations
        for node in range(1, n):
            above, a = int(tree.parent[g, node]), int(tree.came[g, node])
            assert tree.child[g, above, a] == node
            assert tree.prior[g, above, a] >= 0
            through = int(tree.visits[g, above, a])
            if tree.kind[g, node] == OPEN:  # once when it was made, and once for each walk below
                assert through == 1 + int(tree.visits[g, node].sum())
            # what an edge holds is what its node was worth and all below it, from the other side
            below = tree.total[g, node, :, 0].sum() + tree.judged[g, node, 0] * (through - tree.visits[g, node].sum())
            assert tree.total[g, above, a, 0] == pytest.approx(-below, abs=1e-2)
        opened = tree.prior[g, :n][tree.kind[g, :n] == OPEN]
        assert np.where(opened >= 0, opened, 0).sum(1) == pytest.approx(np.ones(len(opened)), abs=1e-5)


def test_games_side_by_side_are_the_game_alone():
    alone, many = begin(4), begin(4, games=5)
    for search in (alone, many):
        search.run(120)
    for g in range(5):
        assert np.array_equal(many.tree.visits[g], alone.tree.visits[0])


def test_values_that_are_known():
    """Tromp-Taylor by hand: 1x2 is nobody's; on 1x3 the middle takes all three points."""
    for size, best, lead in (((1, 2), 2, 0.0), ((1, 3), 1, 3.0)):
        search = begin(size, nodes=20_001, options=Options(leaves=1))
        search.run(20_000)
        _, visits, _ = search.root()
        assert int(visits.argmax()) == best
        assert search.tree.total[0, 0, best, 2] / visits[best] == pytest.approx(lead, abs=0.1)


def test_a_won_game_is_ended_by_the_pass_that_wins_it():
    """5x5, black owns everything and white has passed: to pass ends it with 25 points."""
    board = [7, 25, 11, 25, 12, 25, 13, 25, 17, 25]
    search = begin(5, komi=0.5, moves=board, nodes=500)
    search.run(400)
    _, visits, q = search.root()
    assert int(visits.argmax()) == 25
    assert q[25] > 0.99


def test_a_search_may_be_stopped_and_its_tree_may_be_full():
    search = begin(9, nodes=40)
    search.run(10_000)
    assert int(search.tree.size[0]) == 40
    assert not search.tree.pending.any()
    stopped = begin(9)
    stopped.run(500, iter([False, False, True]).__next__)
    assert int(stopped.tree.visits[0, 0].sum()) == 2 * stopped.options.leaves


@pytest.mark.parametrize("considered", [1, 2, 7, 16, 200])
def test_gumbel_spends_its_simulations_on_ever_fewer_moves(considered):
    search = begin(5, evaluate=ByKey(26, (5, 5)), nodes=200)
    move = halving(search, 64, considered, np.random.default_rng(0))
    _, visits, _ = search.root()
    assert int(visits.sum()) <= 64
    assert (visits > 0).sum() <= considered
    assert visits[move[0]] == visits.max()
    again = begin(5, evaluate=ByKey(26, (5, 5)), nodes=200)
    assert halving(again, 64, considered, np.random.default_rng(0)) == move


@given(st.integers(0, 10_000))
def test_an_improved_policy_improves(seed):
    """The paper's theorem: under the improved policy the expected q is no less than under the prior."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(8)).astype(np.float32)
    prior[rng.integers(8)] = -1
    q, visits = rng.uniform(-1, 1, 8), rng.integers(1, 9, 8) * (prior >= 0)
    better = improved(prior, visits, q, 0.0)
    assert better.sum() == pytest.approx(1)
    assert better[prior < 0].sum() == 0
    before = np.maximum(prior, 0) / np.maximum(prior, 0).sum()
    assert (better * q).sum() >= (before * q).sum() - 1e-6


if __name__ == "__main__":
    found = slow(begin(3, evaluate=ByKey(10, (3, 3)), options=Options(leaves=1)), 60)
    STORED.write_text(json.dumps(as_json(found), indent=1) + "\n")
