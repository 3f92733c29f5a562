"""Composes slides whose truth is known exactly: real tiles on a synthetic layout.

`python -m data.slides.compose --tiles data/pcam/sample --split test --out runs/composites --slides 4`

Tiles are 96x96 pixels and their label speaks of the centre 32x32 only. So they are laid on a grid of 96 pixels, each
kept to the last bit, and on the map of 32-pixel cells the truth is known at every third cell only: the centre cell of
tile (r, c) is cell (3 r + 1, 3 c + 1). All other cells are unknown: they count neither for nor against a model.
Positive tiles stand in contiguous clusters, the lesions, with at least two healthy tiles (187 um) between them.

Legend: R, C rows and columns of tiles; h = 3 R, w = 3 C rows and columns of cells.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.files import write
from data.pcam.pack import TILE, image, read_npz
from data.pcam.tissue import noise
from data.slides.pyramid import write_pyramid

MPP = 0.972  # micrometres per pixel of PatchCamelyon
CELL = 32  # pixels
GLASS = (244, 243, 246)
UNKNOWN = -1
SIZES = (1, 1, 2, 2, 3, 4, 6, 8, 12)  # tiles in a lesion, drawn with equal chance


@dataclass(frozen=True)
class Layout:
    """Where a slide has tissue and lesions, on the grid of tiles."""

    tissue: NDArray[np.bool_]  # (R, C)
    lesions: NDArray[np.int32]  # (R, C): 0 none, else the lesion's number from 1


def lay_out(negatives: int, positives: int, rng: np.random.Generator) -> Layout:
    """Draws a layout with exactly `negatives` tiles of healthy tissue and at most `positives` of tumour."""
    total = negatives + positives
    side = int(np.ceil(np.sqrt(total / 0.5))) + 2  # about half of the slide is glass, with a margin of one tile
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    field = 0.35 * noise((side, side), side / 2, rng)
    for _ in range(3):
        cy, cx = rng.uniform(-0.25, 0.25, 2)
        field = np.maximum(field, 1.2 - np.hypot(y - cy, x - cx) / rng.uniform(0.2, 0.32) + 0.25 * field)
    field[[0, -1]] = field[:, [0, -1]] = -np.inf
    best = np.argsort(-field, axis=None, kind="stable")  # tissue first, glass last
    tissue = np.zeros((side, side), bool)
    tissue.flat[best[:total]] = True
    lesions = _grow(tissue, positives, rng)
    healthy = [cell for cell in best[:total] if lesions.flat[cell] == 0]
    tissue.flat[healthy[negatives:]] = False  # lesions that found no room leave too much tissue: its rim goes
    return Layout(tissue, lesions)


def _grow(tissue: NDArray[np.bool_], budget: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Grows lesions tile by tile from random seeds until the budget is spent or there is no room apart from others."""
    lesions = np.zeros(tissue.shape, np.int32)
    number = 0
    while budget > 0:
        free = tissue & ~_near(_near(lesions > 0))
        if not free.any():
            break
        number += 1
        cell = int(rng.choice(np.flatnonzero(free)))
        want = min(int(rng.choice(SIZES)), budget)
        for _ in range(want):
            lesions.flat[cell] = number
            free.flat[cell] = False
            budget -= 1
            edge = np.flatnonzero(_beside(lesions == number) & free)
            if len(edge) == 0:
                break
            cell = int(rng.choice(edge))
    return lesions


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Marks cells that share a side with the mask, the mask included."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def _near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Marks cells that share a side or a corner with the mask, the mask included."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    wide = out.copy()
    wide[:, 1:] |= out[:, :-1]
    wide[:, :-1] |= out[:, 1:]
    return wide


