"""Makes the small synthetic slide: `python -m data.slides.make_sample`. It is a drawing, not a patient."""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.pcam.tissue import STAINS, noise, render
from data.slides.pyramid import write_pyramid

SIZE = (1536, 2048)  # height, width
MPP = 0.5


def draw(seed: int = 7) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draws a slide of three pieces of tissue, one of them with a tumour: uint8 (H, W, 3) and bool (H, W) of tumour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    ragged = noise(SIZE, 220, rng)

    def blob(cy: float, cx: float, ry: float, rx: float, rough: float = 0.12) -> NDArray[np.bool_]:
        return np.hypot((y - cy) / ry, (x - cx) / rx) + rough * ragged < 1

    tissue = blob(640, 620, 440, 430) | blob(520, 1560, 300, 260) | blob(1230, 1420, 170, 300)
    tissue &= noise(SIZE, 60, rng) > -2.1  # fat cells and sinuses
    tumour = tissue & (blob(700, 700, 190, 210, 0.2) | blob(480, 1600, 90, 100, 0.2))
    image, _ = render(tissue, tumour, rng, STAINS[0], mpp=MPP, density=0.9, grain=0.01, step=1)
    return image, tumour


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    out = Path(__file__).parent / "sample" / "synthetic.tif"
    parser.add_argument("--out", type=Path, default=out, help="the file to write")
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    write_pyramid(out, draw()[0], MPP, quality=82, description="Synthetic tissue, not a patient. Made by wunderkammer.")


if __name__ == "__main__":
    main()
