"""Trains a tumour net: `python -m apps.pathology.train tiny`."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.pathology import data
from apps.pathology.data import Augment, Sample, Tiles
from apps.pathology.model import ModelConfig, build
from core import card, cli
from core.batches import Batches
from core.files import owning
from core.loop import Fit, Scores, fit
from core.metrics import gather_rows
from core.optim import adamw, cosine
from core.runtime import Hardware, Runtime, start


@dataclass(frozen=True)
class Data:
    """Which tiles, and how many at a time."""

    folder: str = ""
    """Folder of tiles, or `sample`; empty takes $WUNDERKAMMER_DATA/pcam, else data/pcam, else the sample."""
    train: tuple[str, ...] = ("train",)
    """Splits to train on; `train_extra` where it is there (the official files have none)."""
    val: str = "val"
    """Split on which the best step is chosen and the probabilities are calibrated."""
    scanner: int = -1
    """Train and choose on this scanner group only (0 or 1); -1 takes all."""
    batch: int = 64
    """Tiles per step, over all processes."""
    workers: int = 0
    """Loader processes; 0 prepares tiles in the training process (1 to 2 ms each)."""

    def __post_init__(self) -> None:
        cli.within(self, -1, 1, "scanner", of="data.")
        cli.within(self, 1, math.inf, "batch", of="data.")
        cli.within(self, 0, math.inf, "workers", of="data.")


@dataclass(frozen=True)
class Optimise:
    """AdamW and its schedule: linear warm-up, then a cosine to zero."""

    lr: float = 5e-4
    """Learning rate of the backbone."""
    head_lr: float = 2e-3
    """Learning rate of the last layer, which starts from nothing."""
    weight_decay: float = 0.02
    """Decoupled weight decay of matrices and filters."""
    warmup: int = 100
    """Steps of linear warm-up."""
    smoothing: float = 0.0
    """Label smoothing: targets become s/2 and 1 - s/2."""

    def __post_init__(self) -> None:
        cli.within(self, 0, math.inf, "lr", "head_lr", "weight_decay", "warmup", of="optimise.")
        cli.within(self, 0, 1, "smoothing", of="optimise.")


@dataclass(frozen=True)
class Config:
    """Trains a net to tell tumour from normal tissue in the centre of a 96x96 lymph-node tile."""

    out: Path = Path("runs/pathology/default")
    """The run's folder. If a run lies there, it goes on."""
    seed: int = 0
    """All randomness follows from it."""
    start: str = ""
    """A trained model (file or run folder) of the same shape to start from; empty starts from `model.pretrained`."""
    teachers: tuple[str, ...] = ()
    """Trained models (files or run folders) whose mean opinion is learned beside the label (distillation)."""
    trust: float = 0.7
    """Weight of the teachers' opinion against the label's."""
    mixup: float = 0.0
    """Share of tiles blended with another of their batch, labels too (mixup): tiles on which no teacher was trained."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    optimise: Optimise = field(default_factory=Optimise)
    fit: Fit = field(default_factory=Fit)
    hardware: Hardware = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        cli.within(self, 0, math.inf, "seed")
        cli.within(self, 0, 1, "trust", "mixup")


ALL = ("train", "train_extra")
PRESETS = {
    "tiny": (
        "A minute model on the sample tiles, in seconds: to see that everything works.",
        Config(out=Path("runs/pathology/tiny"), model=ModelConfig("p4m", side=48, growth=4),
               data=Data(folder="sample", batch=16), optimise=Optimise(lr=5e-3, warmup=2),
               augment=Augment(stain=0.1), fit=Fit(steps=16, log_every=4, evaluate_every=8, save_every=8)),
    ),
    "default": (
        "Goes on from a `lite0` run with tiles enlarged to 128 pixels; an hour on one CPU thread.",
        Config(start="runs/pathology/lite0", model=ModelConfig(side=128), data=Data(train=ALL),
               optimise=Optimise(lr=3e-4, head_lr=3e-4, warmup=50),
               fit=Fit(steps=1300, average=0.998, clip=5.0, evaluate_every=260, save_every=65)),
    ),
    "lite0": (
        "EfficientNet-Lite0 with ImageNet weights, fine-tuned; half an hour on one CPU thread.",
        Config(out=Path("runs/pathology/lite0"), data=Data(train=ALL),
               fit=Fit(steps=1150, average=0.998, clip=5.0, evaluate_every=230, save_every=115)),
    ),
    "unseen": (
        "The lite0 recipe with stronger stain augmentation, for a laboratory never seen: add --data.scanner 0 or 1.",
        Config(out=Path("runs/pathology/unseen"), data=Data(train=ALL), augment=Augment(stain=0.25),
               fit=Fit(steps=600, average=0.995, clip=5.0, evaluate_every=150, save_every=100)),
    ),
    "densenet121": (
        "DenseNet-121 with ImageNet weights, fine-tuned; an hour on one CPU thread with bfloat16.",
        Config(out=Path("runs/pathology/densenet121"), model=ModelConfig("densenet121"), data=Data(train=ALL),
               optimise=Optimise(lr=3e-4), hardware=Hardware(precision="bfloat16"),
               fit=Fit(steps=920, average=0.998, clip=5.0, evaluate_every=230, save_every=115)),
    ),
    "taught": (
        "The shipped model: goes on from a `default` run, taught by its own mean opinion over the eight symmetries.",
        Config(out=Path("runs/pathology/taught"), start="runs/pathology/default",
               teachers=("runs/pathology/default",), trust=0.9, mixup=0.5,
               model=ModelConfig(side=128), data=Data(train=ALL),
               optimise=Optimise(lr=3e-4, head_lr=3e-4, warmup=50),
               fit=Fit(steps=800, average=0.995, clip=5.0, evaluate_every=100, save_every=50)),
    ),
    "p4m": (
        "Rotation-equivariant DenseNet (Veeling 2018) from scratch.",
        Config(out=Path("runs/pathology/p4m"), model=ModelConfig("p4m"), data=Data(train=ALL),
               optimise=Optimise(lr=3e-3, head_lr=3e-3, weight_decay=1e-3),
               fit=Fit(steps=1725, average=0.998, clip=5.0, evaluate_every=230, save_every=115)),
    ),
}


def loss_fn(smoothing: float = 0.0, teach: Callable[[Tensor], Tensor] | None = None, trust: float = 0.0,
            mixup: float = 0.0):
    """Makes the loss: cross-entropy against the label and, with teachers, against their mean probability too.

    Distillation as "a consistent teacher" (Beyer et al. 2022, arXiv 2106.05237): the teachers see the very same
    augmented, perhaps blended, tile as the student.
    """

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = blend(*batch, mixup) if mixup else batch  # (B, 3, 96, 96) uint8, (B,)
        logits = model(images).float()
        targets = labels * (1 - smoothing) + smoothing / 2
        if teach:
            targets = (1 - trust) * targets + trust * teach(images)
        correct = ((logits > 0) == (labels > 0.5)).float().mean()
        return F.binary_cross_entropy_with_logits(logits, targets), {"accuracy": correct}

    return loss


def blend(images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412) of a share of a batch (B, 3, H, W), (B,) with its reverse.

    The weight is uniform, which is the paper's Beta(1, 1); the dice are torch's, which `fit` seeds by the step.
    """
    weight = torch.rand(len(labels), device=labels.device)
    weight = torch.where(torch.rand_like(weight) < share, weight, 1.0)
    w = weight.view(-1, 1, 1, 1)
    mixed = (images * w + images.flip(0) * (1 - w)).round().to(images.dtype)
    return mixed.contiguous(memory_format=torch.channels_last), labels * weight + labels.flip(0) * (1 - weight)


