"""Training as a user types it."""

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
import torch
from filelock import FileLock, Timeout
from scipy.special import expit

from apps import pathology
from apps.pathology import data
from apps.pathology.data import Augment
from apps.pathology.model import ModelConfig
from apps.pathology.train import PRESETS, Config, Data, Optimise, loss_fn, train
from core import card
from core.log import read
from core.loop import Fit

ROOT = Path(__file__).parents[3]
NAN, INF = float("nan"), float("inf")


def command(*words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "apps.pathology.train", *map(str, words)], cwd=ROOT, text=True,
                          capture_output=True, env=environment, timeout=300, check=False, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The tiny preset, run once by its command."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    done = command("tiny", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_tiny_learns_and_leaves_a_model_that_answers(run):
    out, done = run
    files = {"config.json", "log.jsonl", "times.jsonl", "last.pt", "pathology.safetensors"}
    assert files <= {p.name for p in out.iterdir()}
    losses = [r["loss"] for r in read(out / "log.jsonl") if r["event"] == "train"]
    assert losses[-1] < losses[0]
    assert "auroc" in done.stdout
    test = data.read(data.SAMPLE, "test")
    probability = pathology.load(out)(test.stack()).probability
    assert ((probability > 0.5) == test.labels).mean() > 0.8  # the sample is easy; guessing gives 0.5


def test_the_card_rebuilds_and_explains_the_model(run):
    sheet = card.read_card(run[0] / "pathology.safetensors")
    assert sheet.app == "pathology"
    assert sheet.model == json.loads((run[0] / "config.json").read_text())["model"]
    assert sheet.data["tiles"] == 64
    assert sheet.settings["calibrated_on"] == "pcam_val"
    assert 0 < sheet.step <= 16


def test_the_same_command_again_has_nothing_to_do(run):
    out, _ = run
    before = (out / "pathology.safetensors").read_bytes()
    again = command("tiny", "--out", out)
    assert again.returncode == 0, again.stderr
    assert (out / "pathology.safetensors").read_bytes() == before


def test_another_configuration_does_not_continue_a_run(run):
    done = command("tiny", "--out", run[0], "--optimise.lr", "0.1")
    assert done.returncode == 2
    assert "another optimise" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_training_leaves_the_config_of_the_first(tmp_path):
    tiny = replace(PRESETS["tiny"][1], out=tmp_path)
    (tmp_path / "config.json").write_text("of the first")
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match="another training is writing into"):
        train(replace(tiny, seed=7))
    assert (tmp_path / "config.json").read_text() == "of the first"


def test_the_folder_is_held_from_the_config_to_the_end(tmp_path, monkeypatch):
    """While the tiles are read, which is before `fit`, another process could neither write a config nor train."""
    from apps.pathology import train as room

    def refused(config):
        with pytest.raises(Timeout):
            FileLock(tmp_path / ".lock", timeout=0).acquire()
        raise KeyError("seen")

    monkeypatch.setattr(room, "read_tiles", refused)
    with pytest.raises(KeyError, match="seen"):
        train(replace(PRESETS["tiny"][1], out=tmp_path))
    FileLock(tmp_path / ".lock", timeout=0).acquire().lock.release()


