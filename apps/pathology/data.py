"""What files become: 96x96 lymph-node tiles with labels, and the augmentation that keeps their labels true.

Three layouts are read: the official PatchCamelyon h5 files, the Kaggle folder with its CSV, and this project's packed
npz of lossless WebP (see data/pcam/README.md). Letters: N tiles, H and W pixels, always uint8 RGB.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from core import corpora
from core.checked import arrays
from core.cli import within

SIDE = 96
"""Pixels along a tile's edge; its label speaks of the centre 32x32 of them."""
MPP = 0.972
"""Micrometres per pixel of a PatchCamelyon tile (level 2 of CAMELYON16)."""
SAMPLE = corpora.DATA / "pcam" / "sample"


class Pictures(Protocol):
    """A sequence of tiles that are decoded one at a time."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Tiles:
    """Labelled tiles; `tiles.images[i]` is (96, 96, 3) uint8."""

    images: Pictures
    labels: np.ndarray
    """(N,) uint8, 1 where the centre 32x32 holds at least one tumour pixel."""
    scanner: np.ndarray
    """(N,) uint8 inferred scanner group, 255 where it is not known."""
    name: str = ""
    sha256: str = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def stack(self) -> np.ndarray:
        """All tiles decoded: (N, 96, 96, 3) uint8."""
        return np.stack([self.images[i] for i in range(len(self))])

    def where(self, keep: np.ndarray) -> Tiles:
        """The tiles at which a mask (N,) is true, or at an array of indices."""
        index = np.arange(len(self))[keep]
        return Tiles(_Chosen(self.images, index), self.labels[index], self.scanner[index], self.name, self.sha256)


def folder(given: str | Path = "") -> Path:
    """The folder of tiles (see `core.corpora.folder`); ValueError if the one asked for does not exist."""
    return corpora.folder("pcam", given, _layouts)


def splits(root: str | Path, wanted: Sequence[str]) -> list[str]:
    """The wanted splits, without `train_extra` where it is not there: the official files have none."""
    there = (Path(root) / "pcam_train_extra.npz").exists()
    return [split for split in wanted if there or split != "train_extra"] or list(wanted)


def read(root: str | Path, split: str) -> Tiles:
    """Reads one split (`train`, `val`, `test`, ...) from a folder in any of the three layouts.

    Raises:
        ValueError: if no layout is there, or a file is damaged, with its name and what was wanted.
    """
    root = Path(root)
    found = _layouts(root)
    if not found:
        raise ValueError(f"{root} holds no tiles: wanted pcam_<split>.npz, camelyonpatch_level_2_split_<split>_x.h5 or "
                         "train_labels.csv; run `python -m data.pcam.prepare`, or set WUNDERKAMMER_DATA")
    return {"npz": _read_npz, "h5": _read_h5, "kaggle": _read_kaggle}[found](root, split)


def join(parts: Sequence[Tiles]) -> Tiles:
    """Several sets of tiles as one."""
    digest = hashlib.sha256("".join(p.sha256 for p in parts).encode()).hexdigest()
    return Tiles(_Joined([p.images for p in parts]), np.concatenate([p.labels for p in parts]),
                 np.concatenate([p.scanner for p in parts]), "+".join(p.name for p in parts), digest)


# Augmentation -------------------------------------------------------------------------------------------------------

OPTICAL_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255.0).astype(np.float32)
"""Beer-Lambert: the density of stain that lets the share value/255 of the light through."""


def dihedral(image: np.ndarray, element: int) -> np.ndarray:
    """One of the eight symmetries of the square, 0..7, applied to the last three axes' (H, W, C) picture."""
    image = np.rot90(image, element % 4, axes=(-3, -2))
    return image[..., ::-1, :] if element >= 4 else image


