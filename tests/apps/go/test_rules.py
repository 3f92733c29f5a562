"""The rules against a slow reference, exact counts, and the traps of superko."""

import random

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.go import rules
from apps.go import state as codes
from apps.go.state import GO, KO, NAMES, OVER, PASSES, PRISONERS, TO_MOVE, WINNER, spec, zobrist
from tests.apps.go import reference
from tests.apps.go.playing import Playing, reachable

KINDS = {"none": codes.NO_KO, "simple": codes.SIMPLE, "positional": codes.SUPERKO, "situational": codes.SITUATIONAL}
WORDS = {"": codes.FREE, "occupied": codes.OCCUPIED, "suicide": codes.SUICIDE, "ko": codes.BY_KO,
         "superko": codes.BY_SUPERKO}
games = settings(deadline=None, max_examples=40, derandomize=True)

HASHES: dict[tuple[int, int, tuple[int, ...]], int] = {}


def same_hash(game: Playing) -> None:
    """Equal boards have equal hashes, however they came about, and here no two boards have the same."""
    place = (game.spec.rows, game.spec.columns, game.board)
    hashed = 0
    for point, stone in enumerate(game.board):
        if stone:
            hashed ^= int(zobrist(stone, codes.cell.py_func(game.spec, point)))
    assert HASHES.setdefault(place, hashed) == hashed == int(codes.get_hash(game.state))


# -- whole games through both ------------------------------------------------------------------------------------------


@games
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 6), columns=st.integers(1, 5), ko=st.sampled_from(list(KINDS)),
       suicide=st.booleans())
def test_go_is_the_reference(seed, rows, columns, ko, suicide):
    chance = random.Random(seed)
    slow = reference.Go(rows, columns, ko, suicide, komi=0.5)
    fast = Playing.go(rows, columns, ko=KINDS[ko], suicide=suicide, komi=0.5)
    points = rows * columns
    for _ in range(2 * points + 20):
        assert fast.board == slow.board
        assert fast.to_move == slow.turn - 1
        assert fast.over == slow.over
        assert fast.state[PRISONERS : PRISONERS + 2].tolist() == slow.prisoners
        assert fast.state[PASSES] == slow.passes
        assert fast.margin() == slow.margin()
        legal = slow.legal()
        assert fast.legal() == legal
        same_hash(fast)
        if slow.over:
            break
        for point in range(points):
            assert fast.reason(point) == WORDS[slow.why(point)]
            if slow.why(point) == "superko":
                turned = (slow.after(point)[0], 3 - slow.turn)
                earlier = [i for i, past in enumerate(slow.past)
                           if past[0] == turned[0] and (ko == "positional" or past[1] == turned[1])]
                assert fast.repeats(point) == earlier[-1]
        stones = sorted(legal - {points})
        move = chance.choice(stones) if stones and chance.random() < 0.93 else points
        slow.play(move)
        fast.play(move)


@settings(games, max_examples=3)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([(9, 9), (19, 2), (13, 7)]))
def test_go_on_larger_boards(seed, size):
    chance = random.Random(seed)
    slow, fast = reference.Go(*size), Playing.go(*size, komi=0)
    for ply in range(150):
        assert fast.board == slow.board
        if ply % 15 == 14:
            assert fast.legal() == slow.legal()
            assert fast.margin() == slow.margin()
        same_hash(fast)
        move = chance.choice(sorted(fast.legal() - {size[0] * size[1]}) or [size[0] * size[1]])
        slow.play(move)
        fast.play(move)


