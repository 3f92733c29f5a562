"""Reviews of whole games: what counts as a mistake and why, and the files that say so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.go import __main__ as shell
from apps.go import annotated, poster, review, reviewed, sgf, sheet, thinking, vertex
from apps.go.game import Game
from apps.go.player import Analysis, Candidate
from apps.go.thinking import Thought
from core import cli
from tests.apps.go import untrained

ROOT = Path(__file__).parents[3]
GAME = r"(;GM[1]FF[4]SZ[9]KM[7]PB[A <b>& co]PW[W]XY[kept];B[ee]C[first \] move];W[ai]TE[1];B[cg](;W[gc])(;W[gg]))"


def thought(game, best, winrate, lead, moves=(), prior=()):
    """An analysis whose best move is followed by a pass; moves are (name, visits, winrate, lead)."""
    policy = np.zeros(82)
    for name, share in dict(prior).items():
        policy[vertex.parse(game.spec, name)] = share
    visits = np.zeros(82, int)
    for name, number, *_ in moves:
        visits[vertex.parse(game.spec, name)] = number
    listed = [Candidate(name, number, rate, points, float(policy[vertex.parse(game.spec, name)]), [name, "pass"])
              for name, number, rate, points in moves]
    return Thought(Analysis(best, winrate, lead, np.zeros((9, 9)), policy, visits, [best, "pass"], listed), 64, 1.0)


@pytest.fixture
def thoughts():
    """Of the four moves E5, A1, C3, G7: A1 costs 30 %, C3 10 % and G7 nothing."""
    game = Game.from_sgf(GAME)
    return [
        thought(game.at(0), "E5", 0.5, 0.0),
        thought(game.at(1), "D4", 0.5, 0.5, [("D4", 50, 0.55, 1.0), ("A1", 3, 0.22, -4.0)],
                {"A1": 0.004, "D4": 0.3, "G3": 0.6}),
        thought(game.at(2), "F6", 0.8, 6.0, [("F6", 40, 0.8, 6.0)], {"C3": 0.7, "F6": 0.2}),
        thought(game.at(3), "G7", 0.3, -4.5, [("G7", 63, 0.3, -4.5)], {"G7": 1}),
        thought(game, "C7", 0.7, 4.0),
    ]


def test_why_says_what_was_liked_searched_worth_and_played(thoughts):
    game = Game.from_sgf(GAME)
    first, second = reviewed.mistakes(game, thoughts)
    assert (first.move, first.better, first.kind, first.cost) == ("A1", "D4", "blunder", "costs 30 % and 6.5 points")
    assert reviewed.why(game, thoughts, first) == {
        "prior": "At first sight the net gave A1 under 1 % (choice 3) and D4 30 %; it liked G3 best, with 60 %.",
        "visits": "Of 53 searched positions 50 went to D4 and 3 to A1.",
        "value": "Before it: 50 % (+0.5 points). With D4: 55 % (+1.0). After A1: 20 % (-6.0).",
        "line": "Better: D4 pass. After A1: F6 pass.",
    }
    assert (second.move, second.kind, round(second.loss, 6)) == ("C3", "bad", 0.1)
    said = reviewed.why(game, thoughts, second)
    assert said["prior"] == "At first sight the net gave C3 70 %, more than any other move; F6 had 20 %."
    assert said["visits"] == "Of 40 searched positions 40 went to F6 and none to C3: looking ahead changed its mind."


def test_the_annotated_file_keeps_what_it_held_and_says_more(thoughts):
    root = sgf.read(GAME)
    listed = reviewed.mistakes(Game.from_sgf(root), thoughts, most=1)
    written = sgf.write(annotated.annotate(root, thoughts, listed, by="somebody"))
    tree = sgf.read(written)
    assert [m.vertex for m in Game.from_sgf(tree).moves] == ["E5", "A1", "C3", "G7"]
    line = tree.main_line()
    assert tree.text("XY") == "kept"
    assert tree.text("C") == "Reviewed by somebody.\n\nBlack wins 50 %, B+0.0. Best for Black: E5 pass"
    assert [node.text("V") for node in line] == ["0", "-0.5", "6", "4.5", "4"]
    marked = [{name: node.properties[name] for name in ("BM", "DO", "TE", "HO") if name in node.properties}
              for node in line]
    assert marked == [{}, {}, {"BM": ["2"], "HO": ["2"]}, {"BM": ["1"]}, {}]  # one judgement a move, one hotspot
    assert line[1].text("C") == "first ] move\n\nBlack wins 50 %, W+0.5. Best for White: D4 pass"
    assert line[2].text("C").startswith("Move 2, White A1, costs 30 %: White's chances fall from 50 % to 20 %.")
    variation = line[1].children[1]
    assert [node.properties for node in variation.main_line()] == [
        {"W": ["df"], "C": ["Better than A1: wins 50 %."]}, {"B": [""]}]
    assert [child.properties["W"] for child in line[3].children] == [["gc"], ["gg"]]  # the file's own stays


def test_a_doubtful_move_is_marked_without_a_value(thoughts):
    thoughts[2].analysis.__dict__["winrate"] = 0.57
    tree = annotated.annotate(sgf.read(GAME), thoughts)
    assert tree.main_line()[2].properties["DO"] == [""]
    assert "BM" not in tree.main_line()[2].properties
    assert "HO" not in sgf.write(tree)


def test_the_page_escapes_and_fetches_nothing(thoughts):
    game = Game.from_sgf(GAME)
    listed = reviewed.mistakes(game, thoughts)
    text = sheet.page(game, thoughts, listed, "</title><script>alert(1)</script> {{data}}", "a & b", "</p>")
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {{data}}" in text
    assert "a &amp; b" in text
    outside = re.findall(r"(?:src|href)=|url\((?!#)|https?://\S+", text)
    assert set(outside) == {'http://www.w3.org/2000/svg",'}  # a name, not an address
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert len(data["positions"]) == 5
    assert data["positions"][1]["words"] == (
        "Move 1, Black E5. Black wins 50 %, W+0.5. Best for White: D4 pass. Move 2, White A1, costs 30 %: White's "
        "chances fall from 50 % to 20 %. Better is D4.")
    assert data["positions"][1]["marks"] == [{"p": 72, "kind": "mistake"}, {"p": 48, "kind": "better"}]
    assert data["mistakes"][0]["line"] == [{"p": 48, "colour": -1, "n": 1}]
    assert re.findall(r'class="dot (\w+)" data-ply="(\d)".+?left:([\d.]+)%;top:([\d.]+)%', text) == [
        ("blunder", "1", "50.00", "20.0"), ("bad", "2", "75.00", "30.0")]
    assert 'd="M0 50.0L1 50.0L2 20.0L3 30.0L4 30.0"' in text


@pytest.mark.parametrize(("size", "kept"), [((9, 9), 2), ((5, 13), 0)])
def test_the_picture_has_room_for_each_mistake(thoughts, size, kept, tmp_path):
    game = Game.from_sgf(GAME)
    listed = reviewed.mistakes(game, thoughts)[:kept]
    if size != (9, 9):
        game = Game("go", size)
        game.play("C3")
        thoughts = thoughts[:2]
    (tmp_path / "x.png").write_bytes(poster.picture(game, thoughts, listed, "Ünï $x$ 囲碁", "{} % \n _"))
    with Image.open(tmp_path / "x.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    tall = poster.HEAD + poster.GRAPH + poster.CARD * max(kept, 0.2) + 0.25
    assert pixels.shape == (int(tall * poster.DOTS), 1400, 3)
    red = (np.abs(pixels - (0xC3, 0x27, 0x1D)).sum(-1) < 12).any(1)  # rings and the blunder's words
    assert red.any() == bool(kept)


def test_a_side_that_plays_twice_is_judged_as_itself(tmp_path):
    weights = str(untrained.write(tmp_path / "go.safetensors"))
    game = Game.from_sgf("(;SZ[9];B[ee];B[cc];B[gg])")
    thoughts = thinking.look_through(weights, game, 2, lambda done, total: None)
    for ply in (1, 2):
        position = game.at(ply)
        position.turn(1)
        alone = thinking.think(weights, position, 2).analysis
        assert thoughts[ply].analysis.winrate == alone.winrate
    before, after = thoughts[1].analysis.winrate, thoughts[2].analysis.winrate
    assert reviewed.losses(game, thoughts)[1] == pytest.approx(max(0.0, before - after))


@pytest.fixture
def told(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["apps.go", "review", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main(shell.main)
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return run


@pytest.fixture
def weights(tmp_path):
    return untrained.write(tmp_path / "net" / "go.safetensors")


def test_one_game_as_a_user_types_it(tmp_path, weights, told):
    (tmp_path / "x.sgf").write_text(GAME)
    command = [tmp_path / "x.sgf", "--visits", "4", "--weights", weights, "--out", tmp_path / "out"]
    done = subprocess.run([sys.executable, "-m", "apps.go", "review", *command], cwd=ROOT, capture_output=True,
                          text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "x"
    assert done.stdout.splitlines() == [str(folder / name) for name in review.NAMES[:3]]
    assert "4 moves, 5 positions, 4 visits each" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in folder.iterdir()) == sorted(review.NAMES)
    found = json.loads((folder / "review.json").read_text())["positions"]
    assert [row["played"] for row in found] == ["E5", "A1", "C3", "G7", None]
    tree = sgf.read((folder / "review.sgf").read_bytes())
    for node, row in zip(tree.main_line(), found, strict=True):
        assert f"Black wins {100 * row['black']:.0f} %, {row['lead']}" in node.text("C")
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    code, _, err = told(*command)
    assert (code, "holds this review already" in err) == (0, True)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    command[2] = "3"
    assert told(*command)[0] == 0
    assert json.loads((folder / "review.json").read_text())["visits"] == 3


def test_a_folder_of_games_and_one_that_is_none(tmp_path, weights, told):
    games = tmp_path / "games"
    games.mkdir()
    for name in ("a.sgf", "b.SGF"):
        (games / name).write_text(GAME)
    (games / "broken.sgf").write_text("(;GM[1]SZ[9];B[zz])")
    command = [games, "--visits", "2", "--weights", weights, "--out", tmp_path / "out", "--workers", "2"]
    code, _, err = told(*command)
    assert code == 1
    assert "2 done, 0 already there, 1 failed" in err
    assert re.search(r"broken: ValueError: .*broken.sgf: the SGF file has a stone at 'zz'", err)
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name[0] != ".") == ["a", "b"]
    (games / "broken.sgf").write_text(GAME)
    code, _, err = told(*command)
    assert (code, "1 done, 2 already there, 0 failed" in err) == (0, True)
    files = {name: {p.name: p.read_bytes() for p in (tmp_path / "out" / name).iterdir()} for name in ("a", "broken")}
    assert files["a"]["review.json"] == files["broken"]["review.json"]  # the same from any process


@pytest.mark.parametrize(("text", "words"), [
    ("(;GM[1]SZ[9])", "no moves"), ("noise", "not a readable SGF file"), ("(;GM[2]SZ[8])", "a game of othello"),
])
def test_what_is_no_game_gets_a_sentence(tmp_path, told, text, words):
    (tmp_path / "x.sgf").write_text(text)
    code, _, err = told(tmp_path / "x.sgf", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "x.sgf" in err
    assert words in err
    assert not (tmp_path / "out").exists()


def test_other_bad_input_gets_a_sentence(tmp_path, told, weights):
    game = tmp_path / "x.sgf"
    game.write_text(GAME)
    out = tmp_path / "out"
    for options, words in (([tmp_path / "nowhere.sgf"], "is not there"), ([tmp_path / "net"], "holds no .sgf files"),
                           ([game, "--visits", "0"], "--visits is 0"), ([game, "--mistakes", "99"], "--mistakes is 99"),
                           ([game, "--workers", "0"], "--workers is 0"), ([game, game], "the key 'x'"),
                           ([game, "--weights", "nowhere"], "nowhere")):
        code, _, err = told(*options, "--out", out)
        assert code == 2, err
        assert err.rstrip().splitlines()[-1].startswith("error: ")
        assert words in err
    (out / "x").mkdir(parents=True)
    (out / "x" / "thesis.doc").write_text("mine")
    code, _, err = told(game, "--weights", weights, "--out", out)
    assert (code, "holds thesis.doc" in err) == (2, True)
    assert (out / "x" / "thesis.doc").read_text() == "mine"