def stain_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draws another laboratory: a random affine map near the identity in optical-density space.

    Each of the three densities gets a gain and a shift, and leaks into the others, which moves both stain vectors:
    a superset of the HED jitter of Tellez et al. 2018 (doi 10.1109/TMI.2018.2820199). The background stays bright,
    since a shift is scaled down where there is no stain.

    Args:
        image: (H, W, 3) uint8.
        strength: standard deviation of the gains; 0.1 is mild, 0.3 is another scanner.
    """
    mix = np.diag(np.exp(rng.normal(0, strength, 3) + rng.normal(0, strength))) + rng.normal(0, strength / 2.5, (3, 3))
    shift = rng.normal(0, strength / 3, 3)
    density = np.take(OPTICAL_DENSITY, image)  # (H, W, 3)
    stained = np.minimum(density @ np.full((3, 1), 1 / 0.45, np.float32), 1)  # the mean of three, over 0.15
    density = density @ mix.astype(np.float32)
    density += stained * shift.astype(np.float32)
    light = np.exp(np.negative(np.maximum(density, 0, out=density), out=density), out=density)
    return (255 * light + np.float32(0.5)).astype(np.uint8)


def sharpness_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Blurs or sharpens like another lens: the picture plus a random share of its own fine detail (H, W, 3) uint8."""
    wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.int16)
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    detail = 16 * wide[1:-1, 1:-1] - (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:])  # picture - blurred, times 16
    amount = np.float32(np.clip(rng.normal(0, strength), -1, 1) / 16)
    return np.clip(image + amount * detail + np.float32(0.5), 0, 255).astype(np.uint8)


