"""Self-play: what is learned from a game, trees that go on, and pieces of work that repeat."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from apps.go import data, games, selfplay
from apps.go.boards import Boards
from apps.go.data import Sample
from apps.go.loss import Optimise, loss_fn
from apps.go.model import ModelConfig, Net, Output
from apps.go.search import Judged, Options, Search, pruned
from apps.go.state import spec
from core import card

FOUR = spec("connect4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The content of a weights file of an untrained net, by game."""
    def make(game):
        torch.manual_seed(0)
        config = ModelConfig(game=game, blocks=2, channels=16, head=8)
        path = tmp_path_factory.mktemp("net") / "go.safetensors"
        model = {"game": game, "blocks": 2, "channels": 16, "pool_every": 2, "head": 8}
        card.write(path, Net(config).state_dict(), card.Card(app="go", model=model))
        return path.read_bytes()

    return {game: make(game) for game in ("connect4", "go")}


def uniform(planes, numbers):
    """An evaluator that likes all moves alike, and a position by what is on it."""
    b, (h, w) = len(planes), planes.shape[-2:]
    moves = 7 if (h, w) == (6, 7) else h * w + 1
    chance = 0.5 + 0.4 * np.sin(planes.reshape(b, -1) @ np.arange(planes[0].size, dtype=np.float32))
    return Judged(np.zeros((b, moves), np.float32), chance.astype(np.float32), np.zeros(b, np.float32),
                  np.zeros((b, h, w), np.float32))


def grown(board, simulations, *, moves=4, games=1, **options):
    boards = Boards(board, games)
    search = Search(board, boards.states, boards.histories(np.arange(games)), uniform, simulations + 102,
                    Options(**options), moves=moves)
    search.run(simulations)
    return search


def copied(tree, node):
    """A subtree as nested tuples: all there is to know of a node, then its children by move."""
    return (tree.states[0, node].tobytes(), int(tree.kind[0, node]), int(tree.keys[0, node]),
            tree.judged[0, node].tobytes(), tree.prior[0, node].tobytes(), tree.visits[0, node].tobytes(),
            tree.pending[0, node].tobytes(), tree.total[0, node].tobytes(),
            {a: copied(tree, c) for a, c in enumerate(tree.child[0, node].tolist()) if c})


def size_of(tree):
    return 1 + sum(map(size_of, tree[-1].values()))


@pytest.mark.parametrize("board", [FOUR, spec("go", 3, komi=0.5), spec("go", (2, 3))])
def test_the_tree_goes_on_as_the_subtree_that_it_was(board):
    """After each move the replanted tree is, node by node, a copy of the subtree, and what is free is clear."""
    search = grown(board, 400)
    for _ in range(4):
        tree = search.tree
        move = int(tree.visits[0, 0].argmax())
        if not tree.visits[0, 0, move]:
            break  # the game has ended
        before = copied(tree, int(tree.child[0, 0, move]))
        history = [*tree.history[0, : tree.known[0]], before[2]]
        search.advance(np.array([move]))
        assert copied(tree, 0) == before
        assert tree.size[0] == size_of(before)
        for node in range(1, tree.size[0]):
            assert tree.child[0, tree.parent[0, node], tree.came[0, node]] == node
        assert tree.history[0, : tree.known[0]].tolist() == history
        rest = slice(int(tree.size[0]), None)
        assert not tree.child[0, rest].any()
        assert not tree.visits[0, rest].any()
        assert not tree.total[0, rest].any()
        assert (tree.prior[0, rest] == -1).all()
        search.run(100)


def test_a_move_that_was_never_seen_begins_a_new_tree():
    search = grown(FOUR, 1)
    unseen = int(np.flatnonzero(search.tree.child[0, 0] == 0)[0])
    search.advance(np.array([unseen]))
    boards = Boards(FOUR, 1)
    boards.play(0, unseen)
    assert np.array_equal(search.tree.states[0, 0], boards.states[0])
    assert search.tree.size[0] == 1
    search.run(50)
    assert search.tree.visits[0, 0].sum() == 50


