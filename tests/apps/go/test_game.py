"""Games as people play them: vertices, reasons, undo, handicap, stones placed by hand."""

import shutil
import subprocess

import numpy as np
import pytest

from apps.go import vertex
from apps.go.game import BLACK, WHITE, Game
from apps.go.handicap import fixed_handicap, most_handicap
from apps.go.player import Random
from apps.go.ruleset import KO_RULES, RULES, read_rules
from apps.go.state import spec


def played(moves, **terms):
    game = Game(**terms)
    for move in moves.split():
        game.play(move)
    return game


def at_random(game, plies, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(plies):
        if game.over:
            break
        moves = game.legal()
        game.play(str(rng.choice(moves[:-1] or moves)))
    return game


def same(one, other):
    return (one.spec == other.spec and one.moves == other.moves and one.setups == other.setups
            and one.count == other.count and np.array_equal(one.state, other.state)
            and np.array_equal(one.history[: one.count], other.history[: other.count]))


@pytest.mark.parametrize("size", [(1, 1), (9, 9), (19, 19), (3, 13)])
def test_every_move_has_one_vertex(size):
    constants = spec("go", size)
    names = [vertex.name(constants, move) for move in range(constants.actions)]
    assert len(set(names)) == constants.actions
    assert not any(name.startswith("I") for name in names)
    assert [vertex.parse(constants, f" {name.lower()} ") for name in names] == list(range(constants.actions))
    assert vertex.name(constants, 0) == f"A{size[0]}"


@pytest.mark.parametrize(("text", "word"), [("Z99", "A1 to J9"), ("I5", "letter I"), ("K5", "A1 to J9"), ("D0", "A1"),
                                            ("", "vertex"), ("5D", "vertex"), ("D-5", "vertex"), ("Dé", "vertex"),
                                            ("D" * 10_000, "vertex"), ("D9999999", "vertex"), ("D٣", "vertex"),
                                            ("resign", "vertex")])
def test_what_is_no_vertex_gets_a_sentence(text, word):
    game = Game()
    with pytest.raises(ValueError, match=word) as caught:
        game.play(text)
    assert game.illegal_reason(text) == str(caught.value)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


def test_columns_of_connect_four_have_numbers():
    constants = spec("connect4")
    assert [vertex.name(constants, i) for i in range(7)] == list("1234567")
    assert vertex.parse(constants, "7") == 6
    for text in ("0", "8", "A1", "", "pass"):
        with pytest.raises(ValueError, match="1 to 7"):
            vertex.parse(constants, text)


def test_board_turn_and_score():
    game = played("D5 e5 pass C3")
    board = np.zeros((9, 9), np.int8)
    board[4, 3], board[4, 4], board[6, 2] = 1, -1, -1
    assert np.array_equal(game.board, board)
    assert (game.to_move, game.over, game.score(), game.result()) == (BLACK, False, 1 - 2 - 7, "W+8")
    assert "D5" not in game.legal()
    assert game.legal()[-1] == "pass"
    assert len(game.legal()) == 81 - 3 + 1
    game.play("pass")
    game.play("pass")
    assert game.over
    assert game.legal() == []
    assert game.illegal_reason("A1") == "the game is over"
    with pytest.raises(ValueError, match="over"):
        game.play("A1")
    game.resume()
    game.play("A1")
    assert not game.over
    assert game.board[8, 0] == 1


def test_reasons():
    game = played("B1 A2 A1 C2 pass B2")
    assert game.illegal_reason("A2") == "occupied"
    strict = Game(size=3, rules="chinese")
    strict.place({"A2": -1, "B1": -1})
    assert strict.illegal_reason("A1") == "suicide: the stone would have no liberty"
    strict.place({"A2": 1, "A3": -1, "B2": -1, "B1": -1})
    assert strict.illegal_reason("A1") == "suicide: the stones would have no liberty"
    strict.set_rules("tromp-taylor")
    assert strict.illegal_reason("A1") is None
    assert strict.illegal_reason("A1", "white") == "not your turn: the first player is to move"
    ko = played("B3 C3 A2 D2 B1 C1 C2 B2", size=4, rules="chinese")
    assert ko.illegal_reason("C2").startswith("ko: ")
    with pytest.raises(ValueError, match="C2 cannot be played: ko"):
        ko.play("C2")
    ko.play("A4")
    ko.play("D4")
    assert ko.illegal_reason("C2") is None


def test_superko_names_the_position_that_comes_back():
    """Whatever superko forbids on a small board is the position on the board after the move it names."""
    found = 0
    for seed in range(60):
        game = Game(size=(2, 3), rules={"ko": "positional", "suicide": True})
        boards, rng = [game.board], np.random.default_rng(seed)
        while not game.over and len(game.moves) < 60:
            for move in {vertex.name(game.spec, i) for i in range(6)} - set(game.legal()):
                reason = game.illegal_reason(move)
                if reason != "occupied" and not reason.startswith("ko"):
                    number = 0 if reason.endswith("at the beginning") else int(reason.rpartition(" ")[2])
                    assert reason.startswith("superko: repeats the position ")
                    free = game.copy()
                    free.set_rules({"ko": "none", "suicide": True})
                    free.play(move)
                    assert np.array_equal(free.board, boards[number])
                    found += 1
            game.play(str(rng.choice(game.legal())))
            boards.append(game.board)
    assert found > 100


def test_undo_goes_back_exactly_and_copies_are_apart():
    game = at_random(Game(size=5, rules="new-zealand"), 60)
    assert len(game.moves) > 30
    states = [game.at(number) for number in range(len(game.moves) + 1)]
    again, moves = Game(size=5, rules="new-zealand"), list(game.moves)
    for number, move in enumerate(moves):
        assert same(again, states[number])
        again.play(move.vertex, move.colour)
    other = game.copy()
    while game.moves:
        game.undo()
        assert same(game, states[len(game.moves)])
    assert same(other, again)
    with pytest.raises(ValueError, match="take back"):
        game.undo()


def test_a_history_grows_and_keeps_room():
    game = Game(size=2, rules={"ko": "none", "suicide": True})
    for number in range(2500):
        game._put([0, 4][number % 2] if number < 2 else 4, BLACK if number % 2 == 0 else WHITE)
    assert game.count == 2501
    assert len(game.history) > game.count + 900
    while game.moves:
        game.undo()
    assert game.count == 1
    assert same(game, Game(size=2, rules={"ko": "none", "suicide": True}))


def test_a_colour_may_play_twice():
    game = Game()
    game.play("D5", "black")
    game.play("E5", "B")
    game.play("F5", 1)
    assert game.board.sum() == 3
    assert game.to_move == WHITE
    assert [move.colour for move in game.moves] == [1, 1, 1]
    assert same(game, Game.from_sgf(game.to_sgf()))
    with pytest.raises(ValueError, match="colour"):
        game.play("A1", "red")
    ko = played("B3 C3 A2 D2 B1 C1 C2 B2", size=4, rules="chinese")
    ko.play("C2", "white")  # fills the ko
    assert ko.board[2, 2] == -1


def test_fixed_handicap_is_that_of_gnugo():
    if not (gnugo := shutil.which("gnugo") or shutil.which("/usr/games/gnugo")):
        pytest.skip("GNU Go is not installed")
    asked = [(size, number) for size in (7, 8, 9, 10, 13, 19)
             for number in range(2, most_handicap(spec("go", size)) + 1)]
    lines = [f"boardsize {size}\nfixed_handicap {number}\n" for size, number in asked]
    done = subprocess.run([gnugo, "--mode", "gtp"], input="".join(lines) + "quit\n", text=True, capture_output=True,
                          timeout=60, check=True)
    answers = done.stdout.split("\n\n")[1::2]
    for (size, number), answer in zip(asked, answers, strict=False):
        assert set(answer.strip("= ").split()) == set(fixed_handicap(spec("go", size), number)), (size, number)
    assert len(asked) == 3 + 3 + 8 + 3 + 8 + 8


def test_handicap():
    game = Game(handicap=5)
    assert game.board.sum() == 5
    assert game.to_move == WHITE
    assert game.handicap == 5
    assert not game.moves
    free = Game(size=5, handicap=["B2", "d4"])
    assert free.board.sum() == 2
    assert free.to_move == WHITE
    for bad in ({"handicap": 1}, {"handicap": 10}, {"size": 8, "handicap": 5}, {"size": 5, "handicap": 2},
                {"handicap": ["A1"]}, {"handicap": ["A1", "a1"]}, {"handicap": ["A1", "pass"]}):
        with pytest.raises(ValueError):
            Game(**bad)
    with pytest.raises(ValueError, match="empty"):
        played("D5").place_handicap(["A1", "B1"])


def test_placed_stones_begin_a_history():
    game = at_random(Game(size=5), 20)
    game.place({"A1": 0, "E5": "black", "E4": WHITE}, "white")
    assert game.board[0, 4] == 1
    assert game.board[1, 4] == -1
    assert game.board[4, 0] == 0
    assert game.count == 1
    assert len(game.moves) == 20
    assert game.to_move == WHITE
    game.play("pass")
    game.undo()
    assert game.count == 1
    assert 20 in game.setups
    game.undo()
    assert game.setups == {}
    assert game.count == 20
    before = game.copy()
    small = Game(size=2)
    small.place({"A1": 1})
    for bad in ({"Z9": 1}, {"A1": 5}, {"pass": 1}):
        with pytest.raises(ValueError):
            game.place(bad)
        assert same(game, before)
    with pytest.raises(ValueError, match="without a liberty"):
        small.place({"A1": 1, "A2": 1, "B1": 1, "B2": 1})
    assert small.board.sum() == 1


def test_liberties_of_placed_stones_are_those_of_played_ones():
    for seed in range(5):
        game = at_random(Game(size=5, rules={"ko": "none", "suicide": True}), 25, seed)
        other = Game(size=5, rules={"ko": "none", "suicide": True})
        other.place({vertex.name(game.spec, int(i)): int(game.board.flat[i]) for i in np.flatnonzero(game.board)},
                    game.to_move)
        for _ in range(15):
            assert np.array_equal(game.board, other.board)
            assert game.legal() == other.legal()
            move = Random().analyse(game, seed=seed).move
            game.play(move)
            other.play(move)
            if game.over:
                break


def test_dead_stones_are_the_other_sides_points():
    game = played("C3 A5 C4 pass C5 pass C2 pass C1 pass")
    ownership = np.ones((9, 9))
    assert game.dead(ownership) == ["A5"]
    assert game.dead(-ownership) == ["C1", "C2", "C3", "C4", "C5"]
    assert game.dead(ownership * 0.4) == []
    assert game.score(dead=["A5"]) == 81 - 7
    assert game.score() == 5 - 1 - 7
    assert game.result(["A5"]) == "B+74"
    assert game.board[4, 0] == -1


@pytest.mark.parametrize("name", RULES)
def test_rules_by_name(name):
    game = Game(rules=name.upper())
    ko, suicide = RULES[name]
    assert (game.spec.ko, game.spec.suicide) == (KO_RULES[ko], suicide)
    assert bool(game.remark) == (name in ("japanese", "korean"))
    assert Game.from_sgf(game.to_sgf()).rules == name


def test_rules_by_dict():
    game = Game(rules={"ko": "situational", "suicide": False})
    assert (game.spec.ko, game.spec.suicide) == (3, False)
    assert read_rules(game.rules)[1:] == (3, False)
    assert same(Game.from_sgf(game.to_sgf()), game)
    assert read_rules({"ko": "SIMPLE", "scoring": "AREA", "tax": "NONE", "suicide": True, "hasButton": False})[1:] == (
        1, True)
    for bad, word in (({"scoring": "TERRITORY"}, "area"), ({"ko": "super"}, "super"), ({"suicide": 2}, "bool"),
                      ({"tax": "ALL"}, "tax"), ({"colour": 1}, "colour"), ({"whiteHandicapBonus": "N"}, "handicap"),
                      ("martian", "tromp-taylor")):
        with pytest.raises(ValueError, match=word):
            Game(rules=bad)


@pytest.mark.parametrize("bad", [{"size": 100}, {"size": 0}, {"size": (9, 20)}, {"komi": float("inf")},
                                 {"komi": float("nan")}, {"komi": 0.3}, {"game": "chess"}])
def test_bad_terms_get_a_sentence(bad):
    with pytest.raises(ValueError) as caught:
        Game(**bad)
    assert "\n" not in str(caught.value)


def test_komi_may_change():
    game = Game()
    game.komi = 0.5
    assert game.komi == 0.5
    assert game.score() == -0.5
    with pytest.raises(ValueError, match="komi"):
        game.komi = float("inf")


def test_the_board_in_letters():
    assert str(played("A1 B2", size=2)).splitlines() == ["   A B", " 2 . O 2", " 1 X . 1", "   A B"]


def test_connect_four():
    game = played("4 4 4 4 4 4", game="connect4")
    assert game.legal() == list("123567")
    assert game.illegal_reason("4") == "occupied: the column is full"
    assert game.board[:, 3].tolist() == [-1, 1, -1, 1, -1, 1]
    assert "white" not in game.illegal_reason("1", "white")
    with pytest.raises(ValueError, match="not your turn"):
        game.play("1", "white")
    for move in ["1", "5", "1", "5", "1", "5", "1"]:
        game.play(move)
    assert game.over
    assert game.score() == 1
    game.undo()
    assert not game.over
    for act in (lambda: game.place({"1": 1}), lambda: game.set_rules("chinese"), lambda: Game("connect4", handicap=2)):
        with pytest.raises(ValueError):
            act()


@pytest.mark.parametrize(("name", "reasons"), [
    ("othello", {"D4": "occupied", "A1": "no capture: the stone would turn none of the other side's",
                 "pass": "no pass: there are moves to play"}),
    ("gomoku", {"pass": "nobody passes in this game", "Z1": "'Z1' is not on this board, which goes from A1 to P15"}),
])
def test_othello_and_gomoku(name, reasons):
    game = Game(name)
    assert {move: game.illegal_reason(move) for move in reasons} == reasons
    for seed in range(3):
        game = at_random(Game(name), 200, seed)
        assert same(Game.from_sgf(game.to_sgf()), game)
        while game.moves:
            game.undo()
        assert same(game, Game(name))
