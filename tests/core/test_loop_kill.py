"""Trainings that die, at random instants and in the middle of a save; none leaves what cannot be read."""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import card, checkpoint, log
from tests.core.training import assert_same_run

ROOT = Path(__file__).resolve().parents[2]
LONG = {"steps": 300, "total": 300, "save_every": 1, "log_every": 3, "evaluate_every": 50, "average": 0.95}
Order = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def order() -> Iterator[Order]:
    """A function that runs a training in a process of its own and tells how it ended."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.core.zygote"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as zygote:

        def give(out: Path, life: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
            task = {"train": {"out": str(out), **options}, "life": life or {}}
            print(json.dumps(task), file=zygote.stdin, flush=True)
            return json.loads(zygote.stdout.readline())

        yield give
        zygote.kill()


def readable(out: Path) -> int:
    """Reads all that a run has left behind and returns the step that it would go on from."""
    names = [path.name for path in out.iterdir() if not path.name.endswith(".part")]
    assert set(names) <= {".lock", "last.pt", "log.jsonl", "times.jsonl", "best.safetensors"}
    state = checkpoint.load(out / "last.pt", "toy") if "last.pt" in names else {"step": 0}
    if "best.safetensors" in names:
        card.read(out / "best.safetensors")
    if "log.jsonl" in names:
        assert all(record["step"] for record in log.read(out / "log.jsonl"))
    return state["step"]


def test_killed_at_random_instants_a_run_ends_with_the_bits_of_one_left_alone(order, tmp_path):
    chance = random.Random(3)
    steps = [0]
    for _ in range(24):
        life = {"calls": chance.randint(1, 12), "seconds": chance.uniform(0, 0.03)}
        ended = order(tmp_path / "killed", life, **LONG)
        assert ended["status"] == -9, ended["errors"]
        steps.append(readable(tmp_path / "killed"))
    assert steps == sorted(steps)
    assert 24 < steps[-1] < 300
    for out in ("killed", "alone"):
        ended = order(tmp_path / out, **LONG)
        assert ended["status"] == 0, ended["errors"]
    assert_same_run(tmp_path / "killed", tmp_path / "alone")
    assert not list((tmp_path / "killed").glob(".*.part"))


@pytest.mark.parametrize("place", ["half written", "before sync", "before rename", "after rename"])
def test_killed_in_the_middle_of_a_save_the_old_state_or_the_new_one_is_there(order, tmp_path, place):
    short = {"steps": 12, "total": 12, "save_every": 3, "log_every": 2, "evaluate_every": 6}
    seen = []
    for count in (1, 2, 3, 2, 3):
        ended = order(tmp_path / "killed", {"place": place, "count": count}, **short)
        assert ended["status"] in (-9, 0), ended["errors"]
        seen.append((ended["status"], readable(tmp_path / "killed")))
    assert [status for status, _ in seen].count(-9) >= 3
    assert [step for _, step in seen] == sorted(step for _, step in seen)
    for out in ("killed", "alone"):
        assert order(tmp_path / out, **short)["status"] == 0
    assert_same_run(tmp_path / "killed", tmp_path / "alone")


def said(ended: dict[str, Any]) -> str:
    """The one sentence with which a command line ends on bad input, without the progress bar before it."""
    assert ended["status"] == 2, ended
    assert "Traceback" not in ended["errors"]
    lines = [line for line in ended["errors"].splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ended["errors"]
    return lines[0]


def test_a_disk_that_fills_up_ends_the_run_in_one_sentence_and_keeps_the_last_state(order, tmp_path):
    short = {"total": 12, "save_every": 3, "log_every": 2}
    assert order(tmp_path / "run", steps=6, **short)["status"] == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    sentence = said(order(tmp_path / "run", {"largest_file": 8000}, steps=12, **short))
    assert "last.pt cannot be written" in sentence
    assert "free space or choose another folder" in sentence
    assert (tmp_path / "run" / "last.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*.part"))
    assert order(tmp_path / "run", steps=12, **short)["status"] == 0


def test_a_folder_that_cannot_be_written_is_named_in_one_sentence(order):
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, into which only its owner may look
        run = Path(folder) / "run"
        run.mkdir()
        run.chmod(0o555)
        Path(folder).chmod(0o755)
        sentence = said(order(run, {"user": 65534} if os.geteuid() == 0 else {}))
        assert f"{run} cannot be written: Permission denied" in sentence
        assert "choose another folder with --out" in sentence


def test_a_folder_that_cannot_be_made_is_named_in_one_sentence(order, tmp_path):
    (tmp_path / "file").write_text("in the way")
    sentence = said(order(tmp_path / "file" / "run"))
    assert f"{tmp_path / 'file' / 'run'} cannot be written: Not a directory" in sentence
