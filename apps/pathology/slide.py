"""Scores a whole slide: a grid of cells of 32 pixels, each the middle of the 96 x 96 tile that the net sees.

    reader threads: block of cells -> pixels     main thread: tiles of any blocks -> full batches -> score -> map

Memory holds a few blocks, one batch, and the map; it does not grow with the slide's pixels. What a cell scores does
not depend on its block, its batch or on resuming. Legend: N tiles of a batch; h, w rows and columns of the map.
"""

import dataclasses
import io
import json
import logging
import math
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from apps.pathology import export
from apps.pathology.heatmap import RESULT, SlideResult
from apps.pathology.reader import SlideReader, check_mpp, open_slide
from apps.pathology.tissue import SHARE, tissue_mask
from core.files import write

TILE = 96  # pixels a side that the net sees
NATIVE_MPP = 0.972  # microns per pixel that the net was trained at
PARTIAL = "partial.npz"
BLOCK = 16  # cells a side of what a reader thread reads at once
CELLS = 100_000_000  # of a map at most, 400 MB; a slide of 100,000 x 100,000 pixels at 0.25 um/px has 650,000
THUMBNAIL = 1536  # longest side, pixels, of the picture that goes with the result

Score = Callable[[np.ndarray], np.ndarray]  # uint8 (N, 96, 96, 3) -> float32 (N,) in [0, 1]
Progress = Callable[[int, int], None]  # done cells, total cells

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """The cells of a slide at a stride in pixels of 0.972 microns."""

    size: tuple[int, int]  # slide width and height, level-0 pixels
    mpp: float
    stride: int

    @property
    def downsample(self) -> float:
        """Level-0 pixels per pixel that the net sees."""
        return NATIVE_MPP / self.mpp

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that cover the slide."""
        cell = self.stride * self.downsample
        return max(1, math.ceil(self.size[1] / cell - 1e-6)), max(1, math.ceil(self.size[0] / cell - 1e-6))

    def read(self, reader: SlideReader, rows: slice, columns: slice) -> np.ndarray:
        """Return the tiles of a rectangle of cells as a view (rows, columns, 96, 96, 3) uint8 of one region."""
        margin = (TILE - self.stride) // 2
        left, top = columns.start * self.stride - margin, rows.start * self.stride - margin
        across, down = columns.stop - columns.start, rows.stop - rows.start
        width, height = (across - 1) * self.stride + TILE, (down - 1) * self.stride + TILE
        pixels = reader.read_at(left * self.downsample, top * self.downsample, width, height, self.downsample)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (TILE, TILE), axis=(0, 1))
        return windows[:: self.stride, :: self.stride].transpose(0, 1, 3, 4, 2)


def score_slide(
    slide: str | Path | SlideReader,
    score: Score,
    *,
    mpp: float | None = None,
    stride: int = 32,
    batch: int = 64,
    out: str | Path | None = None,
    progress: Progress | None = None,
    fingerprint: str = "",
    uncertain: Callable[[np.ndarray], np.ndarray] | None = None,
    readers: int = 2,
    save_every: float = 5.0,
    share: float = SHARE,
) -> SlideResult:
    """Return the map of calibrated probabilities of a slide's tissue.

    `score` gets uint8 (N, 96, 96, 3) RGB at 0.972 microns per pixel, N at most `batch`, and returns N probabilities;
    `uncertain` gets all probabilities and returns bools. `fingerprint` names the model (its sha). With `out`, a folder,
    finished cells are kept every `save_every` seconds: interrupted in any way, also by `progress` raising, the same
    call does the rest only. A finished slide is read back, and `uncertain` asked again; exports of an older result in
    the folder go. ValueError or OSError say in one sentence what is wrong.

    Memory: 64 MiB of decoded chunks, 2 `readers` + 1 blocks of 1 MB, a batch, an overview of 2048 x 2048 pixels, and
    the map at 5 bytes a cell, twice while it is saved; what `score` takes comes on top. A slide of 100,000 x 100,000
    pixels, most of it glass, grew a process by 32 MiB; `test_memory_does_not_grow_with_the_slide` asserts less than
    400, and less than 32 more than the same tissue on a hundredth of the glass takes.
    """
    if not (isinstance(stride, int) and 4 <= stride <= TILE and stride % 2 == 0):
        raise ValueError(f"stride is {stride!r}; an even number of pixels from 4 to {TILE} is wanted, 32 by default")
    if batch < 1 or readers < 1:
        raise ValueError(f"batch is {batch} and readers is {readers}; both must be at least 1")
    with ExitStack() as stack:
        reader = slide if isinstance(slide, SlideReader) else stack.enter_context(open_slide(slide, mpp))
        mpp = check_mpp(mpp) if mpp is not None else reader.need_mpp()
        grid = Grid(reader.size, mpp, stride)
        if min(reader.size) * mpp < stride * NATIVE_MPP:
            size = " x ".join(str(n) for n in reader.size)
            raise ValueError(
                f"slide {reader.name} has {size} pixels, less than one cell of {stride * NATIVE_MPP:.0f} um"
            )
        if math.prod(grid.shape) > CELLS:
            cells = " x ".join(str(n) for n in grid.shape)
            raise ValueError(f"slide {reader.name} would have {cells} cells; check its microns per pixel or the stride")
        print_ = _fingerprint(reader, grid, fingerprint, share)
        if out is not None and (done := _finished(Path(out), print_)):
            if progress:
                progress(int(done.mask.sum()), int(done.mask.sum()))
            if uncertain is not None and not _says(done, uncertain):
                done = dataclasses.replace(done, uncertain=_ask(uncertain, done.heatmap))
                _keep(done, Path(out))
            return done
        state = _State.start(reader, grid, share, None if out is None else Path(out), print_)
        try:
            _fill(state, reader, grid, score, batch, readers, save_every, progress)
        except BaseException:  # Ctrl-C too: what is done stays done
            state.save()
            raise
        result = SlideResult(
            heatmap=state.heatmap,
            mask=state.mask,
            mpp=stride * NATIVE_MPP,
            slide_size=reader.size,
            slide_mpp=mpp,
            stride=stride,
            slide=reader.name,
            model=fingerprint,
            picture=_jpeg(reader.thumbnail(THUMBNAIL)),
            uncertain=None if uncertain is None else _ask(uncertain, state.heatmap),
            fingerprint=print_,
        )
        if out is not None:
            _keep(result, Path(out))
            (Path(out) / PARTIAL).unlink(missing_ok=True)
        return result


def is_finished(
    slide: str | Path,
    out: str | Path,
    *,
    mpp: float | None,
    fingerprint: str,
    uncertain: Callable[[np.ndarray], np.ndarray],
    stride: int = 32,
    share: float = SHARE,
) -> bool:
    """Return whether a folder holds every export of just the result that `score_slide` gives; arguments as there.

    Of a slide that cannot be seen from here the name must do. ValueError or OSError if it can be seen but not read.
    """
    out = Path(out)
    if not all((out / name).is_file() for name in export.NAMES) or (result := _read(out)) is None:
        return False
    if Path(slide).exists():
        with open_slide(slide, mpp) as reader:
            grid = Grid(reader.size, check_mpp(mpp) if mpp is not None else reader.need_mpp(), stride)
            known = result.fingerprint == _fingerprint(reader, grid, fingerprint, share)
    else:
        wanted = (Path(slide).name, fingerprint, stride, mpp if mpp is not None else result.slide_mpp)
        known = (result.slide, result.model, result.stride, result.slide_mpp) == wanted
    return known and _says(result, uncertain)


def is_of(result: SlideResult, slide: str | Path) -> bool:
    """Return whether a result was made from this very file, by its name, size and time of change.

    Of a file that cannot be seen from here the name must do.
    """
    slide = Path(slide)
    if not (slide.exists() and result.fingerprint):
        return result.slide == slide.name
    return json.loads(result.fingerprint)[:2] == [slide.name, _stamp(slide)]


@dataclass
class _State:
    """The map while it fills; `save` publishes it whole, `start` takes it up again."""

    heatmap: np.ndarray  # (h, w) float32, NaN where not scored (yet)
    mask: np.ndarray  # (h, w) bool
    out: Path | None
    fingerprint: str

    @classmethod
    def start(cls, reader: SlideReader, grid: Grid, share: float, out: Path | None, fingerprint: str) -> "_State":
        if out is not None and (out / PARTIAL).exists():
            try:
                with np.load(out / PARTIAL, allow_pickle=False) as kept:
                    if kept["fingerprint"].tobytes().decode() == fingerprint and kept["heatmap"].shape == grid.shape:
                        return cls(kept["heatmap"], kept["mask"], out, fingerprint)
                why = "it belongs to another slide, microns per pixel, stride or model"
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                why = "it cannot be read"
            _log.warning("%s: the partial result in %s is discarded: %s", reader.name, out, why)
        mask = tissue_mask(reader, grid.stride * grid.downsample, grid.shape, grid.stride * NATIVE_MPP, share)
        if not mask.any():
            _log.warning("%s: no tissue found, so there is nothing to score", reader.name)
        state = cls(np.full(grid.shape, np.nan, np.float32), mask, out, fingerprint)
        state.save()  # an unwritable folder is reported before the work, not after it
        return state

    def save(self) -> None:
        if self.out is None:
            return
        stream, name = io.BytesIO(), np.frombuffer(self.fingerprint.encode(), np.uint8)
        np.savez_compressed(stream, heatmap=self.heatmap, mask=self.mask, fingerprint=name)
        write(self.out / PARTIAL, lambda file: file.write(stream.getbuffer()))


def _fill(
    state: _State,
    reader: SlideReader,
    grid: Grid,
    score: Score,
    batch: int,
    readers: int,
    save_every: float,
    progress: Progress | None,
) -> None:
    """Score every tissue cell of the map that is still empty."""
    total, missing = int(state.mask.sum()), state.mask & np.isnan(state.heatmap)
    done = total - int(missing.sum())
    if progress:
        progress(done, total)
    cells: list[tuple[int, int]] = []  # of the batch that is being filled
    saved = time.monotonic()
    tiles = np.empty((0, TILE, TILE, 3), np.uint8)

    def flush() -> None:
        nonlocal done, saved
        rows, columns = np.transpose(cells)  # (N,), (N,)
        state.heatmap[rows, columns] = _scored(score, tiles[: len(cells)])
        done += len(cells)
        cells.clear()
        if time.monotonic() - saved >= save_every:
            state.save()
            saved = time.monotonic()
        if progress:
            progress(done, total)

    for (row, column), views, wanted in _blocks(reader, grid, missing, readers):
        for r, c in wanted:
            if not cells:  # a fresh array each time: score may still be copying the last one to a device
                tiles = np.empty((batch, TILE, TILE, 3), np.uint8)
            tiles[len(cells)] = views[r, c]
            cells.append((row + r, column + c))
            if len(cells) == batch:
                flush()
    if cells:
        flush()


def _blocks(
    reader: SlideReader, grid: Grid, missing: np.ndarray, readers: int
) -> Iterator[tuple[tuple[int, int], np.ndarray, list[tuple[int, int]]]]:
    """Yield first cell, tile views and the wanted cells of each block, read ahead by threads, in order."""

    def read(rows: slice, columns: slice) -> tuple[tuple[int, int], np.ndarray, list[tuple[int, int]]]:
        wanted = [(int(r), int(c)) for r, c in np.argwhere(missing[rows, columns])]
        return (rows.start, columns.start), grid.read(reader, rows, columns), wanted

    pool = ThreadPoolExecutor(readers, thread_name_prefix="slide-reader")
    ahead: deque[Future[tuple[tuple[int, int], np.ndarray, list[tuple[int, int]]]]] = deque()
    try:
        for rows, columns in _rectangles(missing):
            ahead.append(pool.submit(read, rows, columns))
            if len(ahead) > 2 * readers:  # the queue's bound: so many blocks are in memory
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rectangles(missing: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield, for each block of 16 x 16 cells with something to do, the rectangle around what is to do."""
    for top in range(0, missing.shape[0], BLOCK):
        for left in range(0, missing.shape[1], BLOCK):
            block = missing[top : top + BLOCK, left : left + BLOCK]
            if block.any():
                rows, columns = (np.flatnonzero(block.any(axis=axis)) for axis in (1, 0))
                yield (
                    slice(top + int(rows[0]), top + int(rows[-1]) + 1),
                    slice(left + int(columns[0]), left + int(columns[-1]) + 1),
                )