def shift(image: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    """Moves the picture by up to `most` pixels, mirrored at the edge; beyond 4 the label of the centre may change."""
    if not most:
        return image
    y, x = rng.integers(0, 2 * most + 1, 2)
    height, width = image.shape[:2]
    return np.pad(image, ((most, most), (most, most), (0, 0)), mode="reflect")[y : y + height, x : x + width]


@dataclass(frozen=True)
class Augment:
    """What is varied in a training tile; nothing here can change its label."""

    stain: float = 0.15
    """Strength of the random stain in optical-density space; 0 keeps the laboratory's own."""
    sharpness: float = 0.5
    """Strength of random blurring and sharpening."""
    shift: int = 3
    """Largest shift in pixels, at most 4: the label speaks of the centre."""

    def __post_init__(self) -> None:
        within(self, 0, 1, "stain", "sharpness", of="augment.")
        within(self, 0, 4, "shift", of="augment.")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = shift(dihedral(image, int(rng.integers(8))), rng, self.shift)
        if self.stain:
            image = stain_jitter(image, rng, self.stain)
        if self.sharpness:
            image = sharpness_jitter(image, rng, self.sharpness)
        return image


@dataclass(frozen=True)
class Sample:
    """Makes one training sample: image (3, 96, 96) uint8 and label float32. Picklable, for loader workers."""

    tiles: Tiles
    augment: Augment

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        image = self.augment(self.tiles.images[index], rng)
        label = torch.tensor(float(self.tiles.labels[index]))
        return to_tensor(image), label


def to_tensor(images: np.ndarray) -> Tensor:
    """(..., H, W, 3) uint8 array to a (..., 3, H, W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))


# Layouts ------------------------------------------------------------------------------------------------------------

OFFICIAL = {"train": "train", "val": "valid", "valid": "valid", "test": "test"}


class _Packed:
    """Tiles as lossless WebP files one after another: `webp[offsets[i]:offsets[i + 1]]`."""

    def __init__(self, webp: np.ndarray, offsets: np.ndarray, path: Path) -> None:
        self.webp, self.offsets, self.path = webp, offsets, path

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        data = self.webp[self.offsets[index] : self.offsets[index + 1]].tobytes()
        return _decode(io.BytesIO(data), f"{self.path}, tile {index}")


class _Files:
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return _decode(self.paths[index], str(self.paths[index]))


class _H5:
    """The official x file, opened anew in each process that reads it."""

    def __init__(self, path: Path, n: int) -> None:
        self.path, self.n = path, n
        self._data: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "n": self.n, "_data": None}

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> np.ndarray:
        if self._data is None:
            import h5py

            self._data = h5py.File(self.path, "r")["x"]
        try:
            return self._data[index]
        except OSError as error:
            raise ValueError(f"{self.path}, tile {index} cannot be read ({error}); get the file anew") from error


class _Chosen:
    def __init__(self, images: Pictures, index: np.ndarray) -> None:
        self.images, self.index = images, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[int(self.index[index])]


class _Joined:
    def __init__(self, parts: list[Pictures]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][index - int(self.ends[part - 1] if part else 0)]


def _decode(source: Any, name: str) -> np.ndarray:
    try:
        image = np.asarray(Image.open(source).convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise ValueError(f"{name} is not a readable picture ({error}); get the file anew") from error
    if image.shape != (SIDE, SIDE, 3):
        raise ValueError(f"{name} has the shape {image.shape}; tiles are {SIDE}x{SIDE} RGB")
    return image


def _layouts(root: Path) -> str | None:
    if any(root.glob("pcam_*.npz")):
        return "npz"
    if any(_h5_folder(root).glob("camelyonpatch_level_2_split_*_x.h5")):
        return "h5"
    return "kaggle" if (root / "train_labels.csv").exists() else None


def _h5_folder(root: Path) -> Path:
    return root / "pcam" if (root / "pcam").is_dir() else root


def _read_npz(root: Path, split: str) -> Tiles:
    path = root / f"pcam_{split}.npz"
    if not path.exists():
        there = ", ".join(sorted(p.stem.removeprefix("pcam_") for p in root.glob("pcam_*.npz")))
        raise ValueError(f"{path} is not there; this folder has the splits {there}")
    packed = arrays(path, {"webp": ("u", 1), "offsets": ("iu", 1), "label": ("iub", 1)})
    webp, offsets, labels = packed["webp"], packed["offsets"].astype(np.int64), packed["label"]
    group = packed.get("scanner_group", np.full(len(labels), 255, np.uint8))
    # Each tile's bytes begin where those before it end: nothing lies before the first or after the last.
    ends = np.concatenate([[0], offsets, [len(webp)]])
    if (len(offsets) != len(labels) + 1 or (np.diff(ends) < 0).any() or group.shape != labels.shape
            or group.dtype.kind not in "iu" or not np.isin(labels, (0, 1)).all()):
        raise ValueError(f"{path} is damaged: {len(offsets) - 1} tiles in {len(webp)} bytes, {len(labels)} labels of 0 "
                         "or 1 and as many scanner groups wanted; get it anew")
    return Tiles(_Packed(webp, offsets, path), labels.astype(np.uint8), group, f"pcam_{split}", _sha256(path))


def _read_h5(root: Path, split: str) -> Tiles:
    import h5py

    base = _h5_folder(root) / f"camelyonpatch_level_2_split_{OFFICIAL.get(split, split)}"
    x, y = Path(f"{base}_x.h5"), Path(f"{base}_y.h5")
    if not (x.exists() and y.exists()):
        raise ValueError(f"{x} or {y.name} is not there; `python -m data.pcam.prepare` gets the official files")
    try:
        with h5py.File(x) as images, h5py.File(y) as labels:
            shape, kind, values = images["x"].shape, images["x"].dtype, labels["y"][()].reshape(-1)
    except Exception as error:  # a wrong byte can raise almost anything
        raise ValueError(f"{x} or {y.name} is damaged ({error}); run `python -m data.pcam.prepare` again") from error
    if shape != (len(values), SIDE, SIDE, 3) or kind != np.uint8:
        raise ValueError(f"{x} has the shape {shape} of {kind}; wanted ({len(values)}, {SIDE}, {SIDE}, 3) of uint8")
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"{y} holds other labels than 0 and 1; run `python -m data.pcam.prepare` again")
    return Tiles(_H5(x, len(values)), values.astype(np.uint8), np.full(len(values), 255, np.uint8), x.stem, _sha256(y))


def _read_kaggle(root: Path, split: str) -> Tiles:
    """Kaggle has one labelled folder; tiles are dealt to splits by their id: 8 in 10 train, 1 val, 1 test."""
    deal = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}
    if split not in deal:
        raise ValueError(f"the Kaggle folder {root} has no split {split!r}; use {', '.join(deal)}")
    try:
        with open(root / "train_labels.csv", newline="", encoding="utf-8") as file:
            rows = [(row.get("id"), row.get("label")) for row in csv.DictReader(file)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{root / 'train_labels.csv'} is not a readable table ({error}); get it anew") from error
    if not rows or any(not name or label not in ("0", "1") for name, label in rows):
        raise ValueError(f"{root / 'train_labels.csv'} is not the Kaggle list: id and label (0 or 1) wanted")
    chosen = [row for row in rows if int(hashlib.md5(str(row[0]).encode()).hexdigest(), 16) % 10 in deal[split]]
    labels = np.array([int(str(label)) for _, label in chosen], np.uint8)
    images = _Files([root / "train" / f"{name}.tif" for name, _ in chosen])
    unknown = np.full(len(labels), 255, np.uint8)
    return Tiles(images, labels, unknown, f"kaggle_{split}", _sha256(root / "train_labels.csv"))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
