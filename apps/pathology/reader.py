"""A slide in microns: any region at any resolution, and thumbnails, in bounded memory.

The picture is a plane of level-0 pixels; x goes right, y down, and pixel i covers [i, i + 1). Outside the slide, and
where it is transparent or was never scanned, everything is white.

Thread safety: every public method may be called from several threads at once on one `SlideReader`. Chunks are decoded
outside the lock and kept in a cache of bounded bytes, shared by all threads.
"""

import math
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from apps.pathology.resample import STRIP, grid, squeeze, strips
from apps.pathology.sources import ArraySource, OpenSlideSource, Source, picture_source, readable, short
from apps.pathology.tiff import tiff_source

MPP_RANGE = (0.05, 2.0)  # microns per pixel; coarser hides the nuclei, and 72 dpi, which many files claim, is 353
CACHE_BYTES = 64 * 1024**2  # of decoded chunks, per reader
LARGEST = 1_000_000  # pixels a side; at 0.25 um/px a quarter of a metre
OVERVIEW = 2048  # longest side, pixels, of the small picture kept for slides without low-power levels
COARSER = 1.05  # a level up to 5 % coarser than asked for is enlarged, which saves a 16-fold read at 0.25 um/px
_PIECE = 512  # output pixels resampled at once

Level = tuple[Source, int, float]  # a source, the index of its level, level-0 pixels per pixel