def _scored(score: Score, tiles: np.ndarray) -> np.ndarray:
    """Return the probabilities of a batch; ValueError if they are not probabilities."""
    values = np.asarray(score(tiles), dtype=np.float32)
    if values.shape != (len(tiles),):
        raise ValueError(
            f"the model gave an array of shape {values.shape} for {len(tiles)} tiles; one number each is wanted"
        )
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError("the model gave values that are not probabilities (NaN, or outside 0 to 1); check its weights")
    return values


def _ask(uncertain: Callable[[np.ndarray], np.ndarray], heatmap: np.ndarray) -> np.ndarray:
    scored = np.isfinite(heatmap)
    answer = np.zeros(heatmap.shape, bool)
    if scored.any():
        answer[scored] = uncertain(heatmap[scored])
    return answer


def _says(result: SlideResult, uncertain: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Return whether a result declines at just the cells where it would be asked to now."""
    return result.uncertain is not None and np.array_equal(result.uncertain, _ask(uncertain, result.heatmap))


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _fingerprint(reader: SlideReader, grid: Grid, model: str, share: float) -> str:
    """Return all that a result depends on, as JSON."""
    file = _stamp(reader.path) if reader.path else []
    return json.dumps([reader.name, file, reader.size, grid.mpp, grid.stride, NATIVE_MPP, TILE, share, model])


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _finished(out: Path, fingerprint: str) -> SlideResult | None:
    result = _read(out)
    return result if result and result.fingerprint == fingerprint else None


def _read(out: Path) -> SlideResult | None:
    """Return the result in a folder; None if there is none, or it is damaged or of another version: score again."""
    if not (out / RESULT).is_file():
        return None
    try:
        return SlideResult.load(out)
    except ValueError:
        return None


def _keep(result: SlideResult, out: Path) -> None:
    """Save a new result; first the exports of an older one go, so that what lies together belongs together."""
    for name in export.NAMES:
        if name != RESULT:
            (out / name).unlink(missing_ok=True)
    result.save(out)
