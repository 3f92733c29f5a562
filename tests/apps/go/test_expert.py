"""Matches and ratings, and the whole command of self-play: killed, misused, without room."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apps.go import arena, plan, rating, rules
from apps.go.state import spec
from core import card

ROOT = Path(__file__).parents[3]
FOUR = spec("connect4")
TINY = [sys.executable, "-m", "apps.go.train", "tiny-selfplay", "--hardware.threads", "1", "--workers.count", "1"]


def test_searches_of_random_games_beat_random_play_and_repeat():
    bout = arena.Bout("a", arena.anchor("rollouts@60"), arena.anchor("random"), FOUR, 20, 2, 3)
    points = arena.fight(bout)["points"]
    assert points.mean() >= 0.9
    assert np.array_equal(points, arena.fight(bout)["points"])
    turned = arena.fight(replace(bout, a=bout.b, b=bout.a))
    assert turned["points"].mean() <= 0.1
    for name in ("rollouts", "rollouts@0", "rollouts@x", "gnugo"):
        with pytest.raises(ValueError, match="no anchor"):
            arena.anchor(name)


def test_ratings_of_two_are_the_logarithm_of_the_odds():
    found = rating.ratings([rating.Result("a", "b", 75, 100)], "b", prior=0)
    assert found["b"].elo == 0
    assert found["a"].elo == pytest.approx(400 * np.log10(3), abs=0.1)
    half = 1.96 * rating.SCALE / np.sqrt(100 * 0.75 * 0.25)
    assert found["a"].high - found["a"].elo == pytest.approx(half, abs=0.1)


def test_ratings_add_up_along_a_chain_and_stay_finite():
    results = [rating.Result("a", "b", 75, 100), rating.Result("b", "random", 75, 100)]
    found = rating.ratings(results, "random", prior=0)
    assert found["a"].elo == pytest.approx(800 * np.log10(3), abs=0.1)
    assert np.isfinite(rating.ratings([rating.Result("a", "random", 40, 40)], "random")["a"].elo)
    assert rating.ratings([], "random")["random"].elo == 0
    image = rating.picture({0: found["b"], 4: found["a"]}, {"random": found["random"]}, "a title")
    assert image[:4] == b"\x89PNG"


def run(out, *words, **more):
    return subprocess.run([*TINY, "--out", str(out), *words], cwd=ROOT, capture_output=True, text=True, timeout=600,
                          **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = run(out)
    assert done.returncode == 0, done.stderr
    return out


def tensors(path):
    return {name: tensor.numpy().tobytes() for name, tensor in card.read(path)[0].items()}


def test_the_command_leaves_games_nets_ratings_and_a_player(whole):
    from apps import go

    found = sorted(p.stem for p in (whole / "games").glob("*.npz"))
    assert found == ["g0000-00", "g0000-01", "g0001-00", "g0001-01"]
    table = json.loads((whole / "elo.json").read_text())
    assert set(table["ratings"]) == {"random", "g0000", "g0001", "g0002"}
    assert (whole / "elo.png").read_bytes()[:4] == b"\x89PNG"
    player, game = go.load(whole), go.Game("connect4")
    assert player.analyse(game, visits=20).move in game.legal()
    before = (whole / "log.jsonl").read_bytes()
    again = run(whole)
    assert again.returncode == 0, again.stderr
    assert (whole / "log.jsonl").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
def test_killed_again_and_again_it_ends_with_the_same_weights(whole, tmp_path):
    """Killed after games, within a training and after the first match, it loses no game that was finished."""
    out = tmp_path / "run"
    marks = (out / "games" / "g0000-00.npz", out / "last.pt", out / "matches" / "g0001-random.npz")
    for mark in marks:
        process = subprocess.Popen([*TINY, "--out", str(out)], cwd=ROOT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        until = time.monotonic() + 300
        while not mark.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert mark.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in (out / "games").glob("*.npz")}
    done = run(out)
    assert done.returncode == 0, done.stderr
    assert all((out / "games" / name).stat().st_mtime_ns == at for name, at in kept.items())
    for name in ("g0001", "g0002"):
        assert tensors(out / "nets" / f"{name}.safetensors") == tensors(whole / "nets" / f"{name}.safetensors")
    assert (out / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()


@pytest.mark.parametrize(("words", "says"), [
    (("--play.full", "0"), "play.full is 0"),
    (("--gate.anchors", "gnugo@x"), "gnugo@x"),
    (("--model.game", "othello", "--board.size", "9"), "othello is played on 8x8"),
    (("--learn.archive", "0.5"), "9x9 Go alone"),
    (("--begin", "default"), "plays go, and model.game is connect4"),
    (("--seed", "1"), "another seed"),
])
def test_bad_input_gets_one_sentence(whole, tmp_path, words, says):
    done = run(whole if "--seed" in words else tmp_path / "r", *words)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_two_writers_are_told(whole):
    from core.files import owning

    with owning(whole):
        done = run(whole)
    assert done.returncode == 2
    assert "another training is writing" in done.stderr


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from apps.go import games
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    games.write(Path(sys.argv[1]), {"moves": np.random.default_rng(0).random(9999)})
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit on the size of files stands for a full disk")
def test_a_full_disk_is_told(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / "x.npz"], cwd=ROOT, capture_output=True, text=True,
                          timeout=300)
    assert "x.npz cannot be written" in done.stdout, done.stderr
    assert "the same command goes on" in done.stdout


def test_two_processes_train_one_net(tmp_path):
    """Under torchrun the first rank has the games played, and both learn."""
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
             "--rdzv-endpoint", "localhost:0", *TINY[1:], "--out", str(tmp_path / "run"), "--hardware.world", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("games/s") == 2, "one line for each generation, from the first rank alone"
    assert set(json.loads((tmp_path / "run" / "elo.json").read_text())["ratings"]) == {
        "random", "g0000", "g0001", "g0002"}


def test_presets_are_consistent():
    for name, (_, config) in plan.PRESETS.items():
        assert plan.terms(config).actions > 1, name
        assert rules.new(plan.terms(config)).shape == (plan.terms(config).length,)
