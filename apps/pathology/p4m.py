"""A DenseNet whose convolutions commute with rotations by 90 degrees and with mirrors (the wallpaper group p4m).

Veeling et al. 2018 (arXiv 1806.03962) on the group convolution of Cohen and Welling 2016 (arXiv 1602.07576).
An ordinary feature map is a function on the grid Z2; here it is a function on p4m = Z2 x D4, so it has one more axis,
the 8 elements of D4, and turning the picture by h turns the map in the plane and permutes that axis (the regular
representation):  (h.f)(g, p) = f(h^-1 g, h^-1 p).

Nothing about D4 is typed in: its elements come from two generators as 2x2 integer matrices, its Cayley table from their
products, the permutations of the filters from both. Filters are expanded by these permutations, and then one ordinary
`conv2d` over 8 C channels does all the work.

Where it departs from the paper, to be affordable on a CPU and to suit the label (tumour in the centre 32x32):
the normalisation follows each convolution instead of preceding it, so that it folds into the filters for inference; the
first convolution has stride 2; and the classifier sees the mean of the central third beside the mean of the whole map.

Letters: B batch, C channels (each with 8 orientations), G = 8 group elements, H, W rows and columns, k filter size.
A map on p4m is (B, C, H, W, G) in the memory order of channels_last_3d: B, H, W, G, C. So `BatchNorm3d` shares its
statistics over the group, `cat` along C is dense connectivity, and the view as (B, G*C, H, W) that `conv2d` wants is
an ordinary channels_last picture, without a copy.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -- the group D4 ------------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """The dihedral group D4 as it acts on the plane: tables over its 8 elements, of which number 0 is the identity."""

    matrices: np.ndarray  # (G, 2, 2) int: what element g does to a centred (row, column)
    cayley: np.ndarray  # (G, G) int: cayley[g, h] is the product g h
    inverse: np.ndarray  # (G,) int: cayley[g, inverse[g]] == 0


def _generate(*generators: np.ndarray) -> Group:
    """Return the closure of some integer matrices under multiplication, with its multiplication table."""
    elements = [np.eye(2, dtype=np.int64)]
    for element in elements:  # grows while we walk it: breadth first
        for generator in generators:
            product = generator @ element
            if not any(np.array_equal(product, known) for known in elements):
                elements.append(product)
    place = {element.tobytes(): i for i, element in enumerate(elements)}
    cayley = np.array([[place[(g @ h).tobytes()] for h in elements] for g in elements])
    return Group(np.stack(elements), cayley, np.argmin(cayley, axis=1))  # the identity is 0, the least of its row


QUARTER_TURN = np.array([[0, -1], [1, 0]])
MIRROR = np.array([[1, 0], [0, -1]])
D4 = _generate(QUARTER_TURN, MIRROR)
G = len(D4.matrices)


def plane_index(side: int) -> np.ndarray:
    """Return (G, side, side) int: the flat place from which each pixel of a turned square comes, `g^-1 p`."""
    axis = 2 * np.arange(side) - (side - 1)  # doubled coordinates, so that an even side has a centre too
    p = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)  # (side, side, 2)
    source = np.einsum("gij,yxj->gyxi", D4.matrices[D4.inverse], p)
    row, column = np.moveaxis((source + side - 1) // 2, -1, 0)
    return row * side + column


def filter_index(side: int, lift: bool) -> np.ndarray:
    """Return (G, H, side, side) int: where in a flat (H, side, side) filter each value of its 8 turned copies lies.

    H is 1 for a filter on Z2 (a lifting convolution) and G for a filter on p4m, whose group axis is permuted too:
    `(g.w)(h, q) = w(g^-1 h, g^-1 q)`.
    """
    plane = plane_index(side)[:, None]  # (G, 1, k, k)
    if lift:
        return plane
    return D4.cayley[D4.inverse][:, :, None, None] * side * side + plane  # (G, G, k, k)


# -- layers ------------------------------------------------------------------------------------------------------------


class P4MConv(nn.Module):
    """Convolve on the group, normalise, rectify: (B, C_in, H, W, G or 1) -> (B, C_out, H', W', G).

    With `lift` the input is an ordinary picture, a function on Z2 (its group axis has length 1). In training mode the
    filters are expanded at every step, so gradients reach the one filter that all 8 turned copies share. In eval mode
    the expanded filters, with the normalisation folded in, are kept: inference is then an ordinary convolution with
    bias and ReLU. What is kept depends on the parameters alone and is replaced whole, so threads may share the module.
    """

    index: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, lift: bool = False):
        super().__init__()
        if (kernel - stride) % 2:
            raise ValueError(f"side {kernel} and stride {stride} sit off centre: make both even or both odd")
        self.stride, self.padding, self.lift = stride, (kernel - stride) // 2, lift
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1 if lift else G, kernel, kernel))
        self.norm = nn.BatchNorm3d(outputs)
        self.register_buffer("index", torch.from_numpy(filter_index(kernel, lift)), persistent=False)
        self._kept: tuple[tuple, Tensor, Tensor] | None = None
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")  # fan-in = C_in * H * k * k, as it should be

    def expanded(self) -> Tensor:
        """Return the filters of an ordinary convolution, (G * C_out, H * C_in, k, k)."""
        turned = self.weight.flatten(2)[:, :, self.index]  # (C_out, C_in, G, H, k, k)
        return turned.permute(2, 0, 3, 1, 4, 5).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.permute(0, 4, 1, 2, 3).flatten(1, 2)  # (B, H * C_in, H, W), a view
        # Frozen statistics with live gradients (fine-tuning in eval mode) must see the parameters, not a kept copy.
        if self.training or (torch.is_grad_enabled() and self.weight.requires_grad):
            y = F.conv2d(flat, self.expanded(), None, self.stride, self.padding)
            return F.relu(self.norm(_on_group(y)), inplace=True)
        weight, bias = self._inference_filters(flat)
        return _on_group(F.conv2d(flat, weight, bias, self.stride, self.padding).relu_())

    def train(self, mode: bool = True) -> "P4MConv":
        self._kept = None  # also at eval(): weights may have been swapped below autograd's sight (an EMA does that)
        return super().train(mode)

    def _inference_filters(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expanded filters and biases with the normalisation folded in, in the dtype that runs."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        sources = (self.weight, self.norm.weight, self.norm.bias, mean, variance)
        kind = like.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.weight.dtype
        key = (dtype, like.device, *((t.data_ptr(), 0 if t.is_inference() else t._version) for t in sources))
        kept = self._kept
        if kept is None or kept[0] != key:
            # Built outside inference mode, or no gradient could later pass through to a picture or a feature map.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(kind, enabled=False):
                scale = self.norm.weight.float() / torch.sqrt(variance.float() + self.norm.eps)
                shift = self.norm.bias.float() - mean.float() * scale
                weight = self.expanded().float() * scale.repeat(G)[:, None, None, None]
                weight = weight.to(dtype, memory_format=torch.channels_last)
                kept = self._kept = (key, weight, shift.repeat(G).to(dtype))
        return kept[1], kept[2]


def _on_group(y: Tensor) -> Tensor:
    """View an ordinary map (B, G * C, H, W) as one on p4m, (B, C, H, W, G)."""
    return y.unflatten(1, (G, -1)).permute(0, 2, 3, 4, 1)


def halve(x: Tensor) -> Tensor:
    """Average-pool a map on p4m to half its size: cells of 2 on an even side, overlapping cells of 3 on an odd one.

    The usual 2x2 pooling drops the last row of an odd side, and with it the symmetry.
    """
    odd = (x.shape[2] % 2, x.shape[3] % 2)
    flat = x.permute(0, 4, 1, 2, 3).flatten(1, 2)
    return _on_group(F.avg_pool2d(flat, (2 + odd[0], 2 + odd[1]), 2, odd, count_include_pad=False))


class P4MDenseBlock(nn.Module):
    """Append `growth` channels per layer, each layer seeing all channels before it: C -> C + layers * growth."""

    def __init__(self, inputs: int, growth: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(P4MConv(inputs + i * growth, growth, 3) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return x


# -- the net -----------------------------------------------------------------------------------------------------------


class P4MDenseNet(nn.Module):
    """Score patches alike in all 8 orientations: normalised float (B, 3, H, W) -> logits (B,).

    A lifting convolution halves the picture, then dense blocks follow each other with a 1x1 group convolution (which
    keeps `keep` of the channels) and a symmetric average pooling between two of them. Sides must be even, for the
    lifting convolution has stride 2. The result is invariant up to rounding; nothing is approximated.
    Without `head` the net is a backbone: calling it returns the last feature map, (B, C, h, w).
    """

    def __init__(
        self,
        stem: int = 8,
        growth: int = 8,
        blocks: tuple[int, ...] = (0, 2, 3, 3),
        keep: float = 0.7,
        stem_kernel: int = 6,
        head: bool = True,
    ):
        super().__init__()
        self.stem = P4MConv(3, stem, stem_kernel, stride=2, lift=True)
        stages, channels = [], stem
        for number, layers in enumerate(blocks):
            squeezed = channels if number == 0 else max(1, math.ceil(channels * keep))
            squeeze = nn.Identity() if number == 0 else P4MConv(channels, squeezed, 1)
            stages.append(nn.ModuleDict({"squeeze": squeeze, "dense": P4MDenseBlock(squeezed, growth, layers)}))
            channels = squeezed + layers * growth
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.head = nn.Linear(2 * channels, 1) if head else None

    def group_features(self, x: Tensor) -> list[Tensor]:
        """Return the map on p4m after each dense block, a list of (B, C, H, W, G)."""
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"pictures are {tuple(x.shape)}, wanted (B, 3, H, W) with even H and W: pad or crop them")
        x = self.stem(x.contiguous(memory_format=torch.channels_last).unsqueeze(-1))
        maps = []
        for number, stage in enumerate(self.stages):
            assert isinstance(stage, nn.ModuleDict)
            x = stage["dense"](stage["squeeze"](x if number == 0 else halve(x)))
            maps.append(x)
        return maps

    def features(self, x: Tensor) -> Tensor:
        """Return the last map, averaged over the group: (B, C, h, w); it turns with the picture."""
        return self.group_features(x)[-1].mean(-1)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits (B,) of such a map, from the mean of its central third and the mean of all of it."""
        if self.head is None:
            raise ValueError("this P4MDenseNet was built without a head: build it with head=True to get logits")
        whole = features.mean((2, 3))
        centre = central_third(features).mean((2, 3))
        return self.head(torch.cat((centre, whole), dim=1)).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return features if self.head is None else self.classify(features)


def central_third(x: Tensor) -> Tensor:
    """Return the centred third of (..., H, W), rounded up to the parity of each side so that it stays centred."""
    for axis in (-2, -1):
        side = x.shape[axis]
        third = math.ceil(side / 3)
        third += (side - third) % 2
        x = x.narrow(axis, (side - third) // 2, third)
    return x
