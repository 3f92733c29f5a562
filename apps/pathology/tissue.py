"""Which cells of a slide's grid hold tissue, found at low power from colour.

Haematoxylin and eosin give glass a colour; the threshold on saturation is Otsu's (1979), kept within a sane range so
that a slide without glass, or without tissue, is not cut in two. Black borders, and blue, green and red ink, are not
tissue. Legend: H, W pixels of a low-power picture; h, w cells of the grid.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import ndimage

SHARE = 0.1  # a cell counts as tissue when at least this share of it is tissue
SPECK_MM2 = 0.005  # smaller islands of tissue are dirt
HOLE_MM2 = 0.02  # smaller holes are scored too: lumina and cracks lie within tissue
SATURATION = (0.05, 0.1)  # the threshold stays in this range
_FINENESS = 8  # a low-power pixel covers 8 x 8 pixels of the net's resolution, so 4 x 4 make a cell of 32
_BLOCK = 64  # cells a side read at once


class Plane(Protocol):
    """What the mask needs of a slide: a `SlideReader`, or anything that reads like one."""

    size: tuple[int, int]

    def read_at(self, x: float, y: float, width: int, height: int, downsample: float) -> np.ndarray: ...

    def thumbnail(self, max_px: int = 1024) -> np.ndarray: ...


@dataclass(frozen=True)
class Stain:
    """What separates tissue from glass on one slide: the colour of glass, and the least saturation of tissue."""

    glass: tuple[float, float, float]  # RGB in [225, 255]
    saturation: float

    @classmethod
    def of(cls, overview: np.ndarray) -> "Stain":
        """Find both on a small picture of the whole slide, HWC uint8 RGB."""
        lit = overview[np.maximum(overview[..., 0], np.maximum(overview[..., 1], overview[..., 2])) > 60]  # (n, 3)
        if not len(lit):
            return cls((255.0, 255.0, 255.0), SATURATION[1])
        brightest = np.percentile(lit, 99, axis=0)
        if np.ptp(brightest) > 20:  # too colourful for glass: there is none
            brightest[:] = 255
        red, green, blue = np.clip(brightest, 225, 255)
        glass = (float(red), float(green), float(blue))
        saturation, ink = _saturation(overview, glass)
        counts, _ = np.histogram(saturation[~ink], bins=256, range=(0, 1))
        return cls(glass, float(np.clip(otsu(counts) / 256, *SATURATION)))

    def tissue(self, picture: np.ndarray) -> np.ndarray:
        """Return (H, W) bool: the pixels of an HWC uint8 RGB picture that are tissue, single pixels voted down."""
        saturation, ink = _saturation(picture, self.glass)
        return ndimage.uniform_filter(((saturation >= self.saturation) & ~ink).astype(np.float32), 3) > 0.5


def tissue_mask(slide: Plane, cell: float, shape: tuple[int, int], cell_um: float, share: float = SHARE) -> np.ndarray:
    """Return (h, w) bool: the grid's cells, each `cell` level-0 pixels and `cell_um` microns wide, that hold tissue.

    Reads the slide block by block at low power, so memory does not grow with the slide.
    """
    parts = max(1, round(cell_um / 0.972 / _FINENESS))  # low-power pixels a side of a cell
    downsample, (h, w) = cell / parts, shape
    stain = Stain.of(slide.thumbnail(1024))
    shares = np.zeros(shape, np.float32)
    for row in range(0, h, _BLOCK):
        for column in range(0, w, _BLOCK):
            down, across = min(_BLOCK, h - row), min(_BLOCK, w - column)
            left, top = column * parts - 1, row * parts - 1  # one more pixel around, for the vote
            size = (across * parts + 2, down * parts + 2)
            picture = slide.read_at(left * downsample, top * downsample, *size, downsample)
            tissue = stain.tissue(picture)[1:-1, 1:-1]
            cells = tissue.reshape(down, parts, across, parts).mean(axis=(1, 3))
            shares[row : row + down, column : column + across] = cells
    cell_mm2 = (cell_um / 1000) ** 2
    speck = min(SPECK_MM2 / cell_mm2, shares.size / 20)  # a picture of a few cells has no specks
    return tidy(shares >= share, speck, HOLE_MM2 / cell_mm2)


def tidy(mask: np.ndarray, speck: float, hole: float) -> np.ndarray:
    """Return a bool mask without islands below `speck` cells and without enclosed holes below `hole` cells."""
    islands, _ = ndimage.label(mask, np.ones((3, 3)))
    big = np.bincount(islands.ravel()) >= speck
    big[0] = False
    kept = big[islands]
    holes, count = ndimage.label(~kept)
    small = np.bincount(holes.ravel(), minlength=count + 1) < hole
    edge = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    small[edge] = False  # what reaches the border is not enclosed
    small[0] = False
    return kept | small[holes]


def otsu(counts: np.ndarray) -> int:
    """Return the first bin of the upper class that makes the variance between two classes of a histogram greatest."""
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    first = np.cumsum(counts * np.arange(len(counts)))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (first[:-1] / below - (first[-1] - first[:-1]) / above) ** 2
    between[~np.isfinite(between)] = 0
    best = np.flatnonzero(between == between.max())
    return int(best[len(best) // 2]) + 1 if between.max() > 0 else 0


def _saturation(picture: np.ndarray, glass: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W) float32 saturation in [0, 1] with glass made grey, and (H, W) bool: black or ink."""
    red, green, blue = (np.minimum(picture[..., i] / np.float32(glass[i]), 1) for i in range(3))  # (H, W) each
    most = np.maximum(np.maximum(red, green), blue)  # three times as fast as rgb.max(axis=-1)
    least = np.minimum(np.minimum(red, green), blue)
    saturation = 1 - least / np.maximum(most, 1e-3)
    black = most < 0.22
    cold = (saturation > 0.35) & (green >= red + 0.03)  # blue and green ink; stained nuclei keep more red than green
    hot = (red > 0.45) & (np.maximum(green, blue) < 0.3 * red)  # red ink
    return saturation, black | cold | hot