class SlideReader:
    """Reads regions of one slide at any resolution; made by `open_slide`, closed by `close` or a with block."""

    def __init__(self, source: Source, name: str = "slide", mpp: float | None = None, path: Path | None = None):
        """Wrap a source; `mpp`, microns per level-0 pixel, overrules what the file says (ValueError if absurd)."""
        self._source, self.path = source, path
        self.name = readable(name)
        self.size: tuple[int, int] = source.sizes[0]
        self.mpp, self._mpp_trouble = (check_mpp(mpp), "") if mpp is not None else _believable(source.mpp)
        self.level_downsamples: tuple[float, ...] = tuple(_downsample(self.size, size) for size in source.sizes)
        self._levels: list[Level] = [(source, i, d) for i, d in enumerate(self.level_downsamples)]
        self._lock, self._overview_lock = threading.Lock(), threading.Lock()
        self._cache: OrderedDict[tuple[int, int, int, int], np.ndarray | None] = OrderedDict()
        self._cached = 0
        self._kept_overview: ArraySource | None = None
        self._overview_trouble = ""

    def need_mpp(self) -> float:
        """Return microns per level-0 pixel, or ask for it: ValueError naming the option to pass."""
        if self.mpp is None:
            said = self._mpp_trouble or "does not say its microns per pixel"
            raise ValueError(f"slide {self.name} {said}; pass mpp=... (--mpp), e.g. 0.25 for 40x or 0.5 for 20x")
        return self.mpp

    def read(self, x: float, y: float, width: int, height: int, mpp: float) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB at `mpp` microns per pixel, its corner at level-0 pixel (x, y)."""
        return self.read_at(x, y, width, height, check_mpp(mpp, limits=(0.01, 1e5)) / self.need_mpp())

    def read_at(self, x: float, y: float, width: int, height: int, downsample: float) -> np.ndarray:
        """Return (height, width, 3) uint8 RGB; output pixel i covers level-0 pixels x + i d to x + (i + 1) d.

        Lanczos over the best level; what is 3 or more times finer is first averaged in boxes of 2^n pixels.
        """
        if width < 1 or height < 1 or not downsample > 0:
            raise ValueError(f"a region of {width} x {height} pixels at downsample {downsample} cannot be read")
        out = np.full((height, width, 3), 255, np.uint8)
        level, finer = self._best(downsample)
        unit = level[2] * finer
        scale = downsample / unit
        if abs(scale - 1) * max(self.size) / unit < 0.25:  # not a quarter of a pixel apart over the whole slide
            scale = 1.0
        (column, row), phase = grid((x / downsample, y / downsample))
        for top in range(0, height, _PIECE):
            for left in range(0, width, _PIECE):
                w, h = min(_PIECE, width - left), min(_PIECE, height - top)
                if not self._outside(x + left * downsample, y + top * downsample, w * downsample, h * downsample):
                    part = self._resample(level, finer, (column + left, row + top), (w, h), phase, scale)
                    out[top : top + h, left : left + w] = part
        return out

    def at_hand(self, downsample: float) -> bool:
        """Tell whether a region at this downsample is read at once; else the whole slide is first read through."""
        kept = self._kept_overview is not None or bool(self._overview_trouble)
        return kept or self._fitting(downsample)[0] is not None

    def read_through(self) -> None:
        """Make the small picture that `at_hand` asks for; ValueError if the slide is damaged, then and ever after."""
        if (overview := self._overview_downsample) is not None:
            self._overview(overview)

    @property
    def unseen(self) -> int:
        """How many pixels of the file are read through for a first look from afar; 0 where its levels end small."""
        return 0 if self._overview_downsample is None else math.prod(self._source.sizes[-1])

    @property
    def held(self) -> int:
        """Bytes of pixels in memory."""
        arrays = [part for part in (self._source, self._kept_overview) if isinstance(part, ArraySource)]
        return self._cached + sum(array.held for array in arrays)

    def thumbnail(self, max_px: int = 1024) -> np.ndarray:
        """Return the whole slide as HWC uint8 RGB with a longest side of at most `max_px` pixels, never enlarged."""
        downsample = max(1.0, max(self.size) / max(1, max_px))
        width, height = (max(1, round(n / downsample)) for n in self.size)
        return self.read_at(0, 0, width, height, downsample)

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._source.close()

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _best(self, downsample: float) -> tuple[Level, int]:
        """Return the coarsest level that is fine enough, and the power of two by which to average it first."""
        level, finer = self._fitting(downsample)
        if level is not None:
            return level, finer
        overview = self._overview_downsample
        assert overview is not None
        return (self._overview(overview), 0, overview), round(finer * self._levels[-1][2] / overview)

    def _fitting(self, downsample: float) -> tuple[Level | None, int]:
        """Return what `_best` does, with None for the level where averages of the last one are kept: the overview."""
        fine = [level for level in self._levels if level[2] <= downsample * COARSER]
        best = fine[-1] if fine else self._levels[0]
        ratio = downsample / best[2]
        finer = 2 ** max(0, math.floor(math.log2(ratio / 1.5)))
        overview = self._overview_downsample
        far = overview is not None and best is self._levels[-1] and finer * best[2] >= overview
        return None if far else best, finer

    @property
    def _overview_downsample(self) -> float | None:
        """Level-0 pixels per pixel of the overview; None where the file's own levels end small enough."""
        last = self.level_downsamples[-1]
        side = max(self.size) / last
        return None if side <= 2 * OVERVIEW else last * 2 ** math.ceil(math.log2(side / OVERVIEW))

    def _overview(self, downsample: float) -> ArraySource:
        """Return the slide averaged to 2048 pixels at most; it is read through for this on first use only."""
        with self._overview_lock:
            if self._overview_trouble:
                raise ValueError(self._overview_trouble)
            if self._kept_overview is None:
                level, finer = self._levels[-1], round(downsample / self.level_downsamples[-1])
                width, height = (math.ceil(n / downsample) for n in self.size)
                pixels = np.full((height, width, 3), 255, np.uint8)
                for top in range(0, height, 128):
                    for left in range(0, width, 128):
                        w, h = min(128, width - left), min(128, height - top)
                        try:
                            part = self._plane(level, finer, left, top, w, h)
                        except ValueError as error:
                            self._overview_trouble = str(error)
                            raise
                        pixels[top : top + h, left : left + w] = _white(part, w, h)
                self._kept_overview = ArraySource(pixels)
            return self._kept_overview

    def _outside(self, x: float, y: float, width: float, height: float) -> bool:
        return x >= self.size[0] or y >= self.size[1] or x + width <= 0 or y + height <= 0

    def _resample(
        self,
        level: Level,
        finer: int,
        start: tuple[int, int],
        size: tuple[int, int],
        phase: tuple[float, float],
        scale: float,
    ) -> np.ndarray:
        """Return `size` output pixels from index `start`; pixel i covers level pixels (i + phase) scale onwards."""
        if scale == 1 and phase == (0, 0):  # the level's own pixels
            return _white(self._plane(level, finer, *start, *size), *size)
        (lefts, left, right), (tops, top, bottom) = (strips(start[i], size[i], phase[i], scale) for i in (0, 1))
        pixels = self._plane(level, finer, left, top, right - left, bottom - top)
        if pixels is None:
            return _white(None, *size)
        tall = squeeze(squeeze(pixels, lefts, left).transpose(1, 0, 2), tops, top).transpose(1, 0, 2)
        column, row = start[0] % STRIP, start[1] % STRIP
        return tall[row : row + size[1], column : column + size[0]]

    def _plane(self, level: Level, finer: int, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """Return pixels of a level averaged in boxes of finer x finer, white outside; None if all is white."""
        if finer == 1:
            return self._pixels(level, x, y, width, height)
        out = None
        across, down = (math.ceil(n / finer) for n in level[0].sizes[level[1]])
        step = max(1, 2048 // finer)  # so many averaged pixels at once need 2048 pixels of the level
        for top in range(max(y, 0), min(y + height, down), step):
            for left in range(max(x, 0), min(x + width, across), step):
                w, h = min(step, x + width - left, across - left), min(step, y + height - top, down - top)
                fine = self._pixels(level, left * finer, top * finer, w * finer, h * finer)
                if fine is None:
                    continue
                out = _white(out, width, height)
                out[top - y : top - y + h, left - x : left - x + w] = np.asarray(Image.fromarray(fine).reduce(finer))
        return out

    def _pixels(self, level: Level, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """Return pixels of a level, put together from its chunks, white outside; None if there are no chunks."""
        source, index, _ = level
        out = None
        (wide, high), (cw, ch) = source.sizes[index], source.chunks[index]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, wide), min(y + height, high)
        if left >= right or top >= bottom:
            return None
        for row in range(top // ch, (bottom - 1) // ch + 1):
            for column in range(left // cw, (right - 1) // cw + 1):
                chunk = self._chunk(source, index, column, row)
                if chunk is None:
                    continue
                x0, y0 = max(left, column * cw), max(top, row * ch)
                x1 = min(right, column * cw + chunk.shape[1])
                y1 = min(bottom, row * ch + chunk.shape[0])
                if x1 > x0 and y1 > y0:
                    part = chunk[y0 - row * ch : y1 - row * ch, x0 - column * cw : x1 - column * cw]
                    out = _white(out, width, height)
                    out[y0 - y : y1 - y, x0 - x : x1 - x] = part
        return out

    def _chunk(self, source: Source, level: int, column: int, row: int) -> np.ndarray | None:
        if isinstance(source, ArraySource):  # in memory already
            return source.chunk(level, column, row)
        key = (id(source), level, column, row)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        try:
            chunk = source.chunk(level, column, row)
        except ValueError as error:
            raise ValueError(f"slide {self.name} cannot be read: {error}") from error
        with self._lock:
            if key not in self._cache:
                self._cache[key] = chunk
                self._cached += _bytes(chunk)
                while self._cached > CACHE_BYTES and len(self._cache) > 1:
                    self._cached -= _bytes(self._cache.popitem(last=False)[1])
        return chunk


def open_slide(path: str | Path, mpp: float | None = None) -> SlideReader:
    """Open a slide, TIFF or plain picture; ValueError or OSError with one sentence if nothing here reads it."""
    path = Path(path)
    if mpp is not None:
        check_mpp(mpp)
    if not path.exists():
        raise FileNotFoundError(f"there is no slide {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a slide is one file (for MRXS the .mrxs file beside its folder)")
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        raise ValueError(f"{path.name} is empty (0 bytes)")
    source = _source(path, start)
    if max(source.sizes[0]) > LARGEST:
        source.close()
        size = " x ".join(str(n) for n in source.sizes[0])
        raise ValueError(
            f"{path.name} claims {size} pixels, more than a slide has ({LARGEST:,} a side); is it damaged?"
        )
    return SlideReader(source, path.name, mpp, path)


def _source(path: Path, start: bytes) -> Source:
    tiff = start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    try:
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor not in (None, "generic-tiff"):  # generic TIFF: tiff.py knows SubIFD pyramids, 16 bits and CMYK
            return OpenSlideSource(path)
    except openslide.OpenSlideError as error:
        if not tiff:
            raise ValueError(f"{path.name} is truncated or damaged ({short(error)})") from error
    return tiff_source(path) if tiff else picture_source(path)


def check_mpp(mpp: float, limits: tuple[float, float] = MPP_RANGE) -> float:
    """Return microns per pixel as a float; ValueError if it is not a number that a microscope can give."""
    try:
        value = float(mpp)
    except (TypeError, ValueError):
        raise ValueError(f"mpp is {mpp!r}; a number of microns per pixel is wanted, e.g. 0.25") from None
    if not limits[0] <= value <= limits[1]:
        raise ValueError(f"mpp is {value:g}; microns per pixel between {limits[0]:g} and {limits[1]:g} are wanted")
    return value


def _believable(said: tuple[float, float] | None) -> tuple[float | None, str]:
    """Return the microns per pixel a file states, or None and what is wrong with the statement."""
    if said is None:
        return None, ""
    if not all(MPP_RANGE[0] <= value <= MPP_RANGE[1] for value in said):
        wanted = f"between {MPP_RANGE[0]:g} and {MPP_RANGE[1]:g}"
        return None, f"says {said[0]:.4g} microns per pixel, not {wanted}"
    if max(said) / min(said) > 1.02:
        return None, f"says {said[0]:.4g} microns per pixel across but {said[1]:.4g} down"
    return math.sqrt(said[0] * said[1]), ""


def _downsample(full: tuple[int, int], size: tuple[int, int]) -> float:
    """Return how many level-0 pixels a level's pixel covers: a whole number where the sizes allow it."""
    whole = round(full[0] / size[0])
    if whole and all(abs(n / whole - m) < 1 for n, m in zip(full, size, strict=True)):
        return float(whole)
    return (full[0] / size[0] + full[1] / size[1]) / 2


def _white(pixels: np.ndarray | None, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8) if pixels is None else pixels


def _bytes(chunk: np.ndarray | None) -> int:
    return 0 if chunk is None else chunk.nbytes
