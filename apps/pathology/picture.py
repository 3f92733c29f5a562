"""From a picture file, or bytes that a visitor sent, to HWC uint8 RGB: within limits, and with a sentence if not."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tifffile import TiffFile

MOST_PIXELS = 20_000_000
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")


def read_picture(
    source: str | Path | bytes | BinaryIO, name: str = "", *, most_pixels: int = MOST_PIXELS
) -> np.ndarray:
    """Reads a small picture as (H, W, 3) uint8 RGB; for whole slides there is `reader.open_slide`.

    Alpha is laid on white, palettes, CMYK and 16-bit colour are converted, EXIF rotation is undone.

    Args:
        name: what to call it in an error; the file's name by default.

    Raises:
        ValueError: if it is no picture, is truncated, has no colour, or more than `most_pixels` pixels.
    """
    name = name or (str(source) if isinstance(source, str | Path) else "the picture")
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise ValueError(f"{name} is not a file; pass the path of a picture")
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # we have our own, lower limit on pixels
            opened = Image.open(source, formats=FORMATS)
            if opened.width * opened.height > most_pixels:
                raise ValueError(f"{name} has {opened.width}x{opened.height} pixels, a tile at most {most_pixels:,}; "
                                 "open it as a slide, or crop it")
            return _rgb(ImageOps.exif_transpose(opened), name)
    except Image.DecompressionBombError:
        raise ValueError(f"{name} claims more pixels than a tile can have; open it as a slide, or crop it") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is {_unknown(source)}; use {', '.join(FORMATS)} with 8 bits a colour") from None
    except (OSError, SyntaxError, EOFError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ValueError(f"{name} is truncated or damaged ({reason}); get it anew") from error


def _unknown(source: str | Path | BinaryIO) -> str:
    """What a file is that Pillow does not read: TIFF knows more kinds of samples than pictures have."""
    if not isinstance(source, str | Path):
        source.seek(0)
    with suppress(Exception), TiffFile(source) as file:  # a damaged header raises many types
        page = file.pages.first
        return f"a TIFF with {page.samplesperpixel} samples a pixel of type {page.dtype}, which is not read"
    return "not a picture of a known kind"


def _rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode in ("1", "L", "LA", "La", "F", "I") or image.mode.startswith("I;16"):
        raise ValueError(f"{name} has no colour (mode {image.mode}); the model reads colours of stain")
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.asarray(image.convert("RGB"))
