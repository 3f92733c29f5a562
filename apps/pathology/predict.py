"""From pixels to calibrated probabilities: the predictor that programs, pages and slides share."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apps.pathology import calibration
from apps.pathology.calibration import Bin, Calibration, Conformal
from apps.pathology.data import MPP, OPTICAL_DENSITY, SIDE, Tiles, dihedral, to_tensor
from apps.pathology.inference import ready, saliency
from apps.pathology.model import ModelConfig, Net, build
from core import card, weights
from core.card import Card
from core.checked import typed
from core.runtime import Precision, find_device

APP = "pathology"
TABLE = Path(__file__).parent / "weights.toml"
BATCH = 64
ALPHA = 0.05
STAINED = 0.15
"""Mean optical density of a stained pixel; that of tiles is 0 on glass."""


@dataclass(frozen=True)
class Result:
    """What the model says of N tiles."""

    probability: np.ndarray
    """(N,) float32: calibrated probability of tumour in the centre 32x32."""
    uncertain: np.ndarray
    """(N,) bool: the model declines to answer (its conformal set is not the more probable class, or no tissue)."""
    _tiles: np.ndarray = field(repr=False)
    _saliency: Callable[[np.ndarray], np.ndarray] = field(repr=False)

    def __len__(self) -> int:
        return len(self.probability)

    def saliency(self) -> np.ndarray:
        """Where the tumour logit looks, by Grad-CAM: (N, 96, 96) float32 in [0, 1]."""
        return self._saliency(self._tiles)

    @property
    def tiles(self) -> np.ndarray:
        """The tiles as the model saw them, at 0.97 um/px: (N, 96, 96, 3) uint8."""
        return self._tiles


class Predictor:
    """A trained model that answers; it never changes, so threads may share it.

    Attributes:
        card: the model's card.
        device, precision: what it computes on and with.
        sha256: of the weights file.
    """

    def __init__(self, net: Net, sheet: Card, *, device: str = "auto", precision: Precision = "auto",
                 alpha: float = ALPHA, sha256: str = "") -> None:
        self.card, self.sha256 = sheet, sha256
        settings = sheet.settings
        if "calibration" not in settings:
            raise ValueError(f"model {sheet.name!r} was never calibrated; run "
                             "`python -m apps.pathology.evaluate calibrate FILE`")
        try:
            self.calibration = Calibration.from_dict(settings["calibration"])
            self.conformal = _conformal(settings, ALPHA)
            for row in settings.get("reliability", ()):
                typed(Bin, row)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"model {sheet.name!r} has no sound calibration ({error}); run "
                             "`python -m apps.pathology.evaluate calibrate FILE`") from error
        if alpha != ALPHA:
            self.conformal = _conformal(settings, alpha)
        self.device = find_device(device)
        self._net = ready(net, self.device, precision)
        self._exact = net.to(self.device)
        self.precision = str(next(self._net.parameters()).dtype).removeprefix("torch.")

    def __call__(self, images: np.ndarray | Sequence[np.ndarray], mpp: float | None = None, *,
                 symmetries: bool = False) -> Result:
        """Judges tiles.

        Args:
            images: one (H, W, 3) uint8 RGB array, or several as a sequence or an (N, H, W, 3) array. 96x96 pixels at
                0.97 um/px are taken as they are.
            mpp: micrometres per pixel, if not 0.97: pictures are resampled, and their middle 96x96 is judged.
            symmetries: average over the eight turns and mirrors of each tile: 8 times slower, a little better.

        Raises:
            ValueError: if there is no image, or one is not uint8 RGB, or is too small, or needs `mpp`.
        """
        tiles = as_tiles(images, mpp)
        logits = self.logits(tiles, symmetries=symmetries)
        probability = self.calibration.probability(logits)
        return Result(probability, self.conformal.uncertain(probability) | empty(tiles), tiles, self._grad_cam)

    def probabilities(self, tiles: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N,) float32 of native tiles (N, 96, 96, 3) uint8."""
        return self.calibration.probability(self.logits(tiles))

    def logits(self, tiles: np.ndarray, *, symmetries: bool = False) -> np.ndarray:
        """Uncalibrated logits (N,) float32 of native tiles (N, 96, 96, 3) uint8, in batches of 64."""
        if symmetries:
            return np.mean([self.logits(dihedral(tiles, g)) for g in range(8)], axis=0)
        rows = [np.empty(0, np.float32)]
        with torch.inference_mode():
            for begin in range(0, len(tiles), BATCH):
                rows.append(self._net(self._placed(tiles[begin : begin + BATCH])).float().cpu().numpy())
        return np.concatenate(rows)

    def slide(self, path: str | Path, mpp: float | None = None,
              progress: Callable[[int, int], None] | None = None, out: str | Path | None = None) -> Any:
        """Maps a whole slide: the probability of tumour in every 32x32 px cell (31 um) of its tissue.

        Args:
            path: a slide in any OpenSlide format, or a TIFF, PNG or JPEG.
            mpp: micrometres per level-0 pixel, if the file does not say.
            progress: called with (cells done, cells in all).
            out: a folder for the result; an interrupted slide goes on from what lies there.

        Returns:
            A `SlideResult`.
        """
        from apps.pathology.slide import score_slide

        return score_slide(path, self.probabilities, mpp=mpp, batch=BATCH, out=out, progress=progress,
                           fingerprint=self.sha256, uncertain=self.conformal.uncertain)

    def _placed(self, tiles: np.ndarray) -> torch.Tensor:
        return to_tensor(tiles).to(self.device, memory_format=torch.channels_last)

    def _grad_cam(self, tiles: np.ndarray) -> np.ndarray:
        parts = [saliency(self._exact, self._placed(tiles[i : i + BATCH])).cpu().numpy()
                 for i in range(0, len(tiles), BATCH)]
        return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *parts])


