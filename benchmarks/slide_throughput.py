"""Tiles per second of a whole slide, reading alone and with the shipped model, against OpenSlide reading alone.

`python -m benchmarks.slide_throughput [SLIDE] [--mpp 0.25]`: four ways over the same cells of tissue, in turn, each
with a slide opened anew, so that the ratio of each round holds on a noisy machine.

- `openslide`: one `read_region` and one resize a tile, no net, one thread, as most programs read;
- `reading`: our reader threads, blocks and cutting, no net;
- `model`: the model alone on tiles that lie in memory, one thread;
- `scoring`: reading and the model in the pipeline of `predictor.slide`.

`scoring` over `model` says how busy the pipeline keeps the model. Finding tissue is not timed in any of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLE = Path(__file__).parents[1] / "data" / "slides" / "sample" / "synthetic.tif"
RESULT = Path(__file__).parent / "results" / "slide_throughput.json"
BATCH = 64

Score = Callable[[np.ndarray], np.ndarray]


def openslide_rate(path: Path, mpp: float, mask: np.ndarray, cells: int) -> float:
    """Return tiles per second of the plain way: for each cell of tissue one region, resized to 96 x 96."""
    import openslide
    from PIL import Image

    from apps.pathology.slide import NATIVE_MPP, TILE

    with openslide.OpenSlide(path) as slide:
        step = NATIVE_MPP / mpp
        level = slide.get_best_level_for_downsample(step)
        side = round(TILE * step / slide.level_downsamples[level])
        wanted = np.argwhere(mask)[:cells].tolist()
        begin = time.perf_counter()
        for row, column in wanted:
            corner = (round((column - 1) * 32 * step), round((row - 1) * 32 * step))
            region = slide.read_region(corner, level, (side, side)).convert("RGB")
            np.asarray(region.resize((TILE, TILE), Image.Resampling.BOX))
        return len(wanted) / (time.perf_counter() - begin)


def pipeline_rate(path: Path, mpp: float, score: Score, readers: int) -> tuple[float, np.ndarray]:
    """Return tiles per second from the first read to the last score, and the mask of tissue."""
    from apps.pathology.reader import open_slide
    from apps.pathology.slide import score_slide

    at: list[tuple[float, int]] = []
    with open_slide(path, mpp) as reader:
        result = score_slide(reader, score, mpp=mpp, batch=BATCH, readers=readers,
                             progress=lambda done, total: at.append((time.perf_counter(), done)))  # fmt: skip
    if len(at) < 2:
        raise ValueError(f"no tissue was found on {path.name}; name a slide with tissue")
    return (at[-1][1] - at[0][1]) / (at[-1][0] - at[0][0]), result.mask


def model_rate(score: Score, batches: int) -> float:
    """Return tiles per second of the model on full batches in memory."""
    tiles = np.random.default_rng(0).integers(0, 256, (BATCH, 96, 96, 3), np.uint8)
    score(tiles)
    begin = time.perf_counter()
    for _ in range(batches):
        score(tiles)
    return BATCH * batches / (time.perf_counter() - begin)


def spread(values: list[float]) -> dict[str, float]:
    """Return least, median and greatest value."""
    return {"min": round(min(values), 3), "median": round(float(np.median(values)), 3), "max": round(max(values), 3)}


def main() -> None:
    """Measure, print one line of JSON and write it beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", default=SAMPLE, help="the synthetic sample if left out")
    parser.add_argument("--mpp", type=float, help="microns per pixel, if the slide does not say")
    parser.add_argument("--weights", default="default", help="a published name, a file or a run folder")
    parser.add_argument("--rounds", type=int, default=3, help="times that all are measured")
    parser.add_argument("--readers", type=int, default=2, help="threads that read")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()

    import openslide
    import tifffile
    import torch

    from apps import pathology
    from apps.pathology.reader import open_slide
    from core.files import publishing
    from core.runtime import describe

    torch.set_num_threads(1)
    predictor = pathology.load(options.weights)
    with open_slide(options.slide, options.mpp) as reader:
        mpp, size = reader.need_mpp(), reader.size
    nothing = np.zeros(BATCH, np.float32)
    _, mask = pipeline_rate(options.slide, mpp, lambda tiles: nothing[: len(tiles)], options.readers)  # warms the disk
    cells = int(mask.sum())
    rates: dict[str, list[float]] = {"openslide": [], "reading": [], "model": [], "scoring": []}
    for _ in range(options.rounds):
        rates["openslide"].append(openslide_rate(options.slide, mpp, mask, min(cells, 1000)))
        rates["reading"].append(
            pipeline_rate(options.slide, mpp, lambda tiles: nothing[: len(tiles)], options.readers)[0]
        )
        rates["model"].append(model_rate(predictor.probabilities, max(1, math.ceil(min(cells, 1000) / BATCH))))
        rates["scoring"].append(pipeline_rate(options.slide, mpp, predictor.probabilities, options.readers)[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    result = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python -m benchmarks.slide_throughput", *_shown(options)]),
        "slide": options.slide.name, "size": size, "mpp": mpp, "cells": cells, "batch": BATCH,
        "readers": options.readers, "device": describe(predictor.device), "cpu": describe("cpu"),
        "precision": predictor.precision, "model": predictor.card.name, "sha256_weights": predictor.sha256,
        "torch": torch.__version__, "openslide": openslide.__library_version__, "tifffile": tifffile.__version__,
        "peak_rss_mib": round(peak),
        "tiles_per_second": {name: spread(values) for name, values in rates.items()},
        "ratio_scoring_to_openslide": _ratio(rates, "scoring", "openslide"),
        "ratio_reading_to_openslide": _ratio(rates, "reading", "openslide"),
        "ratio_scoring_to_model": _ratio(rates, "scoring", "model"),
    }  # fmt: skip
    print(json.dumps(result))
    with publishing(options.out) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _ratio(rates: dict[str, list[float]], over: str, under: str) -> dict[str, float]:
    return spread([a / b for a, b in zip(rates[over], rates[under], strict=True)])


def _shown(options: argparse.Namespace) -> list[str]:
    named = [] if options.slide == SAMPLE else [options.slide.name]
    return named + ([f"--mpp {options.mpp:g}"] if options.mpp else [])


if __name__ == "__main__":
    from core.cli import main as guard

    guard(main)
