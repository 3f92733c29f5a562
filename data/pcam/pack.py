"""The packed form of PatchCamelyon: lossless WebP tiles one after another in a single .npz file.

Keys: `webp` uint8 (bytes of all tiles), `offsets` int64 (N + 1), `label` uint8 (N), `scanner_group` uint8 (N),
`tissue_fraction` float16 (N), `id` S40 (N). Tile i is `webp[offsets[i]:offsets[i + 1]]`.
"""

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.checked import arrays
from core.files import write

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


def read_npz(path: Path) -> dict[str, NDArray]:
    """Reads every array of a packed file; `image(packed, i)` decodes a tile.

    Raises:
        ValueError: if the file is not a packed tile file.
    """
    if not path.exists():
        there = ", ".join(sorted(p.name for p in path.parent.glob("pcam_*.npz"))) or "no packed files"
        raise ValueError(f"{path} is not there; its folder has {there}")
    packed = arrays(path, {"webp": ("u", 1), "offsets": ("iu", 1), "label": ("iub", 1)})
    label, group = packed["label"], packed.get("scanner_group", packed["label"])
    ends = np.concatenate([[0], packed["offsets"].astype(np.int64), [len(packed["webp"])]])
    if len(ends) != len(label) + 3 or (np.diff(ends) < 0).any():
        raise ValueError(f"{path} is damaged: its offsets do not fit its tiles; get it anew")
    if not np.isin(label, (0, 1)).all() or group.shape != label.shape or group.dtype.kind not in "iub":
        raise ValueError(f"{path} is damaged: each tile needs a label of 0 or 1 and a scanner group; get it anew")
    return packed


def image(packed: dict[str, NDArray], index: int) -> NDArray[np.uint8]:
    """Decodes tile `index` of a packed file: uint8 (96, 96, 3) RGB.

    Raises:
        ValueError: if it is damaged.
    """
    start, end = packed["offsets"][index : index + 2]
    try:
        tile = np.asarray(Image.open(io.BytesIO(packed["webp"][start:end].tobytes())).convert("RGB"))
    except OSError as error:
        raise ValueError(f"tile {index} is not a readable picture ({error})") from error
    if tile.shape != (TILE, TILE, 3):
        raise ValueError(f"tile {index} has the shape {tile.shape}, wanted {(TILE, TILE, 3)}")
    return tile


def _encode(tile: NDArray[np.uint8]) -> tuple[bytes, float, int]:
    """Gives a tile as lossless WebP, its tissue fraction and its guessed scanner group."""
    if tile.shape != (TILE, TILE, 3) or tile.dtype != np.uint8:
        raise ValueError(f"a tile must be 96x96x3 uint8, this one is {tile.shape} {tile.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "WEBP", lossless=True, quality=60, method=4)
    return buffer.getvalue(), tissue_fraction(tile), scanner_group(tile)


def write_npz(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    label: NDArray[np.uint8],
    group: NDArray[np.uint8] | None,
    ids: NDArray[np.bytes_],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Packs tiles uint8 (96, 96, 3) into `path`, whole or not at all; the scanner group is guessed where it is None."""
    blobs, fraction, guessed = [], [], []
    source, done = iter(images), 0
    with ThreadPoolExecutor() as pool:  # encoding leaves Python's lock
        while batch := list(islice(source, 256)):
            for blob, tissue, scanner in pool.map(_encode, batch):
                blobs.append(blob)
                fraction.append(tissue)
                guessed.append(scanner)
            done += len(batch)
            if progress:
                progress(done, len(label))
    if not len(blobs) == len(label) == len(ids):
        raise ValueError(f"{len(blobs)} tiles, {len(label)} labels and {len(ids)} ids do not match")
    columns = {
        "webp": np.frombuffer(b"".join(blobs), np.uint8),
        "offsets": np.cumsum([0] + [len(b) for b in blobs]).astype(np.int64),
        "label": np.asarray(label, np.uint8),
        "scanner_group": np.asarray(guessed if group is None else group, np.uint8),
        "tissue_fraction": np.asarray(fraction, np.float16),
        "id": np.asarray(ids, "S40"),
    }
    write(path, lambda file: np.savez(file, **columns))  # type: ignore[arg-type]