def load(weights: str | Path = "default", device: str = "auto", *, precision: Precision = "auto",
         alpha: float = ALPHA) -> Predictor:
    """Loads a predictor.

    Args:
        weights: a published name, a .safetensors file, a run folder, or `hf://owner/repo/file`.
        device: auto, cpu, cuda or cuda:1.
        precision: auto takes bfloat16 where it is faster.
        alpha: risk at which the model declines to answer.
    """
    path = find(weights)
    net, sheet = read_net(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Predictor(net, sheet, device=device, precision=precision, alpha=alpha, sha256=digest)


def find(name: str | Path) -> Path:
    """The verified local file of published or own weights."""
    return weights.find(name, app=APP, table=TABLE)


def read_net(name: str | Path) -> tuple[Net, Card]:
    """Rebuilds a net in float32 from its card, on the CPU."""
    path = find(name)
    tensors, sheet = card.read(path, APP)
    return _rebuilt(path, tensors, sheet).requires_grad_(False), sheet


def _rebuilt(path: Path, tensors: dict[str, torch.Tensor], sheet: Card) -> Net:
    try:
        net = build(typed(ModelConfig, sheet.model), pretrained=False)
    except ValueError as error:
        raise ValueError(f"{path}: its card describes no model known here ({error}); update the program") from error
    card.rebuild(path, net, tensors)
    return net


def calibrate(path: Path, tiles: Tiles, device: str = "cpu") -> Card:
    """Fits calibration and abstention of a model file on held-out tiles, in float32, and writes them into its card."""
    tensors, sheet = card.read(path, APP)
    net = _rebuilt(path, tensors, sheet)
    images = tiles.stack()
    with torch.inference_mode():
        logits = np.concatenate([net(to_tensor(images[i : i + BATCH])).numpy() for i in range(0, len(images), BATCH)])
    fitted = calibration.fit(logits, tiles.labels)
    probability = fitted.probability(logits)
    doubts = [np.sort(np.round(1 - p if c else p, 5)).tolist()
              for c, p in ((c, probability[tiles.labels == c].astype(float)) for c in (0, 1))]
    settings = {"calibration": fitted.to_dict(), "calibrated_on": tiles.name, "doubts": doubts,
                "reliability": calibration.reliability(probability, tiles.labels, 10)}
    sheet = dataclasses.replace(sheet, settings=settings)
    card.write(path, tensors, sheet)
    return sheet


def _conformal(settings: dict[str, Any], alpha: float) -> Conformal:
    """Abstention at any risk, from the sorted doubts about the true class that the card keeps."""
    zero, one = (np.asarray(doubts) for doubts in settings["doubts"])
    if any(doubts.dtype.kind not in "fiu" for doubts in (zero, one)):
        raise ValueError("its doubts are no numbers")
    return Conformal.fit(np.concatenate([zero, 1 - one]), np.repeat([0, 1], [len(zero), len(one)]), alpha)


def as_tiles(images: np.ndarray | Sequence[np.ndarray], mpp: float | None = None) -> np.ndarray:
    """Pictures of any size and resolution as native tiles (N, 96, 96, 3) uint8; see `Predictor.__call__`."""
    if not isinstance(images, Sequence):
        array = np.asarray(images)  # a PIL image too
        if not array.ndim:
            raise ValueError(f"a {type(images).__name__} is no image; pass (H, W, 3) uint8 RGB arrays, one or a list")
        images = array[None] if array.ndim == 3 else array
    if mpp is not None and (not isinstance(mpp, Real) or isinstance(mpp, bool) or not 0.05 <= mpp <= 2):
        raise ValueError(f"mpp is {mpp!r}; micrometres per pixel lie between 0.05 and 2 (coarser hides the nuclei), "
                         "such as 0.25 for 40x")
    if not len(images):
        raise ValueError("there is no image to judge; pass at least one (H, W, 3) uint8 RGB array")
    return np.stack([_native(np.asarray(image), mpp) for image in images])


def empty(tiles: np.ndarray) -> np.ndarray:
    """(N,) bool: tiles (N, H, W, 3) uint8 of glass: fewer than 1 % of their pixels are stained at all."""
    return (OPTICAL_DENSITY[tiles].mean(-1) > STAINED).mean((1, 2)) < 0.01


def _native(image: np.ndarray, mpp: float | None) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image has the shape {image.shape} and type {image.dtype}; wanted (H, W, 3) uint8 RGB")
    height, width = image.shape[:2]
    if mpp is None:
        if (height, width) == (SIDE, SIDE):
            return image
        raise ValueError(f"an image has {width}x{height} pixels, not {SIDE}x{SIDE}; pass mpp, its microns per pixel")
    scale = mpp / MPP
    rows, columns = round(height * scale), round(width * scale)
    if min(rows, columns) < SIDE:
        covered = min(width, height) * mpp
        raise ValueError(f"an image of {width}x{height} pixels at {mpp} um/px covers {covered:.0f} um; "
                         f"a tile needs {SIDE * MPP:.0f} um in both directions")
    # The very code that reads slides, so that a picture and a slide of it get the same answer.
    from apps.pathology.reader import SlideReader
    from apps.pathology.sources import ArraySource

    reader = SlideReader(ArraySource(image), mpp=mpp)
    side = SIDE / scale
    return reader.read_at((width - side) / 2, (height - side) / 2, SIDE, SIDE, 1 / scale)
