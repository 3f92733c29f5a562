"""data.go.prepare: from games to a label file that the room reads, by our own net and by engines that speak GTP."""

import io
import os
import re
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from apps.go import data as reader
from apps.go.game import Game
from core import cli
from data.go import judge, prepare
from tests.apps.go import untrained

ROOT = Path(__file__).parents[2]
GAME = "(;GM[1]SZ[9]KM[7]RE[B+R];B[ee];W[cg];B[];W[gc])"

ENGINE = '''
import re, sys
moves, last = 0, 0
for line in sys.stdin:
    words = line.split() or [""]
    name, answer = words[0], ""
    print(line.strip(), file=open({log!r}, "a"))
    moves = 0 if name == "clear_board" else moves + (name == "play")
    if name == "name":
        answer = "Fake"
    elif name == "known_command":
        answer = "true" if words[1] in {known!r} else "false"
    elif name == "kata-raw-nn":
        share = ["NAN" if i < moves else "0.01" for i in range(81)]
        share[80] = "0.5"
        rows = "\\n".join(" ".join(share[i:i + 9]) for i in range(0, 81, 9))
        owned = "\\n".join(" ".join(["0.2"] * 9) for _ in range(9))
        answer = ("symmetry 0\\nwhiteWin 0.7\\nwhiteLoss 0.2\\nnoResult 0.1\\nwhiteLead 3.5\\npolicy\\n" + rows
                  + "\\npolicyPass 0.25\\nwhiteOwnership\\n" + owned)
    elif name == "kata-analyze":
        for visits in (1, 5, 20, 400):
            print(("=\\n" if visits == 1 else "") + f"info move E6 visits {{3 * visits}} winrate 0.75 scoreLead 2.5 "
                  f"prior 0.1 order 0 pv E6 E7 info move pass visits {{visits}} winrate 0.4 scoreLead -1 prior 0.2 "
                  "order 1 pv pass ownership " + " ".join(["-0.4"] * 81), flush=True)
            if visits == 20:
                sys.stdin.readline()
                break
        print(flush=True)
        continue
    {trick}
    print("= " + answer + "\\n", flush=True)
'''


def engine(tmp_path, known=("kata-raw-nn", "kata-analyze"), trick="pass"):
    """A program that says the same of every position; what it was told is in log.txt."""
    path = tmp_path / "engine.py"
    path.write_text(ENGINE.format(known=known, log=str(tmp_path / "log.txt"), trick=trick))
    return f"{sys.executable} {path}"


def archive(path, games):
    with tarfile.open(path, "w:gz") as tar:
        for name, text in games.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def told(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["prepare", *map(str, words)])
        try:
            cli.main(prepare.main)
            code = 0
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def everything(folder):
    """The labels as the room reads them, whatever the split."""
    splits = [reader.read(folder, split) for split in ("train", "val", "test")]
    return next(split for split in splits if len(split))


def test_our_own_net_as_a_user_types_it_and_the_room_reads_it(tmp_path):
    weights = untrained.write(tmp_path / "go.safetensors")
    games = tmp_path / "games" / "deep"
    games.mkdir(parents=True)
    (games / "2015-09-16T14_32.sgf").write_text(GAME)
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-m", "data.go.prepare", "--games", tmp_path / "games", "--out", out,
                           "--weights", weights], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / prepare.FILE}: 1 games\n"
    found = everything(out)
    assert found.moves.tolist() == [[40, 56, 81, 24]]
    assert (found.komi.tolist(), found.ply.tolist(), found.game.tolist()) == ([7.0], [0, 1, 2, 3], [0] * 4)
    whole = np.load(out / prepare.FILE)
    assert (whole["result"].tolist(), whole["first_mover_is_black"].tolist()) == (["B+R"], [True])
    assert whole["game_file"].tolist() == ["2015-09-16T14_32.sgf"]
    net = judge.Net(str(weights), 1)
    game = Game.from_sgf(GAME)
    for ply in range(4):
        said = net.judge(game.at(ply))
        assert (found.policy[ply] == said.policy).all()
        assert found.winrate[ply] == np.float16(said.winrate)
        assert (found.ownership[ply] == said.ownership).all()
    assert found.policy[1, 40] == 0 < found.policy[1, 39]  # a stone is there
    sample = reader.Sample(found, augment=False)(1, np.random.default_rng(0))
    assert sample["move"] == 56


