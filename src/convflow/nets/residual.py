"""A small residual network (He et al., CVPR 2016) for small data and few processors.

Shape letters: B images, C channels, H rows, W columns, K classes.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualNet(nn.Module):
    """A stem, one residual block per width, each halving the picture; then mean pooling and a linear head."""

    def __init__(
        self, n_classes: int, channels: int, widths: Sequence[int], *, stem_stride: int, dropout: float
    ) -> None:
        """Build it.

        Args:
            n_classes: K.
            channels: C of the input.
            widths: feature maps of each block.
            stem_stride: 2 for pictures of 64 px or more, else 1.
            dropout: share of features dropped before the head, 0..1.
        """
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 5, stride=stem_stride, padding=2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = [widths[0], *widths[:-1]]
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip(inputs, widths, strict=True)))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], n_classes))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of normalised float images."""
        features = self.blocks(self.stem(image_BCHW)).mean(dim=(2, 3))
        logits: Tensor = self.head(features)
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first one and the shortcut halve the picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """A block from `inputs` to `outputs` feature maps."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        # mean before 1x1: a strided 1x1 would drop three pixels of four (He et al., CVPR 2019, ResNet-D)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        nn.init.zeros_(self.norm2.weight)  # each block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps at half the height and width, rounded up."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def build(
    n_classes: int, channels: int, size_px: int, *, width: int = 32, dropout: float = 0.2
) -> ResidualNet:
    """A net sized for pictures of `size_px`: halved until the map is at most 4 x 4, five times at most.

    Args:
        n_classes: K.
        channels: C of the input.
        size_px: side of the pictures.
        width: feature maps of the first block, 1..1024; doubled by each block, up to eightfold.
        dropout: share of features dropped before the head, 0..1.

    Raises:
        ValueError: width or dropout out of range.
    """
    if not 1 <= width <= 1024:
        raise ValueError(f"width {width} is not in 1..1024")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout {dropout} is not in 0..1")
    stem_stride = 2 if size_px >= 64 else 1
    side, widths = math.ceil(size_px / stem_stride), [width]
    side = (side + 1) // 2
    while side > 4 and len(widths) < 5:
        widths.append(min(2 * widths[-1], 8 * width))
        side = (side + 1) // 2
    return ResidualNet(n_classes, channels, widths, stem_stride=stem_stride, dropout=dropout)
