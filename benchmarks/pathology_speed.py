"""Tiles per second of the shipped model against timm's own `tf_efficientnet_lite0` in float32, on one CPU thread.

`python -m benchmarks.pathology_speed`: the two run in turn, batch 64, and what counts is the ratio of each pair, for it
holds on a noisy machine. The peer is timm's forward as timm builds it (contiguous memory), from a float tensor that is
already normalised; ours starts from uint8 tiles, as `predictor.logits` is called, and normalises them itself.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch

from apps import pathology
from core.files import publishing
from core.runtime import describe

BATCH = 64
RESULT = Path(__file__).parent / "results" / "pathology_speed.json"


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 3), "median": round(float(np.median(values)), 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="default", help="a published name, a file or a run folder")
    parser.add_argument("--pairs", type=int, default=15, help="times that both are measured")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = pathology.load(options.weights)
    tiles = np.random.default_rng(0).integers(0, 256, (BATCH, 96, 96, 3), np.uint8)
    peer = timm.create_model("tf_efficientnet_lite0").eval()
    last = copy.deepcopy(peer).to(memory_format=torch.channels_last)
    x = torch.rand(BATCH, 3, 96, 96)
    y = x.to(memory_format=torch.channels_last)
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: predictor.logits(tiles), "timm": lambda: peer(x), "timm_channels_last": lambda: last(y)}
    with torch.inference_mode():
        for run in runs.values():
            run()
        times = {name: [] for name in runs}  # type: dict[str, list[float]]
        for _ in range(options.pairs):
            for name, run in runs.items():
                times[name].append(seconds(run))
    result = {
        "date": datetime.date.today().isoformat(), "command": "python -m benchmarks.pathology_speed",
        "device": describe("cpu"), "threads": 1, "batch": BATCH, "precision": predictor.precision,
        "torch": torch.__version__, "timm": timm.__version__, "model": predictor.card.name,
        "sha256_weights": predictor.sha256, "side": predictor.card.model["side"],
        "tiles_per_second": {name: spread([BATCH / t for t in taken]) for name, taken in times.items()},
        "ratio": spread([t / o for t, o in zip(times["timm"], times["ours"], strict=True)]),
        "ratio_channels_last": spread([t / o for t, o in zip(times["timm_channels_last"], times["ours"], strict=True)]),
    }
    print(json.dumps(result))
    with publishing(options.out) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from core.cli import main as guard

    guard(main)
