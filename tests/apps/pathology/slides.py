"""Small slides that tests draw themselves."""

import math
from pathlib import Path

import numpy as np
import tifffile

from apps.pathology.sources import Source


def tissue_picture(width: int = 700, height: int = 500, seed: int = 0) -> np.ndarray:
    """Return HWC uint8 RGB: a pink disc with dark blue dots on glass that is almost white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.full((height, width, 3), 244, np.int16)
    disc = (x - width / 2) ** 2 / (0.35 * width) ** 2 + (y - height / 2) ** 2 / (0.35 * height) ** 2 < 1
    picture[disc] = (222, 150, 190)
    for cx, cy in rng.uniform((0, 0), (width, height), (width * height // 400, 2)):
        left, top = int(cx) - 3, int(cy) - 3
        part = np.s_[max(top, 0) : top + 6, max(left, 0) : left + 6]
        picture[part][disc[part]] = (90, 60, 140)
    return np.clip(picture + rng.integers(-4, 5, picture.shape), 0, 255).astype(np.uint8)


def write_slide(path: Path, picture: np.ndarray, mpp: float | None = 0.486, levels: int = 1, **how: object) -> Path:
    """Write a tiled TIFF with `levels` levels, each half of the last, and microns per pixel in its tags."""
    how = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib", "metadata": None, **how}
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            if mpp is not None:
                resolution = (10_000 / mpp / 2**level,) * 2
                how |= {"resolution": resolution, "resolutionunit": "CENTIMETER"}
            writer.write(picture, subfiletype=int(level > 0), **how)
            half = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            halves = half.reshape(half.shape[0] // 2, 2, half.shape[1] // 2, 2, -1).mean((1, 3))
            picture = halves.round().astype(picture.dtype)
    return path


def colour_score(tiles: np.ndarray) -> np.ndarray:
    """Score a tile by how dark red its middle is; deterministic, and of the tile alone."""
    middle = tiles[:, 32:64, 32:64, 0].reshape(len(tiles), -1).astype(np.int64).sum(axis=1)  # (N,)
    return np.clip((250 - middle / 1024) / 120, 0, 1).astype(np.float32)


class Painted:
    """A source of any size that paints its chunks when asked: a disc of tissue in the middle, nothing elsewhere."""

    def __init__(self, size: int, radius: int, downsamples: tuple[int, ...] = (1,), mpp: float | None = 0.243):
        self.sizes = [(math.ceil(size / d), math.ceil(size / d)) for d in downsamples]
        self.chunks = [(512, 512)] * len(downsamples)
        self.mpp = None if mpp is None else (mpp, mpp)
        self._size, self._radius, self._downsamples = size, radius, downsamples
        self.reads = 0

    def chunk(self, level: int, column: int, row: int) -> np.ndarray | None:
        self.reads += 1
        down = self._downsamples[level]
        middle, reach = self._size / 2 / down, self._radius / down
        nearest = [min(max(middle, at * 512), at * 512 + 512) for at in (column, row)]
        if math.dist(nearest, (middle, middle)) > reach:
            return None
        y, x = np.ogrid[row * 512 : row * 512 + 512, column * 512 : column * 512 + 512]
        inside = (x - middle) ** 2 + (y - middle) ** 2 < reach**2
        pixels = np.where(inside[..., None], np.array((200, 120, 170), np.uint8), np.uint8(255))
        pixels[..., 0] -= np.where(inside, (x * down // 700 + y * down // 900) % 40, 0).astype(np.uint8)
        return pixels

    def close(self) -> None:
        self.sizes = []


_: type[Source] = Painted
