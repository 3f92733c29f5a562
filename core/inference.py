"""A net made ready to answer: batch norm folded into the filters, the type of number that is fastest here."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from core.runtime import Precision, bfloat16_pays, channels_last


def ready(net: nn.Module, device: torch.device, precision: Precision = "auto", *,
          example: tuple[Tensor, ...]) -> nn.Module:
    """A copy of a net for inference on a device, channels_last, without gradients; the original is untouched.

    Args:
        precision: auto takes bfloat16 where the hardware has it; another name is a ValueError.
        example: inputs on the CPU on which the folded net is compared with the original.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; use {', '.join(get_args(Precision))}")
    if precision == "auto":
        precision = "bfloat16" if bfloat16_pays(device.type) else "float32"
    net = folded(net, example)
    return channels_last(net.to(device, torch.bfloat16 if precision == "bfloat16" else None))


def folded(net: nn.Module, example: tuple[Tensor, ...]) -> nn.Module:
    """A copy of a net in eval mode, in which each convolution followed by a batch norm is one convolution.

    Neighbours among a module's children are taken to follow each other, and the result is compared with the
    original on an example: a net in which they do not is returned as it was.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    fused = copy.deepcopy(net)
    for module in fused.modules():
        for (_, conv), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
                # timm's BatchNormAct2d holds its activation
                setattr(module, name, getattr(norm, "act", None) or nn.Identity())
    with torch.inference_mode():
        before, after = net(*example), fused(*example)
    return (fused if _close(before, after) else net).requires_grad_(False)


def _close(before: Any, after: Any) -> bool:
    """Whether two outputs, tensors or tuples of them, agree up to rounding."""
    if isinstance(before, tuple):
        return all(map(_close, before, after))
    return torch.allclose(before, after, rtol=1e-3, atol=1e-3)
