"""Tiles to try the model on, and those that a visitor brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from apps.pathology.shelf import ROOT, shown

DRAWINGS = ROOT / "data" / "pcam" / "sample"
SYNTHETIC, REAL = "Synthetic", "PatchCamelyon"
REAL_TILES = 20


@dataclass(frozen=True)
class Sample:
    """A tile uint8 (96, 96, 3), what it is called, and what is known of it."""

    image: np.ndarray
    label: str
    truth: str


def kinds() -> list[str]:
    """Returns the kinds of samples at hand: real tiles where there are any, then this project's drawings."""
    return [REAL, SYNTHETIC] if _real() else [SYNTHETIC]


def tiles(kind: str) -> Mapping[str, Sample]:
    """Returns the samples of a kind by name."""
    return _real() if kind == REAL else _drawn()


def about(kind: str) -> str:
    """Says in one sentence where the samples of a kind come from."""
    if kind == REAL:
        return "Real tissue: tiles of PatchCamelyon's test split, which the model has not seen (CC0)."
    return "Synthetic tissue, not a patient: drawings by this project, to try the page with."


def uploaded(files: Iterable[Any], mpp: float | None) -> tuple[dict[str, np.ndarray], list[str]]:
    """Reads uploaded pictures: those that can be judged, by name, and a sentence on each that cannot.

    Args:
        files: binary files with a `name`.
        mpp: their micrometres per pixel, if not 0.97.
    """
    from apps.pathology.picture import read_picture
    from apps.pathology.predict import as_tiles

    images: dict[str, np.ndarray] = {}
    troubles = []
    for file in files:
        name = label = shown(file.name)
        while label in images:
            label = f"{name} ({sum(other.startswith(name) for other in images) + 1})"
        try:
            images[label] = as_tiles(read_picture(file, name), mpp)[0]
        except ValueError as error:
            trouble = str(error).replace("pass mpp, its microns per pixel", "say how many micrometres a pixel has")
            troubles.append(trouble if name in trouble else f"{name}: {trouble}")
    return images, troubles


@cache
def _drawn() -> dict[str, Sample]:
    from apps.pathology.picture import read_picture

    found = {}
    for path in sorted(DRAWINGS.glob("tile_*.png")):
        _, kind, number = path.stem.split("_")
        truth = "Drawn with tumour in the middle." if kind == "tumour" else "Drawn without tumour."
        found[f"{kind}-{number}"] = Sample(read_picture(path), f"{kind} {number}", truth)
    return found


@cache
def _real() -> dict[str, Sample]:
    from apps.pathology import data

    try:
        folder = data.folder()
        if folder == data.SAMPLE:
            return {}
        split = data.read(folder, "test")
    except (ValueError, OSError):
        return {}
    # As many of either label, spread over the split, in an order that does not give the label away.
    spread = [np.flatnonzero(split.labels == label) for label in (0, 1)]
    spread = [rows[np.linspace(0, len(rows) - 1, REAL_TILES // 2).astype(int)] for rows in spread if len(rows)]
    return {f"test-{i}": Sample(split.images[i], str(i), "Labelled tumour." if split.labels[i] else "Labelled normal.")
            for i in sorted(np.concatenate(spread).tolist())}
