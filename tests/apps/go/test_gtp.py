"""GTP as the specification has it, and whatever else comes down the line."""

import dataclasses
import io
import os
import re
import threading
import time

import numpy as np
import pytest

from apps.go.gtp import COMMANDS, Clock, Engine, serve
from apps.go.player import Analysis, Candidate, Random

REQUIRED = {"protocol_version", "name", "version", "known_command", "list_commands", "quit", "boardsize", "clear_board",
            "komi", "play", "genmove"}


class Fake:
    """Plays the first legal move and says what it was told to."""

    def __init__(self, winrate=0.6, ownership=None):
        self.winrate, self.ownership, self.calls = winrate, ownership, []

    def analyse(self, game, visits=64, seed=0, seconds=None):
        self.calls.append((visits, seed, seconds))
        move = game.legal()[0]
        moves = [Candidate(name, visits, self.winrate, 1.5, 0.25, [name, "pass"]) for name in game.legal()[:3]]
        return Analysis(move, self.winrate, 1.5, self.ownership, game.mask() / 82, game.mask(), [move], moves)


def engine(player=None, **options):
    return Engine(player or Fake(), **options)


def dialogue(given, *lines):
    return [given.handle(line) for line in lines]


def test_answers_have_the_form_of_the_specification():
    given = engine()
    assert given.handle("protocol_version") == "= 2\n\n"
    assert given.handle("17 name") == "=17 Wunderkammer\n\n"
    assert given.handle("\t 3\tkomi  6.5 # a comment\r\n") == "=3\n\n"
    assert given.game.komi == 6.5
    assert given.handle("9 nonsense") == "?9 unknown command\n\n"
    for nothing in ("", "\n", "# comment", " \t\r\n", "\x00\x07\n"):
        assert given.handle(nothing) == ""
    assert given.handle("na\x00me") == "= Wunderkammer\n\n"


def test_commands_are_known():
    given = engine()
    listed = given.handle("list_commands")[2:].split()
    assert set(listed) >= REQUIRED
    assert len(listed) == len(set(listed)) == len(COMMANDS)
    for name in listed:
        assert given.handle(f"known_command {name}") == "= true\n\n"
        assert "unknown command" not in given.handle(name)
    assert given.handle("known_command") == given.handle("known_command x") == "= false\n\n"
    assert given.done


@pytest.mark.parametrize(("line", "answer"), [
    ("boardsize 100", "unacceptable size"), ("boardsize 0", "unacceptable size"), ("boardsize x", "syntax error"),
    ("boardsize", "syntax error"), ("boardsize 99999999999999999999", "syntax error"), ("komi inf", "syntax error"),
    ("komi nan", "syntax error"), ("komi x", "syntax error"), ("komi 1e6", "unacceptable komi"),
    ("play black Z99", "invalid color or coordinate"), ("play b I5", "invalid color or coordinate"),
    ("play red D5", "invalid color or coordinate"),
    ("play b", "syntax error"), ("play", "syntax error"), ("play w D4", "illegal move"), ("genmove", "syntax error"),
    ("genmove x", "invalid color"), ("fixed_handicap 2", "board not empty"), ("set_free_handicap A1 B1",
                                                                            "board not empty"),
    ("place_free_handicap 2", "board not empty"), ("time_left b 5", "syntax error"), ("time_settings -1 0 0",
                                                                                     "syntax error"),
    ("loadsgf /no/such/file", "cannot load file"), ("final_status_list odd", "syntax error"), ("loadsgf",
                                                                                              "syntax error"),
])
def test_errors(line, answer):
    given = engine()
    given.handle("play b D4")
    assert given.handle("5 " + line) == f"?5 {answer}\n\n"
    assert [m.vertex for m in given.game.moves] == ["D4"]


def test_a_game():
    given = engine()
    lines = ("boardsize 5", "clear_board", "play black C3", "play black pass", "play B C2")
    assert dialogue(given, *lines) == ["=\n\n"] * 5
    assert given.handle("genmove w") == "= A5\n\n"
    assert given.handle("reg_genmove b") == "= B5\n\n"
    assert given.game.board[0, 0] == -1
    assert len(given.game.moves) == 4
    board = given.handle("showboard")
    assert board == "= \n" + str(given.game) + "\n\n"
    assert "\n\n" not in board[:-2]
    for _ in range(4):
        assert given.handle("undo") == "=\n\n"
    assert given.handle("undo") == "? cannot undo\n\n"


def test_play_goes_on_after_two_passes():
    given = engine()
    assert dialogue(given, "play b pass", "play w pass", "genmove b", "play b D5", "play b D5") == [
        "=\n\n", "=\n\n", "= pass\n\n", "=\n\n", "? illegal move\n\n"]


