"""What scoring a slide gives: a map of probabilities, its lesions and sums, saved whole and read back exactly.

Legend: h, w rows and columns of the map, one cell each; x, y level-0 pixels of the slide, right and down.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

RESULT = "slide.npz"
SUMMARY = "summary.json"
_FORMAT = 1


@dataclass(frozen=True)
class Lesion:
    """One connected region (sides or corners touch) of cells at or above the threshold, none of which is declined."""

    area_mm2: float
    mean: float  # probability over its cells
    max: float
    centroid: tuple[float, float]  # x, y in level-0 pixels
    cells: int
    number: int  # its value in SlideResult.lesion_map, from 1, largest first


@dataclass(frozen=True, eq=False)
class SlideResult:
    """A scored slide: immutable, complete without the slide file, 6 bytes a cell in memory and a small picture."""

    heatmap: np.ndarray  # (h, w) float32 calibrated probability, NaN outside tissue
    mask: np.ndarray  # (h, w) bool, tissue
    mpp: float  # microns per cell of the map
    slide_size: tuple[int, int]  # width, height in level-0 pixels
    slide_mpp: float  # microns per level-0 pixel
    stride: int  # pixels of the net's resolution per cell
    slide: str  # file name
    model: str  # name or sha of what scored it
    picture: bytes  # JPEG of the whole slide, small
    uncertain: np.ndarray | None = None  # (h, w) bool: the model abstains; None if it was not asked
    fingerprint: str = ""  # what the result depends on: slide file, mpp, stride, model

    @property
    def thumbnail(self) -> np.ndarray:
        """The whole slide, small, HWC uint8 RGB."""
        with Image.open(io.BytesIO(self.picture)) as picture:
            return np.asarray(picture.convert("RGB"))

    @property
    def cell(self) -> float:
        """Level-0 pixels per cell, a fraction."""
        return self.mpp / self.slide_mpp

    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Return x (w + 1) and y (h + 1) of the cells' edges in whole level-0 pixels, cut off at the slide's edge."""
        (height, width), (right, bottom) = self.heatmap.shape, self.slide_size
        xs = np.minimum(np.rint(np.arange(width + 1) * self.cell), right).astype(np.int64)
        ys = np.minimum(np.rint(np.arange(height + 1) * self.cell), bottom).astype(np.int64)
        return xs, ys

    def tiles(self) -> Iterator[tuple[int, int, int, int, int, int, float]]:
        """Yield row, column, x, y, width, height (level-0 pixels) and probability of every scored cell."""
        xs, ys = self.edges()
        for row, column in np.argwhere(np.isfinite(self.heatmap)).tolist():
            x, y = int(xs[column]), int(ys[row])
            size = int(xs[column + 1]) - x, int(ys[row + 1]) - y
            yield row, column, x, y, *size, float(self.heatmap[row, column])

    def lesion_map(self, threshold: float = 0.5) -> np.ndarray:
        """Return (h, w) int32: 0, or the number of the lesion a cell belongs to, 1 being the largest."""
        with np.errstate(invalid="ignore"):
            likely = self.heatmap >= threshold
        if self.uncertain is not None:
            likely &= ~self.uncertain
        labels, count = ndimage.label(likely, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        rank = np.zeros(count + 1, np.int32)
        rank[np.argsort(-sizes, kind="stable") + 1] = np.arange(1, count + 1)
        return rank[labels]

    def lesions(self, threshold: float = 0.5) -> list[Lesion]:
        """Return the connected regions at or above a probability where the model answers, largest first."""
        labels, (xs, ys) = self.lesion_map(threshold), self.edges()
        xs, ys = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
        found = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[rows, columns] == number
            values, (r, c) = self.heatmap[rows, columns][inside], np.nonzero(inside)
            centroid = (float(xs[columns][c].mean()), float(ys[rows][r].mean()))
            area = len(values) * self._cell_mm2
            mean = float(values.mean(dtype=np.float64))
            found.append(Lesion(area, mean, float(values.max()), centroid, len(values), number))
        return found

    def summary(self, threshold: float = 0.5) -> dict[str, Any]:
        """Return the sums of the slide as plain numbers: areas in mm2, greatest probability, lesions."""
        scored = np.isfinite(self.heatmap)
        lesions = self.lesions(threshold)
        uncertain = {} if self.uncertain is None else {"uncertain_cells": int(self.uncertain.sum())}
        return {
            "slide": self.slide,
            "slide_size": list(self.slide_size),
            "slide_mpp": self.slide_mpp,
            "map_size": [self.heatmap.shape[1], self.heatmap.shape[0]],
            "map_mpp": self.mpp,
            "model": self.model,
            "threshold": threshold,
            "cells": int(scored.sum()),
            **uncertain,
            "tissue_mm2": float(self.mask.sum() * self._cell_mm2),
            "tumour_mm2": float(sum(lesion.area_mm2 for lesion in lesions)),
            "max": float(self.heatmap[scored].max()) if scored.any() else None,
            "lesions": [asdict(lesion) for lesion in lesions],
        }

    @property
    def _cell_mm2(self) -> float:
        return (self.mpp / 1000) ** 2

    def to_geojson(self, path: str | Path, threshold: float = 0.5) -> None:
        """Write tiles and contours for QuPath; OSError with one sentence if the file cannot be written."""
        from apps.pathology import export

        export.publish(Path(path), lambda stream: export.geojson(self, stream, threshold))

    def to_png(self, path: str | Path) -> None:
        """Write the map over the slide as a picture with scale bar and legend."""
        from apps.pathology import export

        export.publish(Path(path), lambda stream: export.png(self, stream))

    def to_tiff(self, path: str | Path) -> None:
        """Write the map as a tiled, pyramidal 8-bit TIFF: 0 no tissue, else 1 + 254 times the probability."""
        from apps.pathology import export

        export.publish(Path(path), lambda stream: export.tiff(self, stream))

    def to_parquet(self, path: str | Path) -> None:
        """Write one row a scored cell: row, col, x, y, width, height, probability, and uncertain if known."""
        from apps.pathology import export

        export.publish(Path(path), lambda stream: export.parquet(self, stream))

    def files(self, threshold: float = 0.5) -> dict[str, bytes]:
        """Return every file of the result by name, as bytes, to be published by `export.publish_files` elsewhere."""
        from apps.pathology import export

        return export.files(self, threshold)

    def to_bytes(self) -> bytes:
        """Return the whole result as the bytes of one npz without pickles; `from_bytes` reads it back exactly."""
        facts = {"format": _FORMAT, "mpp": self.mpp, "slide_size": self.slide_size, "slide_mpp": self.slide_mpp}
        facts |= {"stride": self.stride, "slide": self.slide, "model": self.model, "fingerprint": self.fingerprint}
        arrays: dict[str, Any] = {"heatmap": self.heatmap, "mask": self.mask}
        arrays["picture"] = np.frombuffer(self.picture, np.uint8)
        if self.uncertain is not None:
            arrays["uncertain"] = self.uncertain
        stream = io.BytesIO()
        np.savez_compressed(stream, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the data") -> "SlideResult":
        """Read what `to_bytes` gave; ValueError if it is something else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                facts = json.loads(stored["facts"].tobytes())
                if facts.pop("format") != _FORMAT:
                    raise ValueError(f"{name} was written by another version of this program; score the slide again")
                facts["slide_size"] = tuple(facts["slide_size"])
                arrays = {key: stored[key] for key in stored.files if key not in ("facts", "picture")}
                return cls(**facts, **arrays, picture=stored["picture"].tobytes())
        except (KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, json.JSONDecodeError) as error:
            raise ValueError(f"{name} is not a saved slide result, or is damaged") from error
        except ValueError as error:
            known = "another version" in str(error)
            raise ValueError(str(error) if known else f"{name} is not a saved slide result, or is damaged") from error

    def save(self, folder: str | Path) -> None:
        """Write `slide.npz` (everything) and `summary.json` into a folder, each whole or not at all."""
        from apps.pathology import export

        text = json.dumps(self.summary(), indent=2).encode()
        export.publish_files({SUMMARY: text, RESULT: self.to_bytes()}, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "SlideResult":
        """Read a result saved in a folder, exactly as it was; FileNotFoundError or ValueError with one sentence."""
        path = Path(folder) / RESULT
        if not path.is_file():
            raise FileNotFoundError(f"there is no slide result in {folder} ({RESULT} is missing)")
        return cls.from_bytes(path.read_bytes(), str(path))
