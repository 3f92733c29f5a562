"""Matches: counted right, gone on with, and never lost to an engine that dies."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apps.go import __main__ as shell
from apps.go import match as matches
from apps.go.game import Game
from apps.go.match import Tally, Terms, elo, match, opening, play, start, tally
from core import cli

ROOT = Path(__file__).parents[3]
GNUGO = shutil.which("gnugo") or shutil.which("/usr/games/gnugo")
SMALL = Terms(size=5)

ENGINE = """
import sys, time
moves = 0
for line in sys.stdin:
    words = line.split()
    if words[0] == "clear_board":
        moves = 0
    if words[0] == "genmove":
        moves += 1
        {trick}
    print("= " + {{"name": "Fake", "genmove": "pass"}}.get(words[0], ""), flush=True)
    print(flush=True)
"""


def engine(tmp_path, name, trick="pass"):
    """A program that passes always, but does something else in its first move."""
    path = tmp_path / f"{name}.py"
    path.write_text(ENGINE.format(trick=f"if moves == 1: {trick}"))
    return f"{sys.executable} {path}"


def test_random_against_random(tmp_path):
    result = match("random", "random", 6, tmp_path, SMALL, show=False)
    assert result.games == 6 == result.wins + result.losses + result.draws
    assert result.distinct == 6
    assert result.forfeits == 0
    files = sorted(tmp_path.glob("*.sgf"))
    assert [f.name for f in files] == [f"game_{i:04d}.sgf" for i in range(6)]
    for file in files:
        game = Game.from_sgf(file.read_bytes())
        winner, _, by = game.info["RE"].partition("+")
        assert game.info["RE"] == game.result() == f"{winner}+{by}"
        assert game.komi == 7
        assert game.rules == "chinese-kgs"


def test_a_match_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = match("random", "random", 4, tmp_path / "whole", SMALL, show=False)
    part = tmp_path / "part"
    match("random", "random", 2, part, SMALL, show=False)
    before = {file: file.stat().st_mtime_ns for file in part.glob("*.sgf")}
    (part / "game_0001.sgf").write_text("(;SZ[5]")  # half a file, which we never write
    assert match("random", "random", 4, part, SMALL, show=False) == whole
    assert (part / "game_0000.sgf").stat().st_mtime_ns == before[part / "game_0000.sgf"]
    for number in range(4):
        names = [folder / f"game_{number:04d}.sgf" for folder in (tmp_path / "whole", part)]
        assert names[0].read_bytes() == names[1].read_bytes()
    monkeypatch.setattr(matches, "start", None)
    assert match("random", "random", 4, part, SMALL, show=False) == whole  # nobody is started
    with pytest.raises(ValueError, match="another match"):
        match("random", "random", 4, part, Terms(size=6), show=False)
    (part / "match.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        match("random", "random", 4, part, SMALL, show=False)


def test_two_matches_in_one_folder(tmp_path):
    with matches._alone(tmp_path), pytest.raises(ValueError, match="in use by another match"):
        match("random", "random", 1, tmp_path, SMALL, show=False)


@pytest.mark.parametrize(("trick", "words"), [
    ("sys.exit('out of luck')", ["died over", "exit code 1", "out of luck"]),
    ("time.sleep(60)", ["within 0.5 seconds"]),
    ("print('? no idea\\n', flush=True); continue", ["refused", "no idea"]),
    ("print('= Z99\\n', flush=True); continue", ["played Z99", "A1 to E5"]),
])
def test_an_engine_that_fails_loses_that_game_only(tmp_path, trick, words):
    name = engine(tmp_path, "failing", trick)
    result = match("random", name, 2, tmp_path / "games", SMALL, timeout=5 if "sleep" not in trick else 0.5, show=False)
    assert (result.wins, result.losses, result.forfeits) == (2, 0, 2)
    for file in (tmp_path / "games").glob("*.sgf"):
        game = Game.from_sgf(file.read_bytes())
        assert game.info["RE"] in ("B+F", "W+F")
        assert all(word in game.info["C"] for word in words), game.info["C"]


def test_an_engine_that_always_dies_ends_the_match_with_one_sentence(tmp_path):
    name = engine(tmp_path, "dying", "sys.exit(3)")
    with pytest.raises(ValueError, match=r"has died in 3 games in a row.* the 3 games .* are kept"):
        match(name, "random", 10, tmp_path / "games", SMALL, show=False)
    assert len(list((tmp_path / "games").glob("*.sgf"))) == 3


@pytest.mark.parametrize(("name", "word"), [
    ("", "no name"), ("'", "command line"), ("/no/such/engine --gtp", "cannot be started"), ("/bin/false", "GTP"),
    ("random@x", "visits"), ("random@0", "visits"),
])
def test_what_is_no_player_gets_a_sentence(name, word):
    with pytest.raises(ValueError, match=word) as caught:
        start(name, timeout=5)
    assert "\n" not in str(caught.value)


def test_the_cap_on_length_ends_a_game():
    sides = [start("random", seed=seed) for seed in (1, 2)]
    game, dead = play(*sides, Terms(size=5, longest=10), [])
    assert len(game.moves) == 10
    assert not game.over
    assert dead is None
    assert game.info["RE"] == game.result()
    assert "cap" in game.info["C"]
    assert tally({0: game}).cut == 1


def test_openings_come_in_pairs():
    terms = Terms(opening=4, seed=3)
    assert opening(terms, 0) == opening(terms, 1) != opening(terms, 2)
    assert len(opening(terms, 0)) == 4
    assert opening(Terms(), 0) == []
    sides = [start("random", seed=1), start("random", seed=1)]
    game, _ = play(*sides, terms, opening(terms, 0))
    assert [move.vertex for move in game.moves[:4]] == opening(terms, 0)


def test_the_tally_in_words():
    assert elo(0.5) == 0
    assert elo(1) == math.inf
    assert elo(0) == -math.inf
    assert elo(0.75) == pytest.approx(190.8, abs=0.1)
    text = str(Tally(75, 0, 25, forfeits=2, distinct=99))
    assert "75-0-25" in text
    assert "75.0 % [65.7, 82.5]" in text
    assert "Elo +191 [+113, +269]" in text
    assert "n = 100" in text
    assert "2 by forfeit" in text
    assert "1 repeated" in text
    assert "cap" not in text


@pytest.mark.skipif(not GNUGO, reason="GNU Go is not installed")
def test_gnugo_counts_its_dead_stones(tmp_path):
    """Random loses every game; what GNU Go leaves standing is not given to it."""
    result = match("random", f"{GNUGO} --mode gtp --level 1 --chinese-rules --seed 1", 2, tmp_path, SMALL, show=False)
    assert (result.losses, result.forfeits) == (2, 0)
    games = [Game.from_sgf(file.read_bytes()) for file in sorted(tmp_path.glob("*.sgf"))]
    assert [game.info["C"].startswith(f"counted by {side}; by plain area")
            for game, side in zip(games, ("White", "Black"), strict=True)] == [True, True]
    assert [game.info["RE"][0] for game in games] == ["W", "B"]


@pytest.mark.skipif(not GNUGO, reason="GNU Go is not installed")
def test_dead_stones_do_not_count_where_gnugo_does(tmp_path):
    gnugo = start(f"{GNUGO} --mode gtp --level 1 --chinese-rules")
    assert gnugo.scores
    wall = "C1 C2 C3 C4 C5 B2 D4"  # Black owns the board; White's stone at E1 is dead
    for command in ("boardsize 5", "clear_board", "komi 7", *(f"play B {v}" for v in wall.split()), "play W E1"):
        gnugo.ask(command)
    game = Game(size=5)
    for vertex in wall.split():
        game.play(vertex, "black")
    game.play("E1", "white")
    assert matches._count(gnugo.ask("final_score")) == game.result(["E1"]) == "B+18" != game.result()
    with pytest.raises(ValueError, match="refused"):
        gnugo.ask("nonsense")
    gnugo.close()


def test_from_a_shell(tmp_path):
    other = f"{sys.executable} -m apps.go gtp --weights random --seed 5"
    done = subprocess.run([sys.executable, "-m", "apps.go", "match", "random", other, "--games", "2", "--size", "5",
                           "--out", tmp_path / "games"], cwd=ROOT, text=True, capture_output=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "wins-draws-losses of A" in done.stdout
    assert "n = 2" in done.stdout
    assert "forfeit" not in done.stdout


@pytest.mark.parametrize(("words", "sentence"), [
    (["gtp", "--size", "100"], "19x19"), (["gtp", "--komi", "inf"], "komi"), (["gtp", "--visits", "0"], "at least 1"),
    (["gtp", "--rules", "martian"], "martian"), (["match", "random", "random", "--games", "0"], "at least one"),
])
def test_bad_words_in_a_shell_get_one_sentence(words, sentence, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["apps.go", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main(shell.main)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert sentence in said