def test_one_evaluation_of_an_engine(tmp_path, told):
    games = archive(tmp_path / "games.tar.gz", {"x/a.sgf": GAME})
    code, out, err = told("--games", games, "--out", tmp_path / "out", "--engine", engine(tmp_path))
    assert (code, "1 games" in out) == (0, True), err
    found = everything(tmp_path / "out")
    assert found.winrate.tolist() == [np.float16(x) for x in (0.25, 0.75, 0.25, 0.75)]  # Black is to move first
    assert found.lead.tolist() == [-3.5, 3.5, -3.5, 3.5]
    assert [set(row.tolist()) for row in found.ownership] == [{-3}, {3}, {-3}, {3}]
    whole = 80 * 0.01 + 0.5 + 0.25
    assert found.policy[0].tolist() == [round(1023 * 0.01 / whole)] * 80 + [round(1023 * 0.5 / whole),
                                                                          round(1023 * 0.25 / whole)]
    assert found.policy[2, :2].tolist() == [0, 0]  # illegal
    log = (tmp_path / "log.txt").read_text()
    assert log.count("clear_board") == 1  # then move by move
    assert re.findall("play .*", log) == ["play b E5", "play w C3", "play b pass"]
    assert "kata-set-rules tromp-taylor" in log
    assert str(np.load(tmp_path / "out" / prepare.FILE)["teacher"]).endswith("engine.py")


def test_a_search_of_an_engine_is_stopped_when_it_is_enough(tmp_path, told):
    games = archive(tmp_path / "games.tar.gz", {"a.sgf": GAME})
    command = engine(tmp_path, known=("kata-analyze",))
    code, _, err = told("--games", games, "--out", tmp_path / "out", "--engine", command, "--visits", "50")
    assert code == 0, err
    found = everything(tmp_path / "out")
    assert found.policy[3].nonzero()[0].tolist() == [31, 81]
    assert found.policy[3, [31, 81]].tolist() == [767, 256]  # three in four
    assert set(found.winrate.tolist()) == {0.75}
    assert set(found.lead.tolist()) == {2.5}
    assert set(found.ownership.ravel().tolist()) == {-6}
    asked = re.findall("^kata-analyze .*", (tmp_path / "log.txt").read_text(), re.MULTILINE)
    assert asked == [f"kata-analyze {side} 20 ownership true" for side in "bwbw"]


def test_a_run_that_was_stopped_goes_on(tmp_path, told):
    games = {f"{name}.sgf": GAME.replace("gc", name * 2) for name in "abc"}
    source = archive(tmp_path / "games.tar.gz", games)
    trick = "if name == 'play' and 'A9' in words: sys.exit('out of luck')"
    games["d.sgf"] = games["c.sgf"].replace("B[ee]", "B[aa]")  # the engine dies over it
    broken = archive(tmp_path / "more.tar.gz", games)
    command = engine(tmp_path, trick=trick)
    code, _, err = told("--games", broken, "--out", tmp_path / "out", "--engine", command)
    assert code == 2
    assert "1 of 4 games could not be labelled" in err
    assert "out of luck" in err
    assert not (tmp_path / "out" / prepare.FILE).exists()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "labels").glob("*.npz")}
    assert len(before) == 3
    (tmp_path / "log.txt").unlink()
    code, out, _ = told("--games", source, "--out", tmp_path / "out", "--engine", command)
    assert (code, "3 games" in out) == (0, True)
    assert not (tmp_path / "log.txt").exists()  # nobody was asked again
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "labels").glob("*.npz")} == before
    code, _, _ = told("--games", source, "--out", tmp_path / "out", "--engine", command, "--visits", "9")
    assert code == 0
    assert "kata-analyze" in (tmp_path / "log.txt").read_text()  # other labels, made anew


