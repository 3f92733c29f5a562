"""EfficientNet-Lite0: MobileNet's inverted residuals (Sandler et al. 2018, arXiv 1801.04381) in EfficientNet's sizes
(Tan and Le 2019, arXiv 1905.11946), without squeeze-and-excitation and with ReLU6 so that small machines run it well.

The names of the parts are timm's, so that its weights fit; the arithmetic is TensorFlow's, for which they were trained:
"same" padding that puts the odd pixel to the right and below. Letters: B pictures, C channels, H and W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# expansion, kernel, stride of the first block, channels, blocks
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
MAPS = (0, 1, 2, 4, 6)
"""The stages after which the map is smaller, or the last: strides 2, 4, 8, 16, 32."""


class SameConv2d(nn.Conv2d):
    """A convolution with an odd kernel whose output has ceil(size / stride) pixels, as TensorFlow pads it.

    With stride 2 an even size wants one more pixel of zeros on the right than on the left. Instead of copying the
    picture into a larger one, the kernel gets a column of zeros on its left, and both sides the larger padding: the
    sums are the same to the bit, and the net a fifth faster.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight, side = self.weight, self.kernel_size[0] // 2
        if self.stride == (2, 2):
            weight = F.pad(weight, (1 - x.shape[-1] % 2, 0, 1 - x.shape[-2] % 2, 0))
        return F.conv2d(x, weight, self.bias, self.stride, side, groups=self.groups)


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Separable(nn.Module):
    """The first block: a filter per channel, then a mixture of channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = conv(inputs, inputs, kernel, stride, inputs), norm(inputs)
        self.conv_pw, self.bn2 = conv(inputs, outputs), norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)), inplace=True)))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; and add the input if it has the same shape."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int, drop_path: float) -> None:
        super().__init__()
        wide = inputs * expansion
        self.conv_pw, self.bn1 = conv(inputs, wide), norm(wide)
        self.conv_dw, self.bn2 = conv(wide, wide, kernel, stride, wide), norm(wide)
        self.conv_pwl, self.bn3 = conv(wide, outputs), norm(outputs)
        self.adds, self.drop_path = inputs == outputs and stride == 1, drop_path

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        y = F.relu6(self.bn2(self.conv_dw(y)), inplace=True)
        y = self.bn3(self.conv_pwl(y))
        if not self.adds:
            return y
        if self.training and self.drop_path:  # stochastic depth (Huang et al. 2016, arXiv 1603.09382)
            keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.drop_path) / (1 - self.drop_path)
            y = y * keep
        return x + y


class Lite0(nn.Module):
    """Normalised pictures (B, 3, H, W) to the last feature map (B, 1280, H/32, W/32)."""

    num_features = 1280

    def __init__(self, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = conv(3, 32, 3, 2), norm(32)
        blocks: list[nn.Sequential] = []
        channels, total = 32, sum(stage[-1] for stage in STAGES)
        for expansion, kernel, stride, outputs, repeats in STAGES:
            stage: list[nn.Module] = []
            for i in range(repeats):
                depth = drop_path * (sum(len(b) for b in blocks) + i) / total  # deeper blocks are skipped more often
                step = stride if i == 0 else 1
                stage.append(Separable(channels, outputs, kernel, step) if expansion == 1
                             else InvertedResidual(channels, outputs, expansion, kernel, step, depth))
                channels = outputs
            blocks.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*blocks)
        self.conv_head, self.bn2 = conv(channels, self.num_features), norm(self.num_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_intermediates(x, ())[0]

    def forward_intermediates(self, x: Tensor, indices: tuple[int, ...] | list[int]) -> tuple[Tensor, list[Tensor]]:
        """The last map, and those of the wanted strides by their index in `MAPS`."""
        x = F.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        wanted, maps = [MAPS[i] for i in indices], []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in wanted:
                maps.append(x)
        return F.relu6(self.bn2(self.conv_head(x)), inplace=True), maps
