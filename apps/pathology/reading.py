"""A score in words, a saliency in colours, a result as a file: what a person sees and takes along.

Legend: H, W pixels of a picture; N tiles.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

FEW = 20  # patches in a bin below which its share says little
SHOWN = 384  # pixels along the edge of a patch on the page
DECLINES = "the model declines to answer"


@dataclass(frozen=True)
class Reading:
    """A probability as people are told it."""

    name: str
    probability: float
    uncertain: bool
    word: str
    """`tumour`, `no tumour`, or `the model declines to answer`."""
    sentence: str
    """What share of held-out patches that were scored like this one is tumour."""

    @property
    def short(self) -> str:
        """The word and the number."""
        return f"{self.answer} · {self.number}"

    @property
    def answer(self) -> str:
        """`tumour`, `no tumour` or `declines`."""
        return "declines" if self.uncertain else self.word

    @property
    def number(self) -> str:
        """The probability with two decimals; never as 0 or 1, for the model is never certain."""
        if self.probability < 0.005:
            return "< 0.01"
        return "> 0.99" if self.probability >= 0.995 else f"{self.probability:.2f}"


def read(name: str, probability: float, uncertain: bool, bins: Sequence[Mapping[str, Any]] = ()) -> Reading:
    """Puts a calibrated probability into words.

    Args:
        bins: the model's reliability, rows of `low`, `high`, `observed` (share of tumour) and `n`.
    """
    probability = float(probability)
    word = DECLINES if uncertain else "tumour" if probability >= 0.5 else "no tumour"
    return Reading(str(name), round(probability, 6), bool(uncertain), word, _share(probability, bins))


def _share(probability: float, bins: Sequence[Mapping[str, Any]]) -> str:
    held = next((b for b in bins if _in(b, probability)), None)
    if held is None or not held["n"]:
        return "No held-out patch was scored like this."
    if held["n"] < FEW:
        return f"Only {held['n']} held-out patches were scored like this: too few to say how often they are tumour."
    return f"Of {held['n']:,} held-out patches scored like this, {100 * held['observed']:.0f} % are tumour."


def diagram(bins: Sequence[Mapping[str, Any]], probability: float) -> list[dict[str, Any]]:
    """Returns the rows of a reliability diagram: bins that hold patches, and whether this probability falls in them."""
    return [{"said": b["mean"], "seen": b["observed"], "patches": b["n"],
             "here": "yes" if _in(b, probability) else "no"} for b in bins if b["n"]]


def _in(row: Mapping[str, Any], probability: float) -> bool:
    return row["low"] <= probability and (probability < row["high"] or row["high"] >= 1)


def as_json(readings: Sequence[Reading], about: Mapping[str, Any]) -> str:
    """Returns readings, with facts about the model that made them, as JSON."""
    return json.dumps({**about, "tiles": [asdict(reading) for reading in readings]}, indent=2)


def as_csv(readings: Sequence[Reading]) -> str:
    """Returns readings as CSV; a name that a spreadsheet would take for a formula gets a quote before it."""
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow(["name", "probability", "uncertain", "word"])
    for r in readings:
        rows.writerow(["'" + r.name if r.name[:1] in "=+-@\t\r" else r.name, r.probability, r.uncertain, r.word])
    return file.getvalue()


def enlarged(tile: np.ndarray) -> np.ndarray:
    """Returns a tile uint8 (96, 96, 3) at 384 pixels, the square in its middle that is judged outlined."""
    big = Image.fromarray(tile).resize((SHOWN, SHOWN), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(big)
    for inset, colour in ((0, "black"), (1, "white")):
        third = SHOWN // 3
        pen.rectangle((third + inset, third + inset, 2 * third - inset, 2 * third - inset), outline=colour)
    return np.asarray(big)


def overlay(tile: np.ndarray, saliency: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Returns a tile uint8 (H, W, 3) at 384 pixels under its saliency (H, W) in [0, 1], opaque where that is high.

    A saliency reaches 1 somewhere even where next to nothing speaks for tumour; `weight`, such as the probability, says
    how loud it may be.
    """
    from matplotlib import colormaps

    side = (SHOWN, SHOWN)
    loud = np.asarray(Image.fromarray(saliency.astype(np.float32)).resize(side, Image.Resampling.BILINEAR))
    loud = weight * loud.clip(0, 1)
    big = np.asarray(Image.fromarray(tile).resize(side, Image.Resampling.BICUBIC)).astype(float)
    cover = 0.55 * loud[..., None]
    return np.rint(big * (1 - cover) + 255 * colormaps["viridis"](loud)[..., :3] * cover).astype(np.uint8)


def glaze(rgba: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Returns a map's picture uint8 (h, w, 4), clearer where the probability is low: the tissue stays to be seen."""
    cover = np.where(np.isfinite(heatmap), 110 + 145 * np.nan_to_num(heatmap), 0)
    return np.dstack([rgba[..., :3], cover.astype(np.uint8)])


def png(pixels: np.ndarray) -> bytes:
    """Returns a picture uint8 (H, W, 3 or 4) as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()
