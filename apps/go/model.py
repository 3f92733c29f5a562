"""The policy-value net: a residual trunk with global pooling, heads for move, result, score and ownership.

In the spirit of KataGo (Wu 2019, arXiv 1902.10565): global pooling lets a local trunk know about the whole board, and
targets for score and ownership teach the value head which points decided a game. Nothing depends on the board's size;
a batch holds boards of one size. Letters: B positions, F planes, G numbers, C channels, H rows, W columns, A moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.go.features import NUMBERS, PLANES


@dataclass(frozen=True)
class ModelConfig:
    """Which net; enough to rebuild it."""

    game: Literal["go", "connect4", "othello", "gomoku"] = "go"
    """The game it plays: go, connect4, othello or gomoku."""
    blocks: int = 6
    """Residual blocks of two 3x3 convolutions."""
    channels: int = 96
    """Channels of the trunk."""
    pool_every: int = 2
    """Every so manieth block mixes the whole board's means and maxima into each point; 0 none does."""
    head: int = 32
    """Channels of the policy's and the value's heads."""

    def __post_init__(self) -> None:
        for name, low, high in (("blocks", 1, 64), ("channels", 8, 1024), ("pool_every", 0, 64), ("head", 4, 256)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"model.{name} is {getattr(self, name)}; it must lie between {low} and {high}")


class Output(NamedTuple):
    """What the net says of B positions, from the side to move."""

    policy: Tensor
    """(B, 2, A) logits of the moves: what to play, and its softer form, learned beside it."""
    value: Tensor
    """(B, 3) logits of won, lost, drawn."""
    score: Tensor
    """(B,) the lead in points / 10."""
    ownership: Tensor
    """(B, H, W) in -1..1: who will own each point, before tanh."""


def pooled(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 3 C): means, means scaled by the board's size, maxima (KataGo, section 3.3)."""
    mean = x.mean((-2, -1))
    size = (x.shape[-1] * x.shape[-2]) ** 0.5
    return torch.cat([mean, mean * ((size - 9) / 10), x.amax((-2, -1))], 1)


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """A convolution and its batch norm, which inference folds into one."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """x + conv(relu(conv(x) [+ what the whole board says])), the sum rectified."""

    def __init__(self, channels: int, pools: bool) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        self.whole = nn.Linear(3 * channels, channels) if pools else None
        norm = self.second[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)  # a block begins as the identity (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.whole is not None:
            y = y + self.whole(pooled(x))[:, :, None, None]
        return F.relu(x + self.second(F.relu(y)), inplace=True)


class Net(nn.Module):
    """Planes (B, F, H, W) and numbers (B, G) to an `Output`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c, h = config.channels, config.head
        self.stem, self.numbers = conv(PLANES, c), nn.Linear(NUMBERS, c)
        self.blocks = nn.Sequential(*(
            Block(c, bool(config.pool_every) and i % config.pool_every == config.pool_every - 1)
            for i in range(config.blocks)))
        self.policy, self.policy_whole = conv(c, h, 1), nn.Linear(3 * c, h)
        self.move, self.rest = nn.Conv2d(h, 2, 1), nn.Linear(3 * c, 2)
        self.rest.requires_grad_(config.game in ("go", "othello"))  # the others have no pass; DDP waits for gradients
        self.value, self.value_whole = conv(c, h, 1), nn.Linear(3 * h, 64)
        self.result, self.score = nn.Linear(64, 3), nn.Linear(64, 1)
        self.owner = nn.Conv2d(h, 1, 1)

    def forward(self, planes: Tensor, numbers: Tensor) -> Output:
        x = F.relu(self.stem(planes) + self.numbers(numbers)[:, :, None, None], inplace=True)
        x = self.blocks(x)  # (B, C, H, W)
        whole = pooled(x)  # (B, 3 C)
        p = F.relu(self.policy(x) + self.policy_whole(whole)[:, :, None, None])
        if self.config.game == "connect4":  # a move is a column
            policy = self.move(p).mean(-2)  # (B, 2, W)
        else:
            policy = self.move(p).flatten(2)  # (B, 2, H W)
            if self.config.game != "gomoku":
                policy = torch.cat([policy, self.rest(whole)[:, :, None]], 2)  # the pass
        v = F.relu(self.value(x))
        hidden = F.relu(self.value_whole(pooled(v)))
        return Output(policy, self.result(hidden), self.score(hidden).squeeze(1), self.owner(v).squeeze(1))
