"""Lanczos resampling in which a pixel never depends on what is computed beside it.

Pillow resamples; its coefficients depend, in the last bits, on where its box begins. So pixels are made in strips that
begin at multiples of 32 output pixels, along x and then along y: a strip is computed in the same way whatever else is
read with it, and a tile read by itself equals the tile cut from a larger region, bit for bit.
"""

import math

import numpy as np
from PIL import Image

STRIP = 32  # output pixels

Strip = tuple[int, int, float, float]  # first and last source pixel, begin and end of the box within them


def grid(position: tuple[float, float]) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return whole output pixels and what is left over, with float noise around whole numbers removed."""
    clean = [float(round(p)) if abs(p - round(p)) < 1e-4 else p for p in position]
    whole = (math.floor(clean[0]), math.floor(clean[1]))
    return whole, (clean[0] - whole[0], clean[1] - whole[1])


def strips(start: int, size: int, phase: float, scale: float) -> tuple[list[Strip], int, int]:
    """Return strips (first and last source pixel, box within) that cover the output pixels, and their extent."""
    margin = math.ceil(3 * max(scale, 1.0)) + 1  # what a Lanczos kernel sees beyond the edge
    found = []
    for first in range(start // STRIP * STRIP, start + size, STRIP):
        at = (first + phase) * scale
        low, high = math.floor(at) - margin, math.ceil(at + STRIP * scale) + margin
        found.append((low, high, at - low, at - low + STRIP * scale))
    return found, found[0][0], found[-1][1]


def squeeze(pixels: np.ndarray, parts: list[Strip], origin: int) -> np.ndarray:
    """Return pixels (H, W, 3) resampled along W to 32 pixels a strip."""
    image, height = Image.fromarray(np.ascontiguousarray(pixels)), pixels.shape[0]
    done = []
    for low, high, begin, end in parts:
        part = image.crop((low - origin, 0, high - origin, height))
        done.append(np.asarray(part.resize((STRIP, height), Image.Resampling.LANCZOS, (begin, 0, end, height))))
    return np.concatenate(done, axis=1)
