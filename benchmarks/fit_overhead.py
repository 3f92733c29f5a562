"""What `core.loop.fit` costs beside the bare loop that one would write by hand, on one CPU thread.

`python -m benchmarks.fit_overhead`: both train one small convolutional net, batch 32, in one process, in turn for 20
steps each (the bare loop runs inside the stream that feeds `fit`; two nets would differ by 5 % for where they happen to
lie in memory), and what counts is the median ratio of the pairs, for it holds on a noisy machine. The bare loop:
forward, loss, backward, step, and a look at the loss every 20 steps.
`fit` does its all: schedule, seeds, a check of every loss, means, log, progress, and a saved state every 200 steps.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.files import publishing
from core.loop import Fit, fit
from core.optim import cosine
from core.runtime import Hardware, describe, start

BATCH, BLOCK = 32, 20
RESULT = Path(__file__).parent / "results" / "fit_overhead.json"

Batch = tuple[Tensor, Tensor]


def net() -> nn.Module:
    """Three convolutions over 32 x 32 pixels, some 60,000 weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for narrow, wide in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def loss_fn(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    pictures, labels = batch
    return F.cross_entropy(model(pictures), labels), {}


def by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> None:
    """The loop that `fit` is compared with."""
    for pictures, labels in batches:
        loss = F.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loss.item()


class Clock:
    """Wall and processor seconds since the last look."""

    def __init__(self) -> None:
        self._last = (time.perf_counter(), time.process_time())

    def look(self) -> tuple[float, float]:
        now = (time.perf_counter(), time.process_time())
        taken = (now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return taken


def keep_memory() -> None:
    """Tells glibc to keep what is freed: giving it back and faulting it in anew cost either loop 5 % by pure chance."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            getattr(libc, "mallopt", lambda *_: 0)(option, 1 << 30)


def measure(pairs: int) -> dict[str, np.ndarray]:
    """Runs both in turn; returns the seconds of each block as (pairs, 2): wall, processor."""
    taken: dict[str, list[tuple[float, float]]] = {"fit": [], "by_hand": []}
    with start(Hardware(device="cpu", threads=1)) as runtime, tempfile.TemporaryDirectory() as folder:
        generator = torch.Generator().manual_seed(0)
        data = [
            runtime.to_device((torch.randn(BATCH, 3, 32, 32, generator=generator), torch.arange(BATCH) % 10))
            for _ in range(BLOCK)
        ]
        model = runtime.place(net())
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        by_hand(model, optimizer, data)

        def stream(step: int) -> Iterator[Any]:
            clock = Clock()
            while True:
                clock.look()
                by_hand(model, optimizer, data)
                taken["by_hand"].append(clock.look())
                yield from data
                taken["fit"].append(clock.look())

        steps = BLOCK * (pairs + 1)
        options = Fit(steps, log_every=BLOCK, save_every=200)
        fit(model, optimizer, stream, loss_fn, app="bench", out=Path(folder), runtime=runtime, options=options,
            schedule=cosine(steps, 10))  # fmt: skip
    # The first block of fit warms up; its last one ends outside of the stream and is not measured.
    return {name: np.array(blocks[1:pairs]) for name, blocks in taken.items()}


NAMES = ("quartile", "median", "third_quartile")


def spread(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {name: round(float(value), 4) for name, value in zip(NAMES, (low, median, high), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="blocks of 20 steps that each of the two runs")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    keep_memory()
    taken = measure(options.pairs)
    wall, processor = (taken["fit"][:, i] / taken["by_hand"][:, i] for i in (0, 1))
    bare, total = (float(np.median(taken[name][:, 1])) / BLOCK for name in ("by_hand", "fit"))
    result = {
        "date": datetime.date.today().isoformat(), "command": "python -m benchmarks.fit_overhead",
        "device": describe("cpu"), "threads": 1, "batch": BATCH, "torch": torch.__version__, "pairs": len(wall),
        "milliseconds_per_step_by_hand": round(1e3 * bare, 2),
        "microseconds_per_step_added": round(1e6 * (total - bare)),
        "ratio_wall": spread(wall), "ratio_processor": spread(processor),
        "ratio_of_sums_with_saves": round(float(taken["fit"].sum(0)[1] / taken["by_hand"].sum(0)[1]), 4),
    }  # fmt: skip
    print(json.dumps(result))
    with publishing(options.out) as part:
        part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from core.cli import main as guard

    guard(main)
