"""A net made ready to answer: batch norm folded into the filters, the type of number that is fastest here."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from apps.pathology.model import Net
from core.runtime import Precision, bfloat16_pays, channels_last


def ready(net: nn.Module, device: torch.device, precision: Precision = "auto") -> nn.Module:
    """A copy of a net for inference on a device, channels_last, without gradients; the original is untouched."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; use {', '.join(get_args(Precision))}")
    if precision == "auto":
        precision = "bfloat16" if bfloat16_pays(device.type) else "float32"
    net = folded(net)
    return channels_last(net.to(device, torch.bfloat16 if precision == "bfloat16" else None))


def folded(net: nn.Module) -> nn.Module:
    """A copy of a net in eval mode, in which each convolution followed by a batch norm is one convolution.

    Neighbours among a module's children are taken to follow each other, and the result is compared with the
    original on random tiles: a net in which they do not is returned as it was.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    fused = copy.deepcopy(net)
    for module in fused.modules():
        children = list(module.named_children())
        for (_, conv), (name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
                # timm's BatchNormAct2d holds its activation
                setattr(module, name, getattr(norm, "act", None) or nn.Identity())
    tiles = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        before, after = net(tiles), fused(tiles)
    return (fused if torch.allclose(before, after, rtol=1e-3, atol=1e-3) else net).requires_grad_(False)


def saliency(net: Net, images: Tensor) -> Tensor:
    """Where the tumour logit comes from: Grad-CAM's idea at two scales.

    Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) averages the gradient over the map before it weighs the features
    with it, which on these nets puts less of its mass into the centre than chance would. Here gradient and features are
    multiplied cell by cell (HiResCAM, Draelos and Carin 2020, arXiv 2011.08891) on a fine map, and that is weighed by
    the positive gradients of the last map (LayerCAM, Jiang et al. 2021), which knows better where but is coarse.
    LOG.md has the comparison.

    Args:
        net: in float32; its `maps` returns (feature maps, finest first, and logits) joined by the graph.
        images: (B, 3, H, W) uint8.

    Returns:
        (B, H, W) float32, each scaled to a largest value of 1; all 0 where nothing speaks for tumour.
    """
    with torch.enable_grad():
        maps, logits = net.maps(images)  # each (B, C, h, w); (B,)
        gradients = torch.autograd.grad(logits.sum(), maps)
    cam = torch.ones((), device=images.device)
    for scale, (features, gradient) in enumerate(zip(maps, gradients, strict=True)):
        gradient = gradient if scale == 0 else torch.relu(gradient)
        heat = torch.relu((gradient * features.detach()).sum(1, keepdim=True))  # (B, 1, h, w)
        cam = cam * nn.functional.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False)
    cam = cam[:, 0]
    return cam / cam.amax((-2, -1), keepdim=True).clamp_min(1e-12)