def trained(path: str) -> nn.Module:
    """A trained model; where it is a preset's run that holds none yet, the error names the command that makes it."""
    from apps.pathology.predict import read_net

    for name, (_, config) in PRESETS.items():
        if Path(path) == config.out and not (config.out / "pathology.safetensors").exists():
            raise ValueError(f"{path} holds no model yet; run `python -m apps.pathology.train {name}` first")
    return read_net(path)[0]


def teacher(paths: tuple[str, ...], runtime: Runtime) -> Callable[[Tensor], Tensor] | None:
    """The mean probability (B,) of trained models over the eight symmetries of each tile."""
    if not paths:
        return None
    from apps.pathology.inference import ready

    nets = [ready(trained(path), runtime.device) for path in paths]

    @torch.no_grad()
    def teach(images: Tensor) -> Tensor:
        turns = [torch.rot90(images, k, (-2, -1)) for k in range(4)]
        views = [view.contiguous(memory_format=torch.channels_last) for t in turns for view in (t, t.flip(-1))]
        return torch.stack([net(view).float().sigmoid() for net in nets for view in views]).mean(0)

    return teach


def logits_of(model: nn.Module, tiles: Tiles, runtime: Runtime, batch: int = 64) -> np.ndarray:
    """Logits (N,) float32 of all tiles, each computed once over all ranks."""
    mine = runtime.share(len(tiles))
    rows = []
    for begin in range(0, len(mine), batch):
        images = np.stack([tiles.images[i] for i in mine[begin : begin + batch]])
        rows.append(model(runtime.to_device(data.to_tensor(images))).float().cpu().numpy())
    return gather_rows(runtime, mine, np.concatenate(rows) if rows else np.empty(0, np.float32), len(tiles))


