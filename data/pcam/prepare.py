"""Gets the official PatchCamelyon files, or packs a folder of tiles: `python -m data.pcam.prepare`.

The official files are those of Zenodo record 2546921 (Veeling et al. 2018), 7.7 GB packed and 9.1 GB unpacked; each
part can be had alone (`--splits test`), a broken download goes on where it was, and nothing unverified is kept.
"""

import argparse
import csv
import gzip
import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.fetch import fetch
from core.files import publishing
from data.pcam.pack import TILE, write_npz

BASE_URL = "https://zenodo.org/records/2546921/files"
Report = Callable[[str, int, int], None]  # name, done, in all


@dataclass(frozen=True)
class Part:
    """One split of the official data: MD5 of the two .gz files, and the number of tiles."""

    x: str
    y: str
    tiles: int


OFFICIAL = {
    "train": Part("1571f514728f59376b705fc836ff4b63", "35c2d7259d906cfc8143347bb8e05be7", 262_144),
    "valid": Part("d5b63470df7cfa627aeec8b9dc0c066e", "2b85f58b927af9964a4c15b8f7e8f179", 32_768),
    "test": Part("d8c2d60d490dbd479f8199bdfa0cf6ec", "60a7035772fbdb7f34eb86d4420cf66a", 32_768),
}


def prepare(
    out: Path,
    splits: tuple[str, ...] = tuple(OFFICIAL),
    base_url: str = BASE_URL,
    *,
    official: dict[str, Part] = OFFICIAL,
    report: Report | None = None,
) -> list[Path]:
    """Fetches, verifies and unpacks the official files into `out`; files that are there and sound are left alone.

    Raises:
        ValueError: if what came is not the official file.
        ConnectionError: if the server cannot be reached; the same call goes on from what is there.
        OSError: if the folder cannot be written or the disk is full.
    """
    ready = []
    for split in splits:
        part = official[split]
        for kind, md5, shape in (("x", part.x, (part.tiles, TILE, TILE, 3)), ("y", part.y, (part.tiles, 1, 1, 1))):
            name = f"camelyonpatch_level_2_split_{split}_{kind}.h5"
            if wrong_shape(out / name, kind, shape) is not None:
                packed = fetch(
                    f"{base_url.rstrip('/')}/{name}.gz", out / f"{name}.gz", md5=md5,
                    progress=partial(report, name) if report else None,
                )  # fmt: skip
                unpack(packed, out / name, kind, shape)
                packed.unlink()
            ready.append(out / name)
    return ready


