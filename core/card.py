"""One .safetensors file with its model card inside: a lone file can be rebuilt and explained."""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from core.checked import typed
from core.files import write as publish

FORMAT = 1


@dataclass(frozen=True)
class Card:
    """What a model is, what it learned from, and how well."""

    app: str
    """The room it belongs to."""
    model: dict[str, Any]
    """The model's configuration: enough to rebuild the net."""
    training: dict[str, Any] = field(default_factory=dict)
    """The resolved configuration of the training run."""
    data: dict[str, Any] = field(default_factory=dict)
    """What it was trained on: name, licence, number of samples, sha256."""
    step: int = 0
    """Optimizer steps done."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Held-out scores, the name of the split among their keys."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the app needs beside the weights, such as its calibration."""
    licence: str = "Apache-2.0"
    """SPDX name of the weights' licence."""
    commit: str = ""
    """The commit of this project that trained it."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of Python and of the libraries that shape the numbers."""
    date: str = ""
    """The day it was written, ISO 8601."""
    name: str = ""
    """A short name for people."""


def signed(card: Card) -> Card:
    """Fills in commit, versions and date as they are now."""
    return dataclasses.replace(
        card, commit=_commit(), date=datetime.date.today().isoformat(),
        versions={"python": sys.version.split()[0], **{name: _version(name) for name in ("torch", "timm", "numpy")}},
    )


def brief(value: Any) -> Any:
    """A card's facts for people: six digits, and of long rows and tables, which only the program reads, the length."""
    if isinstance(value, Mapping):
        return {key: brief(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        most = 4 if any(isinstance(inner, Mapping) for inner in value) else 20
        return [brief(inner) for inner in value] if len(value) <= most else f"{len(value):,} values"
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write(path: Path, tensors: dict[str, Tensor], card: Card, dtype: torch.dtype | None = None) -> Path:
    """Publishes tensors and their card in one file, whole or not at all.

    Args:
        dtype: stores floating-point tensors as this type (float16 halves the file).

    Raises:
        ValueError: if a tensor holds NaN or infinity, or does not fit the type.
    """
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if dtype and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name!r} holds NaN or infinity as {tensor.dtype}; this model is not written")
        plain[name] = tensor.clone()
    text = json.dumps({"format": FORMAT, **dataclasses.asdict(card)}, sort_keys=True)
    publish(path, lambda file: file.write(to_bytes(plain, metadata={"card": text})))
    return path


def read_card(path: Path) -> Card:
    """Reads the card alone, without the tensors.

    Raises:
        ValueError: if the file is no safetensors file, has no card, or a card of a newer format or with wrong values.
    """
    with _opened(path) as file:
        return _parse(path, file.metadata())


def read(path: Path, app: str | None = None) -> tuple[dict[str, Tensor], Card]:
    """Reads tensors, as they are stored, and card.

    Raises:
        ValueError: as `read_card`, and if the model belongs to another app than `app` or holds NaN.
    """
    with _opened(path) as file:
        card = _parse(path, file.metadata())
        if app and card.app != app:
            raise ValueError(f"{path} is a model of {card.app!r}, not of {app!r}; pass weights of {app!r}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path} holds NaN or infinity in {name!r}; it is damaged, get it anew")
    return tensors, card


def rebuild(path: Path, model: torch.nn.Module, tensors: dict[str, Tensor]) -> torch.nn.Module:
    """Loads tensors into a fresh model in float32, and says in one sentence if they do not fit it."""
    try:
        model.load_state_dict({k: t.float() if t.is_floating_point() else t for k, t in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model its card describes "
                         f"({' '.join(str(error).split())[:120]}); get the file anew") from error
    return model.eval()


def _opened(path: Path) -> Any:
    if not Path(path).is_file():
        raise ValueError(f"{path} is not a file; pass a .safetensors file of this project")
    try:
        return safetensors.safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable .safetensors file ({error}); get it anew") from error


def _parse(path: Path, metadata: dict[str, str] | None) -> Card:
    if not metadata or "card" not in metadata:
        raise ValueError(f"{path} has no model card inside; it was not made by this project")
    try:
        values = json.loads(metadata["card"])
        written = values.pop("format")
        json.dumps(values, indent=1)  # nested so deep that it cannot be shown, it is no card
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its model card cannot be read ({error}); get the file anew") from error
    if type(written) is not int or not 1 <= written <= FORMAT:
        raise ValueError(f"{path} has a card of format {written}, this program reads up to {FORMAT}; update it")
    known = {f.name for f in dataclasses.fields(Card)}
    try:
        return typed(Card, {key: value for key, value in values.items() if key in known})
    except ValueError as error:
        raise ValueError(f"{path}: its model card is wrong or incomplete ({error}); get the file anew") from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    try:
        run = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True,
                             cwd=Path(__file__).parent, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip()
