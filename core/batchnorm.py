"""Batch norm whose statistics are those of the global batch, over all processes on CPUs.

On GPUs torch.nn.SyncBatchNorm does this; it has no CPU version. Letters: B samples, C channels, ... pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class RankBatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) of (B, C, ...) over the parts of all ranks, as if they were one.

    It takes over the parameters and buffers of a plain batch norm, under the same names. In eval mode it normalises
    by the running statistics and tells nobody.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.eps, self.momentum = plain.eps, plain.momentum
        self.weight, self.bias = plain.weight, plain.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(plain, name))
        self.train(plain.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            batch = self.running_mean is None
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, 0.0, self.eps)
        n, mean, variance = _statistics(x)
        self._remember(mean.detach(), variance.detach() * n / (n - 1))
        along = (-1, *[1] * (x.ndim - 2))  # (C, 1, ...): beside the pixels
        y = (x.float() - mean.float().view(along)) * torch.rsqrt(variance + self.eps).float().view(along)
        if self.weight is not None:
            y = y * self.weight.view(along) + self.bias.view(along)
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards the batch's mean and unbiased variance (C,)."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns how many values a channel has over all ranks, and their means and biased variances (C,), in float64."""
    variance, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
    mean, variance = mean.double(), variance.double()
    mine = torch.cat([mean.new_ones(1), mean, variance + mean**2]) * (x.numel() // x.shape[1])
    n, total, squares = _Sum.apply(mine).split([1, len(mean), len(mean)])
    if n.item() < 2:
        raise ValueError("batch norm saw one value of each channel; it needs more than one to train on: larger batches")
    return n, total / n, squares / n - (total / n) ** 2


class _Sum(torch.autograd.Function):
    """The sum over all ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _summed(gradient)


def _summed(x: Tensor) -> Tensor:
    x = x.clone()
    dist.all_reduce(x)
    return x


def over_ranks(model: nn.Module, device: torch.device) -> nn.Module:
    """Takes a model's batch statistics over all ranks, in place unless the model is itself a batch norm.

    A subclass that does more than to normalise (timm's BatchNormAct2d) is left to the statistics of its own rank.
    """
    if isinstance(model, PLAIN) and type(model) in PLAIN:
        return nn.SyncBatchNorm.convert_sync_batchnorm(model) if device.type == "cuda" else RankBatchNorm(model)
    for name, child in model.named_children():
        setattr(model, name, over_ranks(child, device))
    return model