def test_games_that_the_file_cannot_hold_are_left_out_and_counted(tmp_path, told):
    games = {"good.sgf": GAME, "large.sgf": GAME.replace("SZ[9]", "SZ[19]"), "noise.sgf": "noise",
             "white.sgf": "(;SZ[9];W[ee];B[cc])", "handicap.sgf": "(;SZ[9]HA[2]AB[cc][gg];W[ee])",
             "empty.sgf": "(;SZ[9])", "othello.sgf": "(;GM[2]SZ[8])",
             "ko.sgf": "(;SZ[9];B[ba];W[aa];B[ab];W[aa])", "again/good.sgf": "(;SZ[9];B[aa])"}
    source = archive(tmp_path / "games.tar.gz", games)
    command = ["--games", source, "--out", tmp_path / "out", "--engine", engine(tmp_path)]
    code, out, _ = told(*command)
    assert code == 0
    assert ": 1 games, left out: " in out
    for words in ("2 of another game or size", "1 that cannot be read", "1 with stones set up",
                  "1 with colours that do not alternate from Black", "1 without moves, or with over 400",
                  "1 with an illegal move"):
        assert words in out, out
    code, _, err = told("--games", archive(tmp_path / "n.tar.gz", {"x.sgf": "noise"}), "--out", tmp_path / "out2")
    assert (code, "none of 1 games can be used: 1 that cannot be read" in err) == (2, True)


@pytest.fixture
def web(tmp_path):
    """A server with a small archive of the public one's shape: its address and the paths asked for."""
    folder = tmp_path / "web"
    folder.mkdir()
    archive(folder / "x.tar.gz", {"alpha_zero-1/games/pro_games/go/9x9/a.sgf": GAME,
                                  "alpha_zero-1/games/pro_games/go/9x9/b.sgf": GAME.replace("gc", "aa"),
                                  "alpha_zero-1/games/selfplay_games/c.sgf": GAME, "alpha_zero-1/README.md": "no game"})
    seen = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            seen.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/x.tar.gz", seen
        server.shutdown()


def test_the_public_archive_is_fetched_once_and_compared_with_what_it_was(web, tmp_path, told, monkeypatch):
    url, seen = web
    command = ["--url", url, "--out", tmp_path / "out", "--engine", engine(tmp_path)]
    code, out, err = told(*command)
    assert (code, ": 2 games\n" in out) == (0, True), err
    assert "2 games that are not exactly the 10,268" in err
    games = prepare.read_games(tmp_path / "out" / f"games-{prepare.COMMIT[:7]}.tar.gz")
    assert sorted(games) == ["a.sgf", "b.sgf"]
    monkeypatch.setattr(prepare, "GAMES", 2)
    monkeypatch.setattr(prepare, "DIGEST", prepare.digest(games))
    code, out, err = told(*command, "--limit", "1")
    assert (code, ": 1 games\n" in out, "not exactly" in err) == (0, True, False)
    assert len(seen) == 1


@pytest.mark.real_data
def test_the_real_games_are_those_of_the_digest(real_data_root):
    games = prepare.read_games(real_data_root / "go" / "games_9x9" / "michaelnny_alpha_zero_games.tar.gz")
    assert (len(games), prepare.digest(games)) == (prepare.GAMES, prepare.DIGEST)


def test_bad_input_gets_a_sentence(tmp_path, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar.gz").write_bytes(b"noise")
    source = archive(tmp_path / "games.tar.gz", {"a.sgf": GAME})
    deaf = engine(tmp_path, known=())
    for words, sentence in ((["--games", tmp_path / "nowhere"], "is not there"),
                            (["--games", tmp_path / "empty"], "holds no .sgf files"),
                            (["--games", tmp_path / "broken.tar.gz"], "cannot be read as a .tar.gz archive"),
                            (["--games", source, "--visits", "0"], "--visits is 0"),
                            (["--games", source, "--limit", "0"], "--limit is 0"),
                            (["--games", source, "--engine", "/no/such/engine"], "cannot be started"),
                            (["--games", source, "--engine", deaf], "knows neither kata-raw-nn nor kata-analyze"),
                            (["--url", "ftp://x/y"], "not an http(s) address")):
        code, _, err = told(*words, "--out", tmp_path / "out")
        assert code == 2, err
        assert sentence in err.splitlines()[-1]
        assert not (tmp_path / "out" / prepare.FILE).exists()


@pytest.mark.parametrize("text", ["", "symmetry 0\nwhiteWin 0.5", "policy 1 2 3", "x"])
def test_half_an_answer_gets_a_sentence(text):
    with pytest.raises(ValueError, match="the engine's kata-raw-nn"):
        judge.read_raw(text, Game("go", 9))
    with pytest.raises(ValueError, match="the engine's kata-analyze"):
        judge.read_report(text, Game("go", 9))
