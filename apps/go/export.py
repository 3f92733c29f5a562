"""The net as an ONNX file, for runtimes that know no PyTorch: `python -m apps.go export model.onnx`.

Batch and board size stay free. Inputs are those of `features.encode`, outputs those of `model.Output`, all float32; the
model's card lies in the file's metadata under `wunderkammer.card`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import warnings
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from apps.go.features import NUMBERS, PLANES
from apps.go.model import Output
from apps.go.predict import read_net
from apps.go.state import spec
from core.files import publishing


def export(weights: str, path: Path) -> Path:
    """Writes a net's ONNX file.

    Raises:
        ValueError: if there is no such net, or what PyTorch's exporter needs is not installed.
    """
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise ValueError("ONNX files need the packages onnx and onnxscript, which are not installed: install the extra "
                         "`onnx` (uv sync --extra onnx, or pip install '.[onnx]')")
    net, card = read_net(weights)
    board = spec(net.config.game)
    example = (torch.zeros(2, PLANES, board.rows, board.columns), torch.zeros(2, NUMBERS))
    free: tuple[dict[int, str], dict[int, str]] = ({0: "batch", 2: "rows", 3: "columns"}, {0: "batch"})
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about its own names
        program = torch.onnx.export(net.eval(), example, dynamo=True, input_names=["planes", "numbers"],
                                    output_names=list(Output._fields), dynamic_shapes=free, verbose=False)
    assert program is not None
    for node in program.model.graph:  # the exporter notes from which files of this machine each came
        parts: list[Any] = [node, *node.outputs]
        for part in parts:
            part.metadata_props.clear()
    program.model.metadata_props["wunderkammer.card"] = json.dumps(dataclasses.asdict(card), default=str)
    with publishing(path) as written:
        program.save(str(written), external_data=False)
    return path