def test_handicaps():
    given = engine()
    assert given.handle("fixed_handicap 4") == "= C3 G7 C7 G3\n\n"
    assert given.game.to_move == -1
    given.handle("clear_board")
    for bad in ("1", "10", "0"):
        assert given.handle(f"fixed_handicap {bad}") == "? invalid number of stones\n\n"
    assert given.handle("place_free_handicap 2") == "= C3 G7\n\n"
    given.handle("clear_board")
    assert given.handle("set_free_handicap A1 A1") == "? bad vertex list\n\n"
    assert given.handle("set_free_handicap A1 J9 E5") == "=\n\n"
    assert given.game.board.sum() == 3


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 9, 19])
def test_free_handicaps_of_any_number(size):
    for number in {2, 3, 4, 9, 10, 17, size * size - 1, size * size, 1000}:
        given = engine()
        given.handle(f"boardsize {size}")
        said = given.handle(f"place_free_handicap {number}")
        if size == 1:
            assert said == "? invalid number of stones\n\n"
            continue
        names = said.removeprefix("= ").split()
        assert len(set(names)) == len(names) == given.game.board.sum() == min(number, size * size - 1)
        assert given.game.to_move == -1
    assert engine().handle("place_free_handicap 1") == "? invalid number of stones\n\n"


def test_free_handicaps_keep_apart():
    given = engine()
    names = given.handle("place_free_handicap 11").removeprefix("= ").split()
    fixed = engine()
    assert set(names) > set(fixed.handle("fixed_handicap 9").removeprefix("= ").split())
    rows, columns = given.game.board.nonzero()
    gaps = abs(rows[:, None] - rows) + abs(columns[:, None] - columns) + 9 * np.eye(11)
    assert gaps.min() >= 2


def test_resigns_late_and_only_when_lost():
    given = engine(Fake(winrate=0.01), resign_after=4)
    answers = dialogue(given, "genmove b", "genmove w", "genmove b", "genmove w", "genmove b")
    assert answers[3] != "= resign\n\n"
    assert answers[4] == "= resign\n\n"
    assert len(given.game.moves) == 4
    assert engine(Fake(winrate=0.0), resign_below=0.0, resign_after=0).handle("genmove b") == "= A9\n\n"


def test_answers_a_pass_with_a_pass_that_wins():
    given = engine()
    assert dialogue(given, "komi 0", "play b D4", "play w pass", "genmove b")[-1] == "= pass\n\n"
    given = engine()
    assert dialogue(given, "komi 90", "play b D4", "play w pass", "genmove b")[-1] != "= pass\n\n"


def test_time():
    player = Fake()
    given = engine(player, visits=10)
    given.handle("genmove b")
    assert player.calls[-1] == (10, 0, None)
    dialogue(given, "time_settings 60 0 0", "genmove b")
    main = player.calls[-1][2]
    assert 0.5 < main < 5
    dialogue(given, "time_left b 10 2", "genmove b")
    assert 4 < player.calls[-1][2] < 5
    dialogue(given, "time_left w 0 0", "genmove w")
    assert player.calls[-1][2] == 0.01
    dialogue(given, "time_settings 0 30 5", "genmove b")
    assert 5 < player.calls[-1][2] < 6
    dialogue(given, "time_settings 0 30 0", "genmove b")  # the specification's way to say no limit
    assert player.calls[-1][2] is None


def test_the_clock_lasts_for_a_whole_game():
    for main in (1.0, 10.0, 600.0):
        clock, spent = Clock(main), 0.0
        for ply in range(0, 160, 2):
            budget = clock.budget(ply, 81)
            spent += budget + 0.05
            clock.left = max(0.0, clock.left - budget - 0.05)
        assert spent < main + 80 * 0.06


def test_scores():
    ownership = np.ones((9, 9))
    given = engine(Fake(ownership=ownership))
    dialogue(given, "play b C3", "play w G7")
    assert given.handle("final_score") == "= W+7\n\n"
    assert given.handle("final_status_list alive") == "= C3\nG7\n\n"
    assert given.handle("final_status_list dead") == given.handle("final_status_list seki") == "=\n\n"
    assert given.handle("kata-set-rules chinese") == "=\n\n"
    assert given.handle("final_score") == "= B+74\n\n"
    assert given.handle("final_status_list dead") == "= G7\n\n"
    assert given.handle("final_status_list alive") == "= C3\n\n"
    assert engine(Random(), rules="chinese").handle("final_score") == "= W+7\n\n"


def test_rules():
    given = engine()
    given.handle("play b C3")
    assert given.handle('kata-set-rules {"ko":"SIMPLE","scoring":"AREA","suicide":false}') == "=\n\n"
    assert '"ko": "SIMPLE"' in given.handle("kata-get-rules")
    assert len(given.game.moves) == 1
    assert "area is counted" in given.handle("kata-set-rules japanese")
    for bad in ('{"scoring":"TERRITORY"}', "{", "martian", "", '{"ko":' * 500, "[1]"):
        assert given.handle("kata-set-rules " + bad).startswith("? ")
    assert len(given.game.moves) == 1


