"""The packed form of PatchCamelyon: lossless WebP tiles one after another in a single .npz file.

Keys: `webp` uint8 (bytes of all tiles), `offsets` int64 (N + 1), `label` uint8 (N), `scanner_group` uint8 (N),
`tissue_fraction` float16 (N), `id` S40 (N). Tile i is `webp[offsets[i]:offsets[i + 1]]`.
"""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TILE = 96  # pixels on a side
BLUE_SHARE = 0.255  # below it a tile is blue-purple (scanner group 1)


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Gives optical density, float64 (H, W, 3), natural logarithm, of a uint8 RGB picture."""
    return -np.log((image.astype(np.float64) + 1) / 256)


def tissue_fraction(image: NDArray[np.uint8]) -> float:
    """Gives the share of pixels, in [0, 1], whose mean optical density is above 0.15."""
    return float((optical_density(image).mean(-1) > 0.15).mean())


def scanner_group(image: NDArray[np.uint8]) -> int:
    """Guesses the scanner from the tissue's colour: 1 is blue-purple, 0 is pink-brown or no tissue."""
    od = optical_density(image)
    od = od[od.mean(-1) > 0.15]
    return int(len(od) > 0 and od[:, 2].sum() / od.sum() < BLUE_SHARE)


def write_npz(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    label: NDArray[np.uint8],
    group: NDArray[np.uint8] | None,
    ids: NDArray[np.bytes_],
) -> None:
    """Packs tiles uint8 (96, 96, 3) into `path`, whole or not at all; the scanner group is guessed where it is None."""
    blobs, fraction, guessed = [], [], []
    for image in images:
        if image.shape != (TILE, TILE, 3) or image.dtype != np.uint8:
            raise ValueError(f"a tile must be 96x96x3 uint8, this one is {image.shape} {image.dtype}")
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=60, method=4)
        blobs.append(buffer.getvalue())
        fraction.append(tissue_fraction(image))
        guessed.append(scanner_group(image) if group is None else 0)
    if not len(blobs) == len(label) == len(ids):
        raise ValueError(f"{len(blobs)} tiles, {len(label)} labels and {len(ids)} ids do not match")
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            np.savez(
                file,
                webp=np.frombuffer(b"".join(blobs), np.uint8),
                offsets=np.cumsum([0] + [len(b) for b in blobs]).astype(np.int64),
                label=np.asarray(label, np.uint8),
                scanner_group=np.asarray(guessed if group is None else group, np.uint8),
                tissue_fraction=np.asarray(fraction, np.float16),
                id=np.asarray(ids, "S40"),
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
