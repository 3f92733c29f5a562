"""A small training for the tests of the loop: `python -m tests.core.training OUT --steps 40`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from core import card, checkpoint
from core.batches import Batches
from core.cli import main
from core.loop import Fit, Scores, fit
from core.metrics import gather_rows
from core.optim import adamw, cosine
from core.runtime import Hardware, Runtime, start

CLASSES = 3


def sample(index: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Returns a noisy picture (3, 8, 8) of one of three classes; the noise is the augmentation."""
    picture = np.random.default_rng(index).normal(size=(3, 8, 8)) + rng.normal(scale=0.3, size=(3, 8, 8))
    picture[index % CLASSES] += 0.5
    return picture.astype(np.float32), index % CLASSES


class Net(nn.Module):
    """A convolution and a linear layer; unless `plain`, with all that makes a resume hard."""

    def __init__(self, plain: bool = False, dropout: float = 0.3) -> None:
        super().__init__()
        hard = [] if plain else [nn.BatchNorm2d(8), nn.Dropout(dropout)]
        conv = nn.Conv2d(3, 8, 3, bias=plain)  # batch norm takes a bias away, and its gradient would be rounding only
        self.body = nn.Sequential(conv, *hard, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy and accuracy."""
    pictures, labels = batch
    logits = model(pictures)
    return F.cross_entropy(logits, labels), {"accuracy": (logits.argmax(1) == labels).float().mean()}


def evaluation(runtime: Runtime, n: int) -> Callable[[nn.Module], Scores]:
    """Makes a function that scores a model on n samples, shared among the ranks."""

    def evaluate(model: nn.Module) -> Scores:
        indices = runtime.share(n)
        pictures = torch.from_numpy(np.stack([sample(index, np.random.default_rng(0))[0] for index in indices]))
        rows = gather_rows(runtime, indices, model(pictures).numpy(), n)
        return {"accuracy": float((rows.argmax(1) == np.arange(n) % CLASSES).mean()), "n": len(rows)}

    return evaluate


def train(
    out: Path,
    *,
    steps: int = 40,
    total: int = 40,
    plain: bool = False,
    dropout: float = 0.3,
    workers: int = 0,
    accumulate: int = 2,
    clip: float = 1.0,
    average: float = 0.9,
    log_every: int = 5,
    evaluate_every: int = 10,
    save_every: int = 20,
    lr: float = 3e-3,
    app: str = "toy",
    runtime: Runtime | None = None,
    before: Callable[[Runtime, nn.Module, torch.optim.Optimizer], Any] | None = None,
    loss: Any = loss_fn,
) -> Scores:
    """Trains the small net, with a schedule over `total` steps.

    Args:
        before: called with runtime, model and optimizer before `fit`.
    """
    with nullcontext(runtime) if runtime else start(Hardware(device="cpu", threads=1), seed=5) as runtime:
        torch.manual_seed(5)
        model = runtime.place(Net(plain, dropout))
        optimizer = adamw([(model.body, lr), (model.head, 2 * lr)], weight_decay=0.01)
        if before:
            before(runtime, model, optimizer)

        def keep(best: nn.Module, step: int, scores: Scores) -> None:
            card.write(out / "best.safetensors", best.state_dict(), card.Card(app, {"plain": plain}, step=step))

        return fit(
            model,
            optimizer,
            Batches(sample, 50, 12, seed=5, workers=workers, rank=runtime.rank, world=runtime.world),
            loss,
            app=app,
            out=out,
            runtime=runtime,
            options=Fit(steps, accumulate, clip, average, log_every, evaluate_every, save_every),
            schedule=cosine(total, warmup=5),
            evaluate=evaluation(runtime, 51),
            better=lambda new, best: new["accuracy"] > best["accuracy"],
            keep=keep,
        )


def same(one: Any, other: Any) -> bool:
    """Whether two states hold the same bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def assert_same_run(one: Path, other: Path) -> None:
    """Asserts that two runs ended with the same weights, optimizer state, moving average, log and kept model."""
    states = [checkpoint.load(out / "last.pt", "toy") for out in (one, other)]
    assert states[0]["step"] == states[1]["step"]
    assert same(*states)
    for name in ("log.jsonl", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


if __name__ == "__main__":
    main(lambda: tyro.cli(train))
