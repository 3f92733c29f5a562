"""One writer of pyramidal tiled TIFF files that OpenSlide, QuPath and tifffile open."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from core.files import publishing


def halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Gives the picture (H, W, 3) at half the size, (ceil(H / 2), ceil(W / 2), 3): means of 2x2 pixels."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge").astype(np.uint16)
    total = padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def write_pyramid(
    path: Path,
    image: NDArray[np.uint8],
    mpp: float,
    *,
    quality: int | None = None,
    tile: int = 256,
    smallest: int = 256,
    description: str = "",
) -> Path:
    """Writes `image` uint8 (H, W, 3) RGB, `mpp` micrometres per pixel, as a tiled pyramid, whole or not at all.

    With `quality` (1 to 100) the tiles are JPEG, without it they are deflated and every pixel is kept. Levels halve
    until both sides are at most `smallest` pixels. The resolution stands in the tags in pixels per centimetre.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a slide must be uint8 (H, W, 3), this is {image.dtype} {image.shape}")
    if not mpp > 0:
        raise ValueError(f"micrometres per pixel must be above 0, not {mpp}")
    codec: dict = (
        {"compression": "zlib", "predictor": True}
        if quality is None
        else {"compression": "jpeg", "compressionargs": {"level": quality}}
    )
    with publishing(path) as part, tifffile.TiffWriter(part) as file:
        scale, level = 1.0, image
        while True:
            file.write(
                level,
                photometric="rgb",
                tile=(tile, tile),
                resolution=(1e4 / (mpp * scale), 1e4 / (mpp * scale)),
                resolutionunit="CENTIMETER",
                subfiletype=0 if scale == 1 else 1,  # 1: a smaller copy of the first page
                description=description if scale == 1 else None,
                metadata=None,
                software="wunderkammer",
                **codec,
            )
            if max(level.shape[:2]) <= smallest:
                break
            scale, level = scale * 2, halve(level)
    return path
