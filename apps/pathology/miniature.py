"""Makes the room's small picture for the home page: `python -m apps.pathology.miniature`.

The sample slide, half of it under the heat map that the default model makes of it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from apps.pathology.heatmap import SlideResult
from apps.pathology.shelf import SAMPLE
from core import cli
from core.files import write

SIZE = (720, 405)
PICTURE = Path(__file__).with_name("miniature.jpg")


def picture(result: SlideResult) -> np.ndarray:
    """Returns uint8 (405, 720, 3): the upper part of a slide's thumbnail, its map over the right half."""
    from apps.pathology.export import overlay
    from apps.pathology.reading import glaze

    height, width = result.thumbnail.shape[:2]
    part = (0, round(0.08 * height), width, round(0.08 * height) + round(width * SIZE[1] / SIZE[0]))
    tissue = Image.fromarray(result.thumbnail).crop(part).resize(SIZE, Image.Resampling.LANCZOS)
    cells = Image.fromarray(glaze(overlay(result), result.heatmap))
    scale = result.cell * width / result.slide_size[0]
    reach = (round(cells.width * scale), round(cells.height * scale))
    layer = Image.new("RGBA", (width, height))
    layer.paste(cells.resize(reach, Image.Resampling.NEAREST))
    seen = np.asarray(layer.crop(part).resize(SIZE, Image.Resampling.NEAREST)).astype(float)
    seen[..., 3] *= 0.75 * (np.arange(SIZE[0]) >= 0.3 * SIZE[0])
    cover = seen[..., 3:] / 255
    return np.rint(np.asarray(tissue) * (1 - cover) + seen[..., :3] * cover).astype(np.uint8)


def main() -> None:
    from apps import pathology

    result = pathology.load().slide(SAMPLE / "synthetic.tif")
    file = io.BytesIO()
    Image.fromarray(picture(result)).save(file, "JPEG", quality=82)
    write(PICTURE, lambda out: out.write(file.getvalue()))
    print(PICTURE)


if __name__ == "__main__":
    cli.main(main)