def test_forced_playouts_are_made_and_taken_back():
    """Each move that was seen has sqrt(2 P N) visits; pruning gives the best more than its share of visits."""
    plain, forced = grown(FOUR, 300, leaves=1), grown(FOUR, 300, leaves=1, forced=2.0)
    prior, visits, q = forced.root()
    assert (visits + 1 >= np.floor(np.sqrt(2 * prior * visits.sum()))).all()
    assert visits.min() > plain.root()[1].min()
    target = pruned(prior, visits, q, forced.options)
    assert target.sum() == pytest.approx(1)
    assert target.argmax() == visits.argmax()
    assert target.max() > visits.max() / visits.sum()


def test_pruning_by_hand():
    """N = 100, pull = 1.1 sqrt(100.01) = 11.0: best scores 0.5 + 11 * 0.4 / 61 = 0.572; b: sqrt(2 * 0.4 * 100) = 9
    forced, fewest 11 * 0.4 / (0.572 - 0.2) - 1 = 10.8; c: 8 forced of 10, fewest 11 * 0.2 / 1.072 - 1 = 1.05."""
    prior = np.array([0.4, 0.4, 0.2, -1], np.float32)
    visits, q = np.array([60, 30, 10, 0]), np.array([0.5, 0.2, -0.5, np.nan])
    kept = pruned(prior, visits, q, Options(growth=0.0, forced=2.0)) * (60 + 21 + 3)
    assert kept == pytest.approx([60, 21, 3, 0])
    visits = np.array([60, 30, 3, 0])
    kept = pruned(prior, visits, q, Options(growth=0.0, forced=2.0))
    assert kept[2] == 0, "one visit is left of three, and is taken too"
    plain = pruned(prior, np.array([60, 30, 10, 0]), q, Options(forced=0.0))
    assert plain == pytest.approx([0.6, 0.3, 0.1, 0])


@pytest.mark.parametrize("target", ["gumbel", "puct"])
@pytest.mark.parametrize("game", ["connect4", "go"])
def test_a_piece_of_work_is_a_function_of_its_seed_and_its_games_are_legal(weights, game, target):
    board = FOUR if game == "connect4" else spec("go", 4, komi=0.5, suicide=False)
    play = selfplay.Play(games=6, simulations=12, cheap=6, full=0.5, considered=4, opening=3, target=target)
    piece = selfplay.Piece(0, 1, 5, board, play, 0, weights[game])
    one, two = selfplay.play(piece), selfplay.play(piece)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    other = selfplay.play(replace(piece, seed=6))
    assert not np.array_equal(one["moves"], other["moves"])
    boards = Boards(board, 6)
    for g, line in enumerate(one["moves"]):
        for move in line[line != -2]:
            assert move in boards.legal(g)
            boards.play(g, int(move))
    assert not boards.going.any()
    assert np.array_equal(boards.margins(), one["margin"])
    assert len(one["game"]) == len(one["ply"]) == len(one["value"]) > 0
    assert (one["policy"].sum(1) / 65535) == pytest.approx(1, abs=1e-3)
    assert ((one["value"] >= 0) & (one["value"] <= 1)).all()


def test_a_symmetric_evaluator_turns_the_answer_back(weights):
    """An evaluator that says where the stones are says so in every symmetry."""
    board = spec("go", 3)

    def points(planes, numbers):
        own = planes[:, 1].reshape(len(planes), -1)
        return Judged(np.append(own, np.full((len(own), 1), 7), 1), own.sum(1), own.sum(1), planes[:, 1].copy())

    planes = np.random.default_rng(0).random((5, 18, 3, 3)).astype(np.float32)
    look = selfplay.turned(points, board, np.random.default_rng(1))
    for _ in range(20):
        said, plain = look(planes, np.zeros((5, 8))), points(planes, None)
        for name in ("logits", "chance", "ownership"):
            assert getattr(said, name) == pytest.approx(getattr(plain, name))


def finished(margin, owner, **more):
    """A file's content: one game of three moves, searched before the first and the third."""
    return {"moves": np.array([[3, 3, 2, -2]], np.int16), "komi": np.zeros(1, np.float32),
            "margin": np.array([margin], np.float32), "owner": np.array([owner], np.int8), "game": np.array([0, 0]),
            "ply": np.array([0, 1], np.int16), "policy": np.full((2, 7), 9362, np.uint16),
            "value": np.array([0.8, 0.4], np.float32), "simulations": np.int64(9), "digest": np.array("x"), **more}


