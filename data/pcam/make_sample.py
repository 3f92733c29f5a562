"""Makes the small synthetic sample of PatchCamelyon-like tiles: `python -m data.pcam.make_sample`."""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core import cli
from core.files import publishing
from data.pcam.pack import TILE, tissue_fraction, write_npz
from data.pcam.tissue import STAINS, noise, render

SPLITS = {"train": 64, "val": 32, "test": 32}
CENTRE = slice(32, 64)  # a tile's label speaks of these rows and columns only


def make_tile(seed: int, label: int, group: int) -> NDArray[np.uint8]:
    """Draws one 96x96 RGB tile, uint8, whose centre 32x32 holds tumour nuclei if and only if `label` is 1."""
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        y, x = np.mgrid[:TILE, :TILE]
        tissue = noise((TILE, TILE), 26, rng) > rng.uniform(-3.2, -1.3)  # now and then a hole, as fat or a sinus makes
        if label:
            cy, cx = rng.uniform(36, 60, 2)
            reach = np.hypot(y - cy, x - cx) + 6 * noise((TILE, TILE), 24, rng)
            tumour = reach < rng.uniform(26, 70)
        elif rng.uniform() < 0.12:  # tumour near the border leaves the label at 0: that is the rule of this data set
            side = rng.integers(4)
            tumour = np.stack([y, x, TILE - 1 - y, TILE - 1 - x])[side] < 14
        else:
            tumour = np.zeros((TILE, TILE), bool)
        image, malignant = render(tissue, tumour, rng, STAINS[group], density=rng.uniform(0.75, 1))
        pixels = int(malignant[CENTRE, CENTRE].sum())
        if (pixels >= 120 if label else pixels == 0) and tissue_fraction(image) > 0.3:
            return image
    raise AssertionError(f"no tile for seed {seed}, label {label}, group {group}")


def make_split(split: str, count: int) -> dict[str, NDArray]:
    """Draws one split: images uint8 (N, 96, 96, 3), label and scanner_group uint8 (N,), id bytes (N,)."""
    first = 1000 * (1 + list(SPLITS).index(split))
    order = np.random.default_rng(first).permutation(count)
    label = (np.arange(count) % 2)[order].astype(np.uint8)
    group = (np.arange(count) // 2 % 2)[order].astype(np.uint8)
    images = np.stack([make_tile(first + i, int(label[i]), int(group[i])) for i in range(count)])
    names = [hashlib.sha1(f"synthetic {split} {i}".encode()).hexdigest().encode() for i in range(count)]
    return {"images": images, "label": label, "scanner_group": group, "id": np.array(names, "S40")}


def make(out: Path) -> None:
    """Writes pcam_{train,val,test}.npz and eight example tiles as PNG into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for split, count in SPLITS.items():
        made = make_split(split, count)
        write_npz(out / f"pcam_{split}.npz", made["images"], made["label"], made["scanner_group"], made["id"])
        if split == "test":
            for group in (0, 1):
                for label in (0, 1):
                    mine = np.flatnonzero((made["label"] == label) & (made["scanner_group"] == group))
                    filled = [tissue_fraction(made["images"][i]) for i in mine]
                    chosen = mine[[np.argmax(filled), np.argmin(filled)]]
                    for number, i in enumerate(chosen):
                        name = f"tile_{('normal', 'tumour')[label]}_{'ab'[group]}{number + 1}.png"
                        with publishing(out / name) as part:
                            Image.fromarray(made["images"][i]).save(part, "PNG", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sample", help="folder to write into")
    make(parser.parse_args().out)


if __name__ == "__main__":
    cli.main(main)