def read_tiles(config: Data) -> tuple[Tiles, Tiles]:
    """The training and the validation tiles of a config."""
    root = data.folder(config.folder)
    train = data.join([data.read(root, split) for split in data.splits(root, config.train)])
    val = data.read(root, config.val)
    if config.scanner >= 0:
        train, val = (tiles.where(tiles.scanner == config.scanner) for tiles in (train, val))
        if not len(train) or not len(val):
            raise ValueError(f"no tile of scanner group {config.scanner} in {root}; use 0 or 1, or -1 for all")
    return train, val


def train(config: Config) -> Scores:
    """Runs one training as its config says; returns the best validation scores."""
    from sklearn.metrics import log_loss, roc_auc_score

    with (start(config.hardware, seed=config.seed) as runtime,
          owning(config.out) if runtime.first else nullcontext()):
        if runtime.first:
            cli.remember(config, config.out)
        tiles, val = read_tiles(config.data)
        model = build(config.model)
        if config.start:
            try:
                model.load_state_dict(trained(config.start).state_dict())
            except RuntimeError as error:
                raise ValueError(f"{config.start!r} is a model of another shape than this run's, so it cannot start it "
                                 f"({' '.join(str(error).split())[:120]}); set --model as it was there") from error
        runtime.place(model)
        o = config.optimise
        kept = config.out / "pathology.safetensors"
        optimizer = adamw([(model.head, o.head_lr), (model.backbone, o.lr)], o.weight_decay)
        batches = Batches(Sample(tiles, config.augment), len(tiles), config.data.batch, seed=config.seed,
                          workers=config.data.workers, rank=runtime.rank, world=runtime.world)

        def evaluate(net: nn.Module) -> Scores:
            logits = logits_of(net, val, runtime)
            chance = 1 / (1 + np.exp(-logits.astype(np.float64)))
            return {"auroc": float(roc_auc_score(val.labels, logits)), "nll": float(log_loss(val.labels, chance)),
                    "accuracy": float(((logits > 0) == val.labels).mean())}

        def keep(net: nn.Module, step: int, scores: Scores) -> None:
            chosen = {key: value for key, value in cli.plain(config).items() if key not in ("out", "hardware")}
            sheet = card.signed(card.Card(
                app="pathology", name=config.out.name, model=asdict(config.model), step=step,
                training=chosen, scores={config.data.val: scores},
                data={"name": tiles.name, "tiles": len(tiles), "sha256": tiles.sha256, "licence": "CC0-1.0"}
                | ({"scanner_group": config.data.scanner} if config.data.scanner >= 0 else {})))
            card.write(kept, net.state_dict(), sheet, torch.float16)

        scores = fit(model, optimizer, batches, loss_fn(o.smoothing, teacher(config.teachers, runtime), config.trust,
                                                 config.mixup),
                     app="pathology", out=config.out, runtime=runtime, options=config.fit,
                     schedule=cosine(config.fit.steps, o.warmup), evaluate=evaluate,
                     better=lambda new, best: new["auroc"] > best["auroc"], keep=keep)
        if runtime.first:
            from apps.pathology.predict import calibrate

            calibrate(kept, val)  # on the kept weights as they are stored
            print(f"{kept}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        return scores


def main() -> None:
    train(cli.parse(PRESETS, prog="python -m apps.pathology.train", description=Config.__doc__ or ""))


if __name__ == "__main__":
    cli.main(main)