def test_ctrl_c_loses_nothing(run, tmp_path):
    """Interrupted once, and gone on with by the same command, the log is that of the undisturbed run."""
    out = tmp_path / "run"
    words = [sys.executable, "-m", "apps.pathology.train", "tiny", "--out", str(out)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    log = out / "log.jsonl"
    deadline = time.time() + 120
    while time.time() < deadline and not (log.exists() and log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "goes on from there" in stderr
    assert "Traceback" not in stderr
    assert command("tiny", "--out", out).returncode == 0
    assert log.read_text() == (run[0] / "log.jsonl").read_text()
    ours, theirs = (card.read(folder / "pathology.safetensors") for folder in (out, run[0]))
    assert all(torch.equal(tensor, theirs[0][name]) for name, tensor in ours[0].items())
    assert ours[1].settings == theirs[1].settings


def test_help_is_a_page_and_a_wrong_flag_is_put_right():
    page = command("tiny", "--help").stdout
    for words in ("--optimise.lr", "Learning rate of the backbone", "--fit.steps", "--data.scanner"):
        assert words in page
    wrong = command("tiny", "--fit.stesp", "3")
    assert wrong.returncode == 2
    assert "--fit.steps" in wrong.stderr + wrong.stdout


@pytest.mark.parametrize(("words", "says"), [
    (("--data.folder", "/nowhere"), "not a folder"),
    (("--data.train", "trian"), "is not there"),
    (("--model.backbone", "lite9", "--model.side", "96"), "not known"),
    (("--data.batch", "0"), "batch"),
    (("--hardware.device", "tpu"), "device"),
    (("--hardware.world", "2"), "torchrun"),
    (("--start", "nothing.safetensors"), "not there"),
    (("--augment.shift", "30"), "augment.shift is 30; it must be at least 0"),
    (("--start", "default"), "is a model of another shape"),
])
def test_bad_input_gets_one_sentence(tmp_path, words, says):
    done = command("tiny", "--out", tmp_path / "run", *words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_preset_that_another_must_come_before_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny, default = PRESETS["tiny"][1], PRESETS["default"][1]
    with pytest.raises(ValueError, match=r"^runs/pathology/lite0 holds no model yet; run "
                                         r"`python -m apps\.pathology\.train lite0` first$"):
        train(replace(tiny, out=tmp_path / "run", start=default.start))


@pytest.mark.parametrize(("make", "name", "value"), [
    (Optimise, "lr", -1e-3), (Optimise, "head_lr", NAN), (Optimise, "weight_decay", INF), (Optimise, "warmup", -1),
    (Optimise, "smoothing", 1.5), (Augment, "stain", -0.1), (Augment, "sharpness", NAN), (Augment, "shift", -1),
    (Augment, "shift", 5), (Data, "batch", 0), (Data, "workers", -1), (Data, "scanner", 2), (ModelConfig, "growth", 0),
    (ModelConfig, "dropout", NAN), (ModelConfig, "drop_path", 1.0), (Config, "trust", 7.0), (Config, "mixup", -0.5),
    (Config, "seed", -1),
])
def test_numbers_that_make_no_sense_are_refused(make, name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value:g}; it must be at least "):
        make(**{name: value})


def test_two_processes_train_the_same_model(tmp_path):
    """torchrun with two processes and the same global batch; without dropout."""
    words = ["tiny", "--fit.steps", "2", "--fit.log-every", "1", "--model.dropout", "0", "--hardware.world", "2"]
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr",
                           "127.0.0.1", "--master-port", "29533", "-m", "apps.pathology.train", *words, "--out",
                           str(tmp_path / "two")], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert card.read_card(tmp_path / "two" / "pathology.safetensors").scores["val"]["auroc"] >= 0
    assert done.stdout.count("pathology.safetensors") == 1


def test_a_student_moves_towards_its_teacher(run, tmp_path):
    """With all trust in the teacher the labels do not matter, and the student ends nearer to it than it began."""
    tiny = PRESETS["tiny"][1]
    val = data.read(data.SAMPLE, "val").stack()
    teacher = expit(pathology.load(run[0], precision="float32").logits(val))
    config = replace(tiny, teachers=(str(run[0]),), trust=1.0, seed=3,
                     fit=Fit(steps=8, log_every=8, evaluate_every=1, save_every=8))
    gaps = []
    for steps in (1, 8):
        out = tmp_path / str(steps)
        train(replace(config, out=out, fit=replace(config.fit, steps=steps, evaluate_every=0)))
        student = expit(pathology.load(out, precision="float32").logits(val))
        gaps.append(np.abs(student - teacher).mean())
    assert gaps[1] < gaps[0]


def test_loss_is_cross_entropy_with_soft_targets():
    logits = torch.tensor([0.3, -1.2])
    labels = torch.tensor([1.0, 0.0])
    batch = (torch.zeros(2, 3, 1, 1), labels)
    p = torch.sigmoid(logits)
    plain = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert torch.allclose(loss_fn()(lambda x: logits, batch)[0], plain)
    taught = 0.25 * labels + 0.75 * 0.4
    wanted = -(taught * p.log() + (1 - taught) * (1 - p).log()).mean()
    assert torch.allclose(loss_fn(0.0, lambda x: torch.full((2,), 0.4), 0.75)(lambda x: logits, batch)[0], wanted)


def test_every_preset_can_be_built():
    from apps.pathology.model import build

    for name, (sentence, config) in PRESETS.items():
        assert sentence.endswith((".", "1.")), name
        assert build(config.model, pretrained=False) is not None
    assert {"tiny", "default"} <= set(PRESETS)
    assert PRESETS["tiny"][1].model == ModelConfig("p4m", side=48, growth=4)
