"""Where slide pixels come from: OpenSlide formats and plain pictures, as levels of 8-bit RGB chunks (TIFF: tiff.py).

A source cuts every level into a fixed grid of chunks, because a pixel that is always read as part of the same chunk
always has the same value: what a tile contains never depends on what was read around it.

Legend: H, W height and width of a chunk in level pixels; S samples per pixel.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import openslide
from PIL import Image, UnidentifiedImageError

WHOLE_LIMIT = 64_000_000  # pixels of a picture that is not tiled and must be decoded in one piece (8,000 x 8,000)
TILE_LIMIT = 4096 * 4096  # pixels of a tile, which is always decoded whole: 50 MB, less than a reader's cache
CHUNK = 512  # pixels, where the format has no tiles of its own
ADVICE = "save it as a tiled, pyramidal TIFF (such as: vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg)"
_PICTURES = ("PNG", "JPEG", "WEBP", "BMP")


class Source(Protocol):
    """Gives the chunks of a slide; safe to call from several threads at once."""

    sizes: list[tuple[int, int]]  # (width, height) of each level, largest first
    chunks: list[tuple[int, int]]  # (width, height) of one chunk of each level
    mpp: tuple[float, float] | None  # microns per level-0 pixel in x and y, as the file says, unchecked

    def chunk(self, level: int, column: int, row: int) -> np.ndarray | None:
        """Return one chunk as HWC uint8 RGB (edge chunks may be cropped), or None where there is nothing (white)."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class OpenSlideSource:
    """Reads the scanner formats that OpenSlide knows (SVS, NDPI, MRXS, SCN, DICOM, BIF, ...)."""

    def __init__(self, path: Path):
        self._slide = openslide.OpenSlide(path)
        self.sizes = [(int(w), int(h)) for w, h in self._slide.level_dimensions]
        self.chunks = [(CHUNK, CHUNK)] * len(self.sizes)
        for level in range(len(self.sizes)):
            sides = (f"openslide.level[{level}].tile-{side}" for side in ("width", "height"))
            check_tile(path.name, *(int(self._slide.properties.get(side, CHUNK)) for side in sides))
        said = [self._slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        self.mpp = (number(said[0]), number(said[1])) if all(said) else None

    def chunk(self, level: int, column: int, row: int) -> np.ndarray | None:
        width, height = self.sizes[level]
        x, y = column * CHUNK, row * CHUNK
        scale = self._slide.level_downsamples[level]
        size = (min(CHUNK, width - x), min(CHUNK, height - y))
        try:
            picture = self._slide.read_region((round(x * scale), round(y * scale)), level, size)
        except openslide.OpenSlideError as error:
            raise ValueError(f"the slide is truncated or damaged at level {level} ({short(error)})") from error
        return on_white(np.asarray(picture))

    def close(self) -> None:
        self._slide.close()


Colouring = Callable[[np.ndarray], np.ndarray]  # samples (H, W, S) -> RGB (H, W, 3) uint8


class ArraySource:
    """Serves an array (H, W, S) that lies in memory or is mapped from an uncompressed file."""

    def __init__(
        self,
        pixels: np.ndarray,
        mpp: tuple[float, float] | None = None,
        colour: Colouring | None = None,
    ):
        self._pixels, self._colour = pixels, colour
        self.sizes = [(pixels.shape[1], pixels.shape[0])]
        self.chunks = [(CHUNK, CHUNK)]
        self.mpp = mpp

    def chunk(self, level: int, column: int, row: int) -> np.ndarray | None:
        part = self._pixels[row * CHUNK : (row + 1) * CHUNK, column * CHUNK : (column + 1) * CHUNK]
        return part if self._colour is None else self._colour(np.asarray(part))

    @property
    def held(self) -> int:
        """Bytes in memory; 0 for what is mapped from a file."""
        return 0 if isinstance(self._pixels, np.memmap) else self._pixels.nbytes

    def close(self) -> None:
        self._pixels = np.zeros((0, 0, 3), np.uint8)


def picture_source(path: Path) -> ArraySource:
    """Open a PNG, JPEG, WebP or BMP whole; a picture above 64 million pixels is refused before it is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            picture = Image.open(path, formats=_PICTURES)
    except Image.DecompressionBombError as error:
        said = short(error).split(" exceeds", 1)[0]
        raise ValueError(f"{path.name} has too many pixels for one piece ({said}); {ADVICE}") from error
    except UnidentifiedImageError as error:
        kinds = "OpenSlide formats, TIFF, PNG, JPEG, WebP, BMP"
        raise ValueError(f"{path.name} is not a picture that can be read here ({kinds})") from error
    with picture:
        if picture.width * picture.height > WHOLE_LIMIT:
            size = f"{picture.width} x {picture.height}"
            raise ValueError(f"{path.name} has {size} pixels in one piece, more than {WHOLE_LIMIT:,}; {ADVICE}")
        try:
            if picture.mode.startswith("I"):  # 16-bit grey
                grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
                return ArraySource(np.repeat(grey[..., None], 3, axis=-1))
            if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
                return ArraySource(on_white(np.asarray(picture.convert("RGBA"))))
            return ArraySource(np.asarray(picture.convert("RGB")))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a file that ends too soon
            raise ValueError(f"{path.name} is truncated or damaged ({short(error)})") from error


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8: (H, W, 4) uint8 with straight alpha laid on white."""
    alpha = rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgba[..., :3])
    cover = alpha.astype(np.uint32)
    return ((rgba[..., :3] * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8)


def check_tile(what: str, width: int, height: int) -> None:
    """Raise ValueError for tiles too large to decode one whenever a corner of it is looked at."""
    if width * height > TILE_LIMIT:
        raise ValueError(f"{what} has tiles of {width:,} x {height:,} pixels, too large to decode; {ADVICE}")


def readable(name: str) -> str:
    """Return a file's name that can be shown and written: bytes that are no UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def number(text: str | None) -> float:
    try:
        return float(str(text).replace(",", "."))
    except ValueError:
        return math.nan


def short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
