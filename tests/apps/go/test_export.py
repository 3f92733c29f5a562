"""The net as ONNX: the same answers from another runtime, on boards of every size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from apps.go import __main__ as shell
from apps.go import export
from apps.go.features import NUMBERS, PLANES
from apps.go.predict import read_net
from core import cli
from tests.apps.go import untrained

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The shipped net, written by the command as a user types it."""
    path = tmp_path_factory.mktemp("onnx") / "deep" / "model.onnx"
    done = subprocess.run([sys.executable, "-m", "apps.go", "export", path], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
    assert b"model.py" not in path.read_bytes()  # nor any other path of this machine
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_it_has_free_axes_and_carries_its_card(session):
    shapes = {value.name: value.shape for value in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes["planes"] == ["batch", PLANES, "rows", "columns"]
    assert shapes["numbers"] == ["batch", NUMBERS]
    assert shapes["ownership"] == ["batch", "rows", "columns"]
    assert list(shapes) == ["planes", "numbers", "policy", "value", "score", "ownership"]
    sheet = json.loads(session.get_modelmeta().custom_metadata_map["wunderkammer.card"])
    assert (sheet["app"], sheet["model"]) == ("go", read_net("default")[1].model)


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 5, 5), (3, 9, 9), (2, 19, 19), (1, 6, 7)])
def test_another_runtime_says_the_same(session, batch, rows, columns):
    net, _ = read_net("default")
    generator = torch.Generator().manual_seed(rows)
    planes = (torch.rand(batch, PLANES, rows, columns, generator=generator) < 0.2).float()
    planes[:, 0] = 1
    numbers = torch.rand(batch, NUMBERS, generator=generator)
    with torch.inference_mode():
        wanted = net.eval()(planes, numbers)
    found = session.run(None, {"planes": planes.numpy(), "numbers": numbers.numpy()})
    assert found[0].shape == (batch, 2, rows * columns + 1)
    for name, ours, theirs in zip(wanted._fields, wanted, found, strict=True):
        assert theirs.dtype == np.float32
        np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    assert float(wanted.policy.std()) > 0.1  # there is something to differ in


def test_a_game_with_other_moves(tmp_path):
    path = export.export(str(untrained.write(tmp_path / "go.safetensors", "connect4")), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    planes, numbers = np.ones((4, PLANES, 6, 7), np.float32), np.ones((4, NUMBERS), np.float32)
    assert session.run(["policy"], {"planes": planes, "numbers": numbers})[0].shape == (4, 2, 7)


def test_what_cannot_be_exported_gets_a_sentence(tmp_path, monkeypatch, capsys):
    def told(*words):
        monkeypatch.setattr(sys, "argv", ["apps.go", "export", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main(shell.main)
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "nowhere" in told(tmp_path / "model.onnx", "--weights", "nowhere")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert "extra `onnx`" in told(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
