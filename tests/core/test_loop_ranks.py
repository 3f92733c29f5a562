"""Two processes under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core import checkpoint, log
from tests.core.training import assert_same_run, train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two ranks left, each on a disk of its own; see ranks.py."""
    folder = tmp_path_factory.mktemp("ranks")
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    ran = subprocess.run(
        [sys.executable, *words, "-m", "tests.core.ranks", str(folder)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize(("run", "options"), [("plain", {"plain": True}), ("normed", {"dropout": 0})])
def test_two_processes_end_with_the_weights_of_one(folder, tmp_path, run, options):
    train(tmp_path, **options, accumulate=1)
    one, two = (checkpoint.load(out / "last.pt", "toy") for out in (tmp_path, folder / "disk0" / run))
    for kind in ("model", "average"):
        assert one[kind].keys() == two[kind].keys()
        for name, tensor in one[kind].items():
            torch.testing.assert_close(tensor, two[kind][name], rtol=0, atol=1e-6)
    records = [log.read(out / "log.jsonl") for out in (tmp_path, folder / "disk0" / run)]
    for alone, together in zip(*records, strict=True):
        assert alone.pop("event") == together.pop("event")
        assert alone == pytest.approx(together, rel=1e-4)


def test_batch_norm_over_uneven_parts_is_that_of_the_whole(folder):
    pictures, weights = (torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(k)) + 10 for k in (0, 1))
    norm, x = torch.nn.BatchNorm2d(4), pictures.requires_grad_()
    y = norm(x)
    (y * weights).sum().backward()
    parts = [torch.load(folder / f"uneven{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert len(parts[0]["y"]) != len(parts[1]["y"])
    for name, whole in (("y", y), ("x", x.grad)):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts[0]["gain"] + parts[1]["gain"], norm.weight.grad, rtol=1e-5, atol=1e-4)
    for name, tensor in norm.state_dict().items():
        for part in parts:
            torch.testing.assert_close(part[name], tensor, rtol=0, atol=1e-6)


def test_evaluation_counts_each_sample_once(folder):
    for rank in (0, 1):
        first, second = json.loads((folder / f"rank{rank}.json").read_text())["shares"]
        assert sorted(first + second) == list(range(51))
        assert abs(len(first) - len(second)) == 1
    for record in log.read(folder / "disk0" / "plain" / "log.jsonl"):
        assert record.get("n", 51) == 51


def test_interrupted_two_processes_go_on_bit_for_bit_though_they_share_no_disk(folder):
    assert_same_run(folder / "disk0" / "alone", folder / "disk0" / "resumed")
    assert not list((folder / "disk1").rglob("*.pt"))
    for rank in (0, 1):
        assert "stopped after step 13 of 40" in json.loads((folder / f"rank{rank}.json").read_text())["said"]


def test_another_world_size_than_asked_for_is_an_error(folder):
    for rank in (0, 1):
        wrong = json.loads((folder / f"rank{rank}.json").read_text())["wrong"]
        assert wrong.startswith("2 processes started, 3 asked for by --hardware.world")
        assert "torchrun --nproc-per-node 3" in wrong