def test_loadsgf(tmp_path):
    path = tmp_path / "game.sgf"
    path.write_text("(;SZ[5]KM[0.5];B[aa];W[bb];B[cc])")
    given = engine()
    assert given.handle(f"loadsgf {path}") == "=\n\n"
    assert given.game.komi == 0.5
    assert len(given.game.moves) == 3
    assert given.handle(f"loadsgf {path} 2") == "=\n\n"
    assert len(given.game.moves) == 1
    path.write_text("(;SZ[5]")
    assert given.handle(f"loadsgf {path}") == "? cannot load file\n\n"
    assert len(given.game.moves) == 1


def test_analyses():
    given = engine(Fake(ownership=np.full((9, 9), 0.5)), visits=8)
    given.handle("play b E5")
    answer = given.handle("4 kata-analyze w 50 maxmoves 2 ownership true")
    assert re.fullmatch(r"=4\ninfo .*\n\n", answer)
    assert answer.count("info move") == 2
    assert "info move A9 visits 8 utility 0.200000 winrate 0.600000 scoreMean 1.5000 scoreLead 1.5000 prior" in answer
    assert " order 1 pv B9 pass ownership -0.5000 " in answer  # White's side
    assert len(answer.split(" ownership ")[1].split()) == 81
    assert "ownership" not in given.handle("kata-analyze 50")
    answer = given.handle("lz-analyze b interval 50 avoid b D4 3")
    assert answer.startswith("=\ninfo move A9 visits 8 winrate 6000 prior 2500 lcb ")
    assert answer.endswith("\n\n")
    assert given.game.to_move == -1
    dialogue(given, "play w pass", "play b pass")
    assert given.handle("7 lz-analyze") == "?7 the game is over\n\n"


def test_an_analysis_gets_deeper_until_the_next_line_comes():
    player = Fake()
    ours, theirs = os.pipe()
    out = io.StringIO()
    with os.fdopen(ours) as lines, os.fdopen(theirs, "w") as writer:
        thread = threading.Thread(target=serve, args=(engine(player, visits=2), lines, out))
        thread.start()
        writer.write("1 lz-analyze 10\n")
        writer.flush()
        deadline = time.monotonic() + 20
        while out.getvalue().count("info move A9") < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not out.getvalue().endswith("\n\n")
        writer.write("2 name\n")
        writer.close()
        thread.join(20)
    answers = out.getvalue().split("\n\n")
    assert answers[0].startswith("=1\ninfo move")
    assert answers[1:] == ["=2 Wunderkammer", ""]
    assert [visits for visits, _, _ in player.calls[:4]] == [2, 4, 8, 16]


def test_a_net_alone_reports_its_move():
    class Alone(Fake):
        def analyse(self, *given, **options):
            return dataclasses.replace(super().analyse(*given, **options), moves=[])

    for line in ("kata-analyze", "lz-analyze maxmoves 0"):
        answer = engine(Alone()).handle(line)
        assert re.fullmatch(r"=\ninfo move A9 .* order 0 pv A9\n\n", answer)


def test_noise_and_half_lines():
    rng = np.random.default_rng(0)
    given = engine(Random())
    words = [*COMMANDS, "b", "w", "D4", "pass", "9", "-1", "1e99", "\x00", "é", "{", '"', "#", "9" * 400, "nan"]
    for _ in range(2000):
        line = " ".join(str(rng.choice(words)) for _ in range(rng.integers(1, 5)))
        if "quit" in line or "loadsgf" in line:
            continue
        answer = given.handle(line)
        assert answer == "" or (answer[0] in "=?" and answer.endswith("\n\n") and "\n\n" not in answer[:-2])
        assert "internal error" not in answer
    noise = bytes(rng.integers(0, 256, 20_000, dtype=np.uint8)).decode("latin-1")
    out = io.StringIO()
    serve(engine(), io.StringIO(noise + "\n11 name\nplay b D"), out)
    assert "=11 Wunderkammer\n\n" in out.getvalue()
    assert out.getvalue().endswith("? invalid color or coordinate\n\n")


def test_a_failing_player_does_not_end_the_engine():
    class Failing:
        def analyse(self, game, visits=64, seed=0, seconds=None):
            raise RuntimeError("out of\n\nmemory")

    given = engine(Failing())
    assert given.handle("genmove b") == "? internal error: RuntimeError: out of memory\n\n"
    assert given.handle("lz-analyze") == "? internal error: RuntimeError: out of memory\n\n"
    assert given.handle("name") == "= Wunderkammer\n\n"


def test_quit_ends_the_loop():
    out = io.StringIO()
    serve(engine(), io.StringIO("name\nquit\nname\n"), out)
    assert out.getvalue() == "= Wunderkammer\n\n=\n\n"
