"""Trains a net: `python -m apps.go.train distill` from labels, `selfplay`, `connect4` or `small` by its own games."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from apps.go import data, expert, plan
from apps.go.data import Positions, Sample
from apps.go.loss import Optimise, loss_fn
from apps.go.model import ModelConfig, Net
from core import card, cli
from core.batches import Batches
from core.loop import Fit, Scores, fit
from core.metrics import gather_rows
from core.optim import adamw, cosine
from core.runtime import Hardware, Runtime, start


@dataclass(frozen=True)
class Data:
    """Which positions, and how many at a time."""

    folder: str = ""
    """Folder of the label file, or `sample`; empty takes $WUNDERKAMMER_DATA/go, else data/go, else the sample."""
    batch: int = 256
    """Positions per step, over all processes."""
    workers: int = 0
    """Loader processes; 0 prepares positions in the training process (about 0.1 ms each)."""
    evaluate: int = 0
    """Positions of the validation split that are looked at; 0 takes all."""


@dataclass(frozen=True)
class Config:
    """Trains a small policy-value net on positions of 9x9 Go that a stronger net has judged."""

    out: Path = Path("runs/go/default")
    """The run's folder. If a run lies there, it goes on."""
    seed: int = 0
    """All randomness follows from it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Data = field(default_factory=Data)
    optimise: Optimise = field(default_factory=Optimise)
    fit: Fit = field(default_factory=Fit)
    hardware: Hardware = field(default_factory=Hardware)


PRESETS = {
    "tiny": (
        "A minute net on the sample games, in seconds: to see that everything works.",
        Config(out=Path("runs/go/tiny"), model=ModelConfig(blocks=2, channels=16, head=8),
               data=Data(folder="sample", batch=32), optimise=Optimise(warmup=4),
               fit=Fit(steps=24, log_every=8, evaluate_every=12, save_every=12)),
    ),
    "distill": (
        "The shipped net's first part: learns from a stronger net's opinion of 310,000 positions.",
        Config(out=Path("runs/go/distill"), data=Data(batch=128), hardware=Hardware(precision="bfloat16"),
               fit=Fit(steps=7000, average=0.998, clip=2.0, log_every=50, evaluate_every=500, save_every=100)),
    ),
}


SCORES = ("top1", "teacher_top1", "policy", "value", "lead_error", "winner")


def scores_of(model: nn.Module, positions: Positions, runtime: Runtime, n: int = 0, batch: int = 256) -> Scores:
    """Held-out scores over the first n (0: all) positions.

    top1: agreement of the first choice with the move played; teacher_top1: with the teacher's first choice; policy:
    cross-entropy against the teacher in nats; value: squared error of the win rate; lead_error: mean absolute error of
    the lead in points; winner: share of positions where net and teacher see the same side ahead.
    """
    n = min(n or len(positions), len(positions))
    mine = runtime.share(n)
    rows = []
    for begin in range(0, len(mine), batch):
        chosen = mine[begin : begin + batch]
        b = runtime.to_device(data.to_tensors(positions, chosen))
        out = model(b["planes"], b["numbers"])
        logp = out.policy[:, 0].float().masked_fill(~b["legal"], -1e4).log_softmax(1)
        odds = out.value.float().softmax(1)
        winrate = odds[:, 0] + odds[:, 2] / 2
        played = (b["move"] < data.MOVES).float()
        columns = [
            (logp.argmax(1) == b["move"]).float(), (logp.argmax(1) == b["policy"].argmax(1)).float(),
            -(b["policy"] * logp).sum(1), (winrate - b["winrate"]).square(),
            (out.score.float() * 10 - b["lead"]).abs(), ((winrate > 0.5) == (b["winrate"] > 0.5)).float(), played]
        rows.append(torch.stack([c.float() for c in columns], 1).cpu().numpy())
    table = gather_rows(runtime, mine, np.concatenate(rows), n)
    means = table[:, :-1].mean(0)
    means[0] = table[:, 0].sum() / table[:, -1].sum()
    return {name: round(float(value), 6) for name, value in zip(SCORES, means, strict=True)}


def train(config: Config) -> Scores:
    """Runs one training as its config says; returns the best validation scores."""
    with start(config.hardware, seed=config.seed) as runtime:
        if runtime.first:
            cli.remember(config, config.out)
        root = data.folder(config.data.folder)
        positions, val = data.read(root, "train"), data.read(root, "val")
        model = runtime.place(Net(config.model))
        o = config.optimise
        batches = Batches(Sample(positions), len(positions), config.data.batch, seed=config.seed,
                          workers=config.data.workers, rank=runtime.rank, world=runtime.world)

        def keep(net: nn.Module, step: int, scores: Scores) -> None:
            chosen: dict[str, Any] = {k: v for k, v in cli.plain(config).items() if k not in ("out", "hardware")}
            sheet = card.signed(card.Card(
                app="go", name=config.out.name, model=asdict(config.model), step=step, training=chosen,
                scores={"val": scores},
                data={"name": positions.name, "positions": len(positions), "sha256": positions.sha256,
                      "licence": "labels Apache-2.0, games MIT"}))
            card.write(config.out / "go.safetensors", net.state_dict(), sheet, torch.float16)

        scores = fit(model, adamw([(model, o.lr)], o.weight_decay), batches, loss_fn(o), app="go", out=config.out,
                     runtime=runtime, options=config.fit, schedule=cosine(config.fit.steps, o.warmup),
                     evaluate=lambda net: scores_of(net, val, runtime, config.data.evaluate),
                     better=lambda new, best: new["top1"] >= best["top1"], keep=keep)
        if runtime.first:
            print(f"{config.out / 'go.safetensors'}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
        return scores


def main() -> None:
    presets: dict[str, tuple[str, Any]] = {**PRESETS, **plan.PRESETS}
    config = cli.parse(presets, prog="python -m apps.go.train", description=__doc__ or "")
    expert.train(config) if isinstance(config, plan.Config) else train(config)


if __name__ == "__main__":
    cli.main(main)