def test_targets_are_the_end_of_the_game_mixed_with_the_search(tmp_path):
    for i, margin in enumerate((1, -1, 0)):
        games.write(tmp_path / f"{i}.npz", finished(margin, [0] * 42))
    p = games.window([tmp_path / f"{i}.npz" for i in range(3)], FOUR, 0.25)
    assert p.game.tolist() == [0, 0, 1, 1, 2, 2]
    #        won by the first: 0.75 * 1 + 0.25 * 0.8, 0.75 * 0 + 0.25 * 0.4; lost; drawn
    assert p.winrate == pytest.approx([0.95, 0.10, 0.20, 0.85, 0.575, 0.475])
    assert p.drawn == pytest.approx([0, 0, 0, 0, 0.75, 0.75])
    sample = Sample(p, augment=False)(1, np.random.default_rng(0))
    assert sample["planes"][2, 5, 3] == 1, "the first player's stone is the other's now"
    assert sample["scored"] == 0
    assert sample["move"] == 7, "a search is learned, not the move that noise chose"
    mirrored = {Sample(p)(0, np.random.default_rng(s))["planes"].numpy().tobytes() for s in range(20)}
    assert len(mirrored) == 1, "an empty board looks alike in the mirror"


def test_go_is_scored_from_the_side_to_move(tmp_path):
    board = spec("go", 2)
    games.write(tmp_path / "a.npz", finished(3.5, [1, 1, -1, 0], policy=np.full((2, 5), 13107, np.uint16),
                                             moves=np.array([[0, 1, 3, 4]], np.int16)))
    p = games.window([tmp_path / "a.npz"], board, 0.0)
    assert p.winrate.tolist() == [1, 0]
    assert p.lead.tolist() == [3.5, -3.5]
    assert p.ownership.tolist() == [[15, 15, -15, 0], [-15, -15, 15, 0]]
    assert not p.drawn.any()


def test_the_archive_takes_its_share(tmp_path):
    """Samples of both kinds stack into one batch, in the share that was asked for."""
    board = spec("go", 9)
    moves = np.full((1, 4), -2, np.int16)
    moves[0, :2] = 3, 4
    games.write(tmp_path / "a.npz", finished(3.0, [0] * 81, moves=moves, policy=np.full((2, 82), 799, np.uint16)))
    own = Sample(games.window([tmp_path / "a.npz"], board, 0.0))
    mixture = games.Mixture(own, Sample(data.read(data.SAMPLE, "train")), 0.25)
    rows = [mixture(i % 2, np.random.default_rng(i)) for i in range(400)]
    batch = torch.utils.data.default_collate(rows)
    assert batch["planes"].shape == (400, 18, 9, 9)
    assert 0.15 < (batch["move"] < 82).float().mean() < 0.35, "only the archive says what was played"


def test_a_drawn_game_teaches_the_third_class():
    """The value's loss of one drawn, one won position, for logits of log(0.2), log(0.3), log(0.5)."""
    class Fixed(torch.nn.Module):
        def forward(self, planes, numbers):
            value = torch.tensor([[0.2, 0.3, 0.5]]).log().repeat(2, 1)
            return Output(torch.zeros(2, 2, 7), value, torch.ones(2), torch.ones(2, 6, 7))

    batch = {"planes": torch.zeros(2, 18, 6, 7), "numbers": torch.zeros(2, 8), "legal": torch.ones(2, 7) > 0,
             "policy": torch.full((2, 7), 1 / 7), "move": torch.tensor([7, 7]), "winrate": torch.tensor([0.5, 1.0]),
             "drawn": torch.tensor([1.0, 0.0]), "lead": torch.zeros(2), "ownership": torch.zeros(2, 6, 7),
             "scored": torch.zeros(2)}
    _, parts = loss_fn(Optimise())(Fixed(), batch)
    assert parts["value"].item() == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2, abs=1e-6)
    assert parts["score"].item() == parts["ownership"].item() == 0


def test_random_openings_are_legal_and_open():
    boards = Boards(FOUR, 50)
    for g in range(50):
        boards.scatter(g, 30, np.random.default_rng(g))
    assert boards.going.all()
    assert len(np.unique(boards.moves, axis=0)) == 50