def share(
    label: NDArray, group: NDArray, slides: int, normal: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Deals tiles to slides, each tile once: a list of (negatives, positives) as indices.

    A slide has tiles of one scanner where there are slides enough for every scanner; the last slides of the list of
    each scanner stay without tumour until there are `normal` of them.
    """
    groups = np.unique(group)
    if slides < len(groups):
        groups, group = np.zeros(1, group.dtype), np.zeros_like(group)
    tiles = np.array([(group == g).sum() for g in groups])
    number = np.ones(len(groups), int)
    while number.sum() < slides:
        number[int(np.argmax(tiles / number))] += 1
    healthy = np.zeros(len(groups), int)
    for _ in range(normal):
        healthy[int(np.argmax(number - 2 * healthy))] += 1
    dealt = []
    for g, count, without in zip(groups, number, healthy, strict=True):
        negative = rng.permutation(np.flatnonzero((group == g) & (label == 0)))
        positive = rng.permutation(np.flatnonzero((group == g) & (label == 1)))
        with_tumour = max(count - without, 0)
        tumours = [*np.array_split(positive, with_tumour)] if with_tumour else []
        tumours += [positive[:0]] * (count - with_tumour)
        dealt += list(zip(np.array_split(negative, count), tumours, strict=True))
    return dealt


def truth(layout: Layout, placed: NDArray[np.int32], label: NDArray) -> dict[str, NDArray]:
    """Gives what is known of a slide.

    `tile` int32 (R, C): index of the tile in its split, -1 glass. `label` int8 (h, w): 1 or 0 at the centre cell of
    each tile, -1 where nothing is known. `lesions` int32 (h, w): the number of the lesion on all nine cells of its
    tiles, 0 on glass and at the centre of healthy tiles, -1 (ignore) on the rim of healthy tiles, unlabelled.
    """
    cells = np.full([3 * n for n in placed.shape], UNKNOWN, np.int8)
    cells[1::3, 1::3] = np.where(placed >= 0, label[placed], UNKNOWN)
    lesions = np.kron(layout.lesions, np.ones((3, 3), np.int32)).astype(np.int32)
    rim = np.kron(layout.tissue, np.ones((3, 3), bool)) & (cells == UNKNOWN) & (lesions == 0)
    lesions[rim] = UNKNOWN
    return {"tile": placed, "label": cells, "lesions": lesions}


def compose(
    tiles: Path,
    split: str,
    out: Path,
    slides: int,
    *,
    normal: int | None = None,
    tumour: float = 0.25,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes `slide_<n>.tif`, its `slide_<n>.npz` (see `truth`) and, last, composites.json; returns that one's path.

    Args:
        tiles: folder with pcam_<split>.npz; no tile is used twice.
        normal: slides without tumour; a quarter of them by default.
        tumour: share of a slide's tiles that are positive, at most.
        limit: use so many tiles at most.

    Raises:
        ValueError: if there are too few tiles for so many slides, or the tiles are damaged.
        OSError: naming the file that cannot be written.
    """
    if seed < 0 or (limit is not None and limit < 1):
        raise ValueError(f"seed {seed}, limit {limit} make no slides; give a seed from 0 and a limit from 1")
    if slides < 1 or (normal is not None and not 0 <= normal < slides):
        raise ValueError(f"{slides} slides, {normal or 0} of them without tumour, cannot be made; ask for more slides")
    source = tiles / f"pcam_{split}.npz"
    packed = read_npz(source)
    rng = np.random.default_rng([seed, slides])
    label = packed["label"].astype(np.int8)
    group = packed.get("scanner_group", np.zeros(len(label), np.uint8))
    normal = slides // 4 if normal is None else normal
    if not 0 < tumour < 1:
        raise ValueError(f"the share of tumour must lie between 0 and 1, not {tumour}")
    chosen = np.sort(rng.permutation(len(label))[:limit])
    few = ValueError(f"{source} has too few tiles for {slides} slides ({len(chosen)}); ask for fewer slides")
    if 4 * slides > len(chosen):
        raise few
    dealt = [
        (chosen[negative], chosen[positive])
        for negative, positive in share(label[chosen], group[chosen], slides, normal, rng)
    ]
    if min(len(negative) for negative, _ in dealt) < 4 or not any(len(positive) for _, positive in dealt):
        raise few
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for number, (negative, positive) in enumerate(dealt, start=1):
        most = max(1, round(len(negative) * tumour / (1 - tumour)))
        layout = lay_out(len(negative), min(len(positive), most), rng)
        rows, columns = layout.tissue.shape[0], layout.tissue.shape[1]
        placed = np.full((rows, columns), -1, np.int32)
        placed[layout.lesions > 0] = positive[: (layout.lesions > 0).sum()]
        placed[layout.tissue & (layout.lesions == 0)] = negative
        pixels = np.empty((rows * TILE, columns * TILE, 3), np.uint8)
        pixels[:] = GLASS
        for r, c in np.argwhere(placed >= 0):
            try:
                pixels[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE] = image(packed, int(placed[r, c]))
            except ValueError as error:
                raise ValueError(f"{source} is damaged: {error}; get it anew") from error
        name = f"slide_{number:02d}"
        write_pyramid(out / f"{name}.tif", pixels, MPP, description="Real tiles on a synthetic layout, not a slide.")
        known = truth(layout, placed, label)
        write(out / f"{name}.npz", partial(np.savez_compressed, **known))  # type: ignore[arg-type]
        records.append(
            {
                "slide": f"{name}.tif",
                "truth": f"{name}.npz",
                "scanner_groups": sorted({int(g) for g in group[placed[placed >= 0]]}),
                "healthy_tiles": len(negative),
                "tumour_tiles": int((layout.lesions > 0).sum()),
                "lesions": [int(n) for n in np.bincount(layout.lesions.ravel())[1:]],  # tiles in each
            }
        )
        if progress:
            progress(number, slides)
    summary = {
        "split": split, "source": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "seed": seed,
        "mpp": MPP, "cell": CELL, "tile": TILE, "slides": records,
    }  # fmt: skip
    index = out / "composites.json"
    write(index, lambda file: file.write((json.dumps(summary, indent=1) + "\n").encode()))
    return index


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.slides.compose", description="Compose slides from tiles.")
    parser.add_argument("--tiles", type=Path, required=True, help="folder with pcam_<split>.npz")
    parser.add_argument("--split", default="test", help="which split (default: test)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--slides", type=int, default=4, help="how many slides (default: 4)")
    parser.add_argument("--normal", type=int, help="how many of them without tumour (default: a quarter)")
    parser.add_argument("--tumour", type=float, default=0.25, help="share of tumour tiles at most (default: 0.25)")
    parser.add_argument("--limit", type=int, help="use so many tiles at most")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another layout (default: 0)")
    a = parser.parse_args()
    index = compose(a.tiles, a.split, a.out, a.slides, normal=a.normal, tumour=a.tumour, limit=a.limit, seed=a.seed)
    for record in json.loads(index.read_text())["slides"]:
        print(
            f"{a.out / record['slide']}: {record['healthy_tiles']} healthy and {record['tumour_tiles']} tumour tiles, "
            f"lesions of {record['lesions'] or 'none'}"
        )


if __name__ == "__main__":
    from core.cli import main as run

    run(main)