def unpack(packed: Path, to: Path, kind: str, shape: tuple[int, ...]) -> None:
    """Unpacks a .gz file to `to`, which appears only when it is whole and holds `kind` in the right shape."""
    with publishing(to) as part:
        try:
            with gzip.open(packed) as source, open(part, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{packed} cannot be unpacked ({error}); delete it and run the same command again") \
                from error
        if problem := wrong_shape(part, kind, shape):
            raise ValueError(f"{packed} unpacks to a wrong file: {problem}; delete it and run the same command again")


def wrong_shape(path: Path, kind: str, shape: tuple[int, ...]) -> str | None:
    """Says what is wrong with an h5 file of tiles (`x`) or labels (`y`), None if nothing is."""
    if not path.is_file():
        return "it is not there"
    try:
        with h5py.File(path, "r") as file:
            data = file[kind]
            return None if data.shape == shape else f"{kind} has the shape {data.shape}, wanted {shape}"
    except (OSError, KeyError, RuntimeError) as error:
        return f"it is no h5 file with {kind} ({error})"


def pack(source: Path, out: Path, limit: int | None = None, report: Report | None = None) -> list[Path]:
    """Packs the official h5 files or the Kaggle folder (train/<id>.tif, train_labels.csv) into pcam_<split>.npz.

    Args:
        limit: so many tiles of each split at most, drawn at random, always the same ones.

    Raises:
        ValueError: if `source` holds neither, or a file is damaged, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the limit is {limit}; ask for at least 1 tile of each split")
    splits = dict(_h5_splits(source)) or dict(_kaggle_splits(source))
    if not splits:
        raise ValueError(
            f"{source} holds neither camelyonpatch_level_2_split_*_x.h5 nor train_labels.csv with a folder train; "
            "pass the folder of the official files or of the Kaggle tiles"
        )
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for split, (names, labels, read) in splits.items():
        chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[:limit])
        path = out / f"pcam_{split}.npz"
        write_npz(
            path, (read(int(i)) for i in chosen), labels[chosen], None, names[chosen],
            progress=partial(report, path.name) if report else None,
        )  # fmt: skip
        written.append(path)
    return written


Split = tuple[NDArray[np.bytes_], NDArray[np.uint8], Callable[[int], NDArray[np.uint8]]]


def _h5_splits(source: Path) -> Iterator[tuple[str, Split]]:
    for official, ours in (("train", "train"), ("valid", "val"), ("test", "test")):
        x, y = (source / f"camelyonpatch_level_2_split_{official}_{kind}.h5" for kind in "xy")
        if not x.exists():
            continue
        try:
            labels = h5py.File(y, "r")["y"][()].reshape(-1)
            tiles = h5py.File(x, "r")["x"]
            shape, kind = tiles.shape, tiles.dtype
        except Exception as error:  # a wrong byte can raise almost anything
            raise ValueError(f"{x} or {y.name} is missing or damaged ({error}); get them anew") from error
        if shape != (len(labels), TILE, TILE, 3) or kind != np.uint8:
            raise ValueError(f"{x} has the shape {shape} of {kind}, wanted {(len(labels), TILE, TILE, 3)} of uint8")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"{y} holds other labels than 0 and 1; get it anew")

        def read(index: int, path: Path = x, tiles: h5py.Dataset = tiles) -> NDArray[np.uint8]:
            try:
                return tiles[index]
            except OSError as error:
                raise ValueError(f"{path}, tile {index} cannot be read ({error}); get the file anew") from error

        names = np.array([f"{official}_{i}".encode() for i in range(len(labels))], "S40")
        yield ours, (names, labels.astype(np.uint8), read)


def _kaggle_splits(source: Path) -> Iterator[tuple[str, Split]]:
    """Deals Kaggle's one labelled folder by the tile's id, 8 in 10 train, 1 val, 1 test: no random state to lose."""
    table = source / "train_labels.csv"
    if not table.exists():
        return
    try:
        with open(table, newline="", encoding="utf-8") as file:
            rows = [(row.get("id") or "", row.get("label") or "") for row in csv.DictReader(file)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table} is not a readable table ({error}); get it anew") from error
    if not rows or any(not name or label not in ("0", "1") for name, label in rows):
        raise ValueError(f"{table} is not the Kaggle list; wanted the columns id and label (0 or 1)")
    place = [int(hashlib.md5(name.encode()).hexdigest(), 16) % 10 for name, _ in rows]
    for split, wanted in (("train", range(8)), ("val", (8,)), ("test", (9,))):
        mine = [row for row, p in zip(rows, place, strict=True) if p in wanted]
        names = np.array([name.encode() for name, _ in mine], "S40")
        labels = np.array([int(label) for _, label in mine], np.uint8)

        def read(index: int, mine: list[tuple[str, str]] = mine) -> NDArray[np.uint8]:
            path = source / "train" / f"{mine[index][0]}.tif"
            try:
                return np.asarray(Image.open(path).convert("RGB"))
            except OSError as error:
                raise ValueError(f"{path} is missing or not a picture ({error}); get the folder anew") from error

        yield split, (names, labels, read)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.pcam.prepare", description="Get or pack PatchCamelyon.")
    raw = Path(__file__).parent / "raw"
    parser.add_argument("--out", type=Path, default=raw, help="folder to write into (default: data/pcam/raw)")
    parser.add_argument("--splits", nargs="+", choices=OFFICIAL, default=list(OFFICIAL), help="parts to get")
    parser.add_argument("--base-url", default=BASE_URL, help="folder on the web that holds the .h5.gz files")
    parser.add_argument("--pack", type=Path, metavar="SOURCE", help="pack this h5 or Kaggle folder; fetches nothing")
    parser.add_argument("--limit", type=int, help="with --pack: so many tiles of each split at most")
    a = parser.parse_args()

    from core.log import Progress

    bars: dict[str, Progress] = {}

    def report(name: str, done: int, total: int) -> None:
        unit = 1 if a.pack else 1 << 20
        if name not in bars:
            bars[name] = Progress(total // unit, name, unit=" tiles" if a.pack else " MiB", start=done // unit)
        bars[name].update(done // unit, total // unit)

    try:
        if a.pack:
            paths = pack(a.pack, a.out, a.limit, report)
        else:
            paths = prepare(a.out, tuple(a.splits), a.base_url, report=report)
    finally:
        for bar in bars.values():
            bar.__exit__()
    print(*paths, sep="\n")


if __name__ == "__main__":
    from core.cli import main as run

    run(main)
