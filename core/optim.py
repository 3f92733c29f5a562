"""Parameter groups, learning-rate schedules as functions of the step, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

Schedule = Callable[[int], float]


def groups(parts: Iterable[tuple[nn.Module, float]], weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Makes optimizer groups from (module, learning rate) pairs.

    Matrices and filters decay; biases and gains (tensors of fewer than two dimensions) do not. Each trainable
    parameter belongs to the first part that names it.
    """
    result: list[dict[str, Any]] = []
    seen: set[int] = set()
    for module, lr in parts:
        fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(map(id, fresh))
        for decayed in (True, False):
            params = [p for p in fresh if (p.ndim >= 2) == decayed]
            if params:
                result.append({"params": params, "lr": lr, "weight_decay": weight_decay if decayed else 0.0})
    return result


def adamw(parts: Iterable[tuple[nn.Module, float]], weight_decay: float = 0.0, **options: Any) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over (module, learning rate) pairs; gains and biases do not decay."""
    return torch.optim.AdamW(groups(parts, weight_decay), **options)


def constant() -> Schedule:
    """A factor of 1 at every step."""
    return lambda step: 1.0


def cosine(steps: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Linear warm-up over `warmup` steps, then half a cosine from 1 down to `floor` at the last step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


class Average:
    """Exponential moving average of a model's weights and buffers; `average.model` is the averaged model.

    The decay starts small, min(decay, (1 + t) / (10 + t)), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of the moving average is {decay}; it must lie between 0 and 1")
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model after optimizer step number `step` (from 0)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        averaged, fresh = ([*net.parameters(), *net.buffers()] for net in (self.model, model))  # shared ones once
        pairs = [(old, new) for old, new in zip(averaged, fresh, strict=True) if old.is_floating_point()]
        torch._foreach_lerp_([old for old, _ in pairs], [new.detach() for _, new in pairs], 1 - keep)
        for old, new in zip(averaged, fresh, strict=True):
            if not old.is_floating_point():
                old.copy_(new)
