"""A tumour net made ready to answer, and where it looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apps.pathology.model import Net
from core import inference
from core.runtime import Precision

TILES = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def ready(net: nn.Module, device: torch.device, precision: Precision = "auto") -> nn.Module:
    """A copy of a net for inference; see `core.inference.ready`."""
    return inference.ready(net, device, precision, example=(TILES,))


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