@games
@given(seed=st.integers(0, 2**32), name=st.sampled_from(["connect4", "othello", "gomoku"]), clumsy=st.booleans())
def test_other_games_are_the_reference(seed, name, clumsy):
    chance = random.Random(seed)
    slow = {"connect4": reference.Connect4, "othello": reference.Othello, "gomoku": reference.Gomoku}[name]()
    fast = Playing(spec(name))
    near = sorted(chance.sample(range(15), 6)) if name == "gomoku" and clumsy else range(225)  # so that somebody wins
    while True:
        assert fast.board == slow.board
        assert fast.over == slow.over
        legal = slow.legal()
        assert fast.legal() == legal
        same_hash(fast)
        if slow.over:
            break
        assert fast.to_move == slow.turn - 1
        for move in range(fast.spec.actions):
            assert (fast.reason(move) == codes.FREE) == (move in legal)
        move = chance.choice(sorted(m for m in legal if m % 15 in near and m // 15 in near) or sorted(legal))
        slow.play(move)
        fast.play(move)
    assert fast.margin() == slow.margin()
    winner = 2 if slow.margin() == 0 else 0 if slow.margin() > 0 else 1
    assert fast.state[WINNER] == winner


# -- exact counts ------------------------------------------------------------------------------------------------------


@numba.njit
def perft(spec, s, history, count, depth):
    """The number of sequences of `depth` legal moves."""
    mask = np.zeros(spec.actions, np.int8)
    legal = rules.legal(spec, s, history, count, mask)
    if depth <= 1:
        return legal
    total = 0
    for move in range(spec.actions):
        if mask[move]:
            after = s.copy()
            rules.play(spec, after, move)
            history[count] = rules.key(spec, after)
            total += perft(spec, after, history, count + 1, depth - 1)
    return total


def perfts(game: Playing, depth: int) -> list[int]:
    return [int(perft(game.spec, game.state, game.history, game.count, d)) for d in range(1, depth + 1)]


def slow_perft(game: reference.Board, depth: int) -> int:
    """The same by the reference, which is copied by hand."""
    legal = game.legal()
    if depth == 1:
        return len(legal)
    total = 0
    for move in legal:
        after = object.__new__(type(game))
        after.__dict__.update({k: list(v) if isinstance(v, list) else v for k, v in game.__dict__.items()})
        after.play(move)
        total += slow_perft(after, depth - 1)
    return total


def test_perft_of_othello_is_the_literatures():
    assert perfts(Playing(spec("othello")), 9) == [4, 12, 56, 244, 1396, 8200, 55092, 390216, 3005288]
    assert [slow_perft(reference.Othello(), depth) for depth in range(1, 5)] == [4, 12, 56, 244]


def test_perft_of_connect_four_is_the_literatures():
    assert perfts(Playing(spec("connect4")), 7) == [7, 49, 343, 2401, 16807, 117649, 823536]
    assert slow_perft(reference.Connect4(), 4) == 2401


def test_perft_of_gomoku_is_a_falling_factorial():
    assert perfts(Playing(spec("gomoku")), 3) == [225, 225 * 224, 225 * 224 * 223]


@pytest.mark.parametrize(("size", "ko", "suicide", "depth"), [
    ((1, 2), "positional", True, 8), ((1, 3), "positional", True, 6), ((2, 2), "positional", True, 5),
    ((2, 2), "situational", True, 5), ((2, 2), "simple", False, 5), ((2, 2), "none", True, 5),
    ((2, 3), "positional", False, 4), ((3, 3), "positional", True, 3),
])  # fmt: skip
def test_perft_of_go_is_the_references(size, ko, suicide, depth):
    slow = [slow_perft(reference.Go(*size, ko, suicide), d) for d in range(1, depth + 1)]
    assert perfts(Playing.go(*size, ko=KINDS[ko], suicide=suicide), depth) == slow


def test_perft_of_go_stays_what_it_was():
    """Deeper than the reference can go; derived here, so they guard against change only."""
    assert perfts(Playing.go(9), 3) == [82, 6643, 531522]
    assert perfts(Playing.go(2), 9) == [5, 21, 68, 156, 316, 604, 1088, 2184, 4184]
    assert perfts(Playing.go(3), 5) == [10, 91, 738, 5281, 33384]


@numba.njit
def whole_games(spec, s, history, count):
    """The number of games from here to the two passes that end them."""
    if s[OVER]:
        return 1
    mask = np.zeros(spec.actions, np.int8)
    rules.legal(spec, s, history, count, mask)
    total = 0
    for move in range(spec.actions):
        if mask[move]:
            after = s.copy()
            rules.play(spec, after, move)
            history[count] = rules.key(spec, after)
            total += whole_games(spec, after, history, count + 1)
    return total


@pytest.mark.parametrize(("columns", "number"), [(1, 1), (2, 9), (3, 907)])
def test_numbers_of_games_are_tromps(columns, number):
    """Under positional superko; Tromp and Farnebäck, Combinatorics of Go (2016)."""
    game = Playing.go(1, columns)
    assert whole_games(game.spec, game.state, game.history, game.count) == number


@pytest.mark.parametrize(("size", "number"), [((1, 1), 1), ((1, 2), 5), ((2, 2), 57), ((2, 3), 489), ((3, 2), 489),
                                              ((3, 3), 12675)])
def test_numbers_of_legal_positions_are_tromps(size, number):
    """All that can be reached from the empty board when either side may move."""
    game = Playing.go(*size, ko=codes.NO_KO)
    assert len(reachable(game.spec, game.state, turns=(0, 1))) == number


# -- traps of superko --------------------------------------------------------------------------------------------------


def test_ko_is_not_taken_back_at_once():
    game = Playing.go(4, ko=codes.SIMPLE).put(".XO. XO.O .XO. ....").play(6)
    assert game.board[5] == 0
    assert game.state[KO] != 0
    assert game.reason(5) == codes.BY_KO
    assert 5 not in game.legal()
    game.play(15, 12)
    assert game.reason(5) == codes.FREE


def test_who_took_the_ko_may_fill_it():
    game = Playing.go(4, ko=codes.SIMPLE).put(".XO. XO.O .XO. ....").play(6)
    game.state[TO_MOVE] = 0
    assert game.reason(5) == codes.FREE


def test_a_lone_stone_cannot_kill_itself_under_positional_superko():
    for ko, free in ((codes.NO_KO, True), (codes.SIMPLE, True), (codes.SITUATIONAL, True), (codes.SUPERKO, False)):
        game = Playing.go(2, ko=ko).put(".O O.")
        assert (game.reason(0) == codes.FREE) == free, ko
        assert (0 in game.legal()) == free
    game = Playing.go(2, ko=codes.NO_KO, suicide=False).put(".O O.")
    assert game.reason(0) == codes.SUICIDE


def test_a_chain_may_kill_itself_where_suicide_is_legal():
    picture = ".XO XOO O.."
    game = Playing.go(3).put(picture)
    assert game.reason(0) == codes.FREE
    game.play(0)
    assert game.board == (0, 0, 2, 0, 2, 2, 2, 0, 0)
    assert game.state[PRISONERS + 1] == 3
    assert Playing.go(3, suicide=False).put(picture).reason(0) == codes.SUICIDE


SENDING = ".O.O. XXOO. .XXO."


def test_sending_two_returning_one():
    """White adds a stone to one, Black takes the two, White takes the one back: the board is as it was."""
    for ko in (codes.NO_KO, codes.SIMPLE):
        game = Playing.go(3, 5, ko=ko).put(SENDING, first_to_move=False)
        before = game.board
        game.play(0, 2)
        assert game.reason(1) == codes.FREE
        assert game.play(1).board == before
    game = Playing.go(3, 5, ko=codes.SUPERKO).put(SENDING, first_to_move=False).play(0, 2)
    assert game.reason(1) == codes.BY_SUPERKO
    assert game.repeats(1) == 0
    game = Playing.go(3, 5, ko=codes.SITUATIONAL).put(SENDING, first_to_move=False).play(0, 2)
    assert game.reason(1) == codes.FREE  # the turn is another
    game.play(1, 15)  # and a pass brings the very situation back, as no rule forbids, but White may not go on
    assert game.reason(0) == codes.BY_SUPERKO
    assert game.repeats(0) == 1
    assert 0 not in game.legal()


TRIPLE = ".XO. XO.O .XO. .XO. X.XO .XO. .XO. XO.O .XO."


@pytest.mark.parametrize("ko", ["none", "simple", "positional", "situational"])
def test_triple_ko_ends_with_its_sixth_move(ko):
    game = Playing.go(9, 4, ko=KINDS[ko]).put(TRIPLE)
    before = game.board
    for move in (6, 17, 30, 5, 18):
        assert game.reason(move) == codes.FREE
        game.play(move)
    if ko in ("none", "simple"):
        assert game.reason(29) == codes.FREE
        assert game.play(29).board == before
    else:
        assert game.reason(29) == codes.BY_SUPERKO
        assert game.repeats(29) == 0


def test_a_pass_makes_a_situation():
    game = Playing.go(9, 4, ko=codes.SITUATIONAL).put(TRIPLE, first_to_move=False)
    game.play(36, 6, 17, 30, 5, 18)
    assert game.reason(29) == codes.BY_SUPERKO
    assert game.repeats(29) == 1  # the position after the pass: that before it had the other turn


def test_suicide_of_several_stones_can_repeat_a_position():
    """Black fills the corner and dies of it, which on this board is the position of two moves ago."""
    for ko, free in ((codes.SIMPLE, True), (codes.SUPERKO, False), (codes.SITUATIONAL, True)):
        game = Playing.go(2, 3, ko=ko).put("..O OO.").play(0, 6)
        assert (game.reason(1) == codes.FREE) == free
        assert game.repeats(1) == (-1 if ko == codes.SITUATIONAL else 0)  # there the turn is another


# -- small things ------------------------------------------------------------------------------------------------------


def test_moves_that_are_none():
    for name in NAMES:
        game = Playing(spec(name))
        assert game.reason(-1) == codes.OFF_BOARD
        assert game.reason(game.spec.actions) == codes.OFF_BOARD
        assert game.repeats(-1) == game.repeats(game.spec.actions) == -1


def test_reasons_of_the_other_games():
    game = Playing(spec("connect4")).play(3, 3, 3, 3, 3, 3)
    assert game.reason(3) == codes.COLUMN_FULL
    game = Playing(spec("gomoku")).play(7)
    assert game.reason(7) == codes.OCCUPIED
    game = Playing(spec("othello"))
    assert game.reason(27) == codes.OCCUPIED
    assert game.reason(0) == codes.FLIPS_NOTHING
    assert game.reason(64) == codes.MUST_PLACE


def test_after_the_end_nothing_is_legal():
    game = Playing.go(3).play(9, 9)
    assert game.over
    assert game.legal() == set()
    assert game.reason(0) == codes.GAME_OVER
    assert game.spec.game == GO


@pytest.mark.parametrize("options", [
    {"game": "chess"}, {"size": 20}, {"size": (0, 3)}, {"komi": float("inf")}, {"komi": 7.25}, {"size": (100, 100)},
    {"game": "othello", "size": 10},
])  # fmt: skip
def test_a_game_that_there_is_not(options):
    with pytest.raises(ValueError, match=r"there is no game|was asked for|komi is|is played on"):
        spec(**options)
