"""What a training by self-play is made of: its configuration and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from apps.go.loss import Optimise
from apps.go.model import ModelConfig
from apps.go.selfplay import Play
from apps.go.state import SUPERKO, Spec, spec
from core.cli import within
from core.runtime import Hardware


@dataclass(frozen=True)
class Board:
    """On what the net plays; the game is the model's."""

    size: int = 0
    """Go: points along an edge; 0 is the game's usual board."""
    komi: float = 7.0
    """Go: points for the second player."""
    longest: int = 0
    """Moves after which a game counts as it stands; 0 is three times the points."""


@dataclass(frozen=True)
class Learn:
    """What the net learns from in a generation, and how."""

    steps: int = 100
    """Optimizer steps in a generation."""
    batch: int = 128
    """Positions per step, over all processes."""
    window: int = 20
    """Generations whose games are learned from."""
    search: float = 0.3
    """Share of the search's opinion in the target of the value; the rest is how the game ended."""
    archive: float = 0.0
    """Share of the samples that come from the archive's labelled games (9x9 Go)."""
    folder: str = ""
    """Folder of the archive's label file, or `sample`; as for `distill`."""
    halving: int = 0
    """Steps in which the learning rate falls to a half; 0 keeps it."""
    average: float = 0.99
    """Decay of the moving average of the weights, which plays."""
    clip: float = 2.0
    """Largest norm of the gradient."""
    save_every: int = 100
    """Steps between two saves of the run."""

    def __post_init__(self) -> None:
        within(self, 1, math.inf, "steps", "batch", "window", "save_every", of="learn.")
        within(self, 0, 1, "search", "archive", of="learn.")
        within(self, 0, math.inf, "halving", "clip", of="learn.")
        within(self, 0, 1 - 1e-6, "average", of="learn.")


@dataclass(frozen=True)
class Gate:
    """Matches of a generation's net: against the players' net, the one measured before it, and fixed players."""

    every: int = 5
    """Generations between two measurements; 0 measures none."""
    share: float = 0.0
    """Points against the players' net that a net needs to become it; 0 lets every generation's net play."""
    games: int = 100
    """Games of a match."""
    visits: int = 16
    """Visits of the nets; 1 is without search."""
    opening: int = 4
    """Random moves at the beginning; each opening is played twice, with colours exchanged."""
    anchors: tuple[str, ...] = ("random", "rollouts@100")
    """Fixed players, the first of which has Elo 0: random, rollouts@N, or a name or file of weights."""

    def __post_init__(self) -> None:
        within(self, 0, math.inf, "every", "opening", of="gate.")
        within(self, 1, math.inf, "games", "visits", of="gate.")
        within(self, 0, 1, "share", of="gate.")
        if self.share and not self.every:
            raise ValueError("gate.share wants matches, and gate.every is 0; set it to 1 or more")


@dataclass(frozen=True)
class Workers:
    """Who plays; the games are the same."""

    count: int = 0
    """Processes that play at once; 0 takes as many as fit this machine, or the cluster."""
    threads: int = 1
    """Compute threads of each."""
    gpus: float = 0.0
    """GPUs of each: 0, a fraction that several share, or a whole number."""
    cluster: str = ""
    """Address of a Ray cluster, or `auto`; empty plays on this machine."""


@dataclass(frozen=True)
class Config:
    """Trains a net by self-play: games, search and training in turn, generation by generation."""

    out: Path = Path("runs/go/selfplay")
    """The run's folder. If a run lies there, it goes on."""
    seed: int = 0
    """All randomness follows from it."""
    generations: int = 100
    """Generations in all, those of an interrupted run included."""
    begin: str = ""
    """Weights to begin from: a published name, a file or a run folder; empty begins from nothing."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The net; with `begin` that of the weights."""
    board: Board = field(default_factory=Board)
    play: Play = field(default_factory=Play)
    learn: Learn = field(default_factory=Learn)
    optimise: Optimise = field(default_factory=Optimise)
    gate: Gate = field(default_factory=Gate)
    workers: Workers = field(default_factory=Workers)
    hardware: Hardware = field(default_factory=Hardware)

    def __post_init__(self) -> None:
        within(self, 1, 9999, "generations")


PRESETS = {
    "selfplay": (
        "The shipped net's second part: it goes on by playing itself at 9x9 Go, the archive's labels beside it.",
        Config(begin="default",
               play=Play(pieces=4, games=48, simulations=96, cheap=16, full=0.5, considered=12, opening=6, komi=1.0),
               learn=Learn(steps=150, window=12, archive=0.5, search=0.5, average=0.995, halving=6000),
               optimise=Optimise(lr=2e-4, warmup=100), hardware=Hardware(precision="bfloat16"),
               gate=Gate(every=3, share=0.5, games=96, visits=16, opening=6, anchors=("default",))),
    ),
    "connect4": (
        "Connect Four from nothing, in an hour on two cores.",
        Config(out=Path("runs/go/connect4"), model=ModelConfig(game="connect4", blocks=4, channels=64),
               play=Play(pieces=4, games=256, simulations=64, cheap=20, full=0.5, considered=7, opening=16),
               learn=Learn(steps=120, batch=256, window=12, halving=5000),
               optimise=Optimise(lr=2e-3, warmup=100, weight_decay=0.02, value=1.0),
               gate=Gate(every=4, games=200, visits=32, opening=4, anchors=("random", "rollouts@100", "rollouts@1000")),
               hardware=Hardware(precision="bfloat16")),
    ),
    "small": (
        "5x5 Go from nothing, in minutes on two cores: a demonstration.",
        Config(out=Path("runs/go/small"), generations=16, model=ModelConfig(blocks=3, channels=32, head=16),
               board=Board(5, 24.5), play=Play(pieces=2, games=128, simulations=48, opening=2),
               learn=Learn(steps=100, window=8), optimise=Optimise(lr=3e-3, warmup=50), gate=Gate(every=2, opening=2),
               hardware=Hardware(precision="bfloat16")),
    ),
    "tiny-selfplay": (
        "Two generations of a minute net at Connect Four, in seconds: to see that everything works.",
        Config(out=Path("runs/go/tiny-selfplay"), generations=2,
               model=ModelConfig(game="connect4", blocks=2, channels=16, head=8),
               play=Play(pieces=2, games=8, simulations=8, cheap=4, full=0.5, considered=4),
               learn=Learn(steps=6, batch=32, save_every=2), optimise=Optimise(warmup=2),
               gate=Gate(every=1, share=0.3, games=8, visits=4, anchors=("random",))),
    ),
}


def terms(config: Config) -> Spec:
    """The game that is played; suicide is not allowed in it."""
    b = config.board
    if config.model.game == "go":
        return spec("go", b.size or 9, komi=b.komi, ko=SUPERKO, suicide=False)
    return spec(config.model.game, b.size or None)
