"""Classification networks cut into their stages, without the classifier: what a backbone is made of.

Shape letters: B images, C channels, H rows, W columns, T tokens, F features.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Layout = Literal["maps", "maps last", "tokens"]


def cut(arch: str, net: nn.Module) -> tuple[list[nn.Module], Layout]:
    """The stages of `net`, to be run one after the other, and how their outputs lie.

    The stages share their weights with `net`. Layouts: "maps" (B, F, H, W), "maps last" (B, H, W, F),
    "tokens" (B, T, F), the first of which stands for the picture.

    Raises:
        ValueError: an architecture of a family that this does not know.
    """
    for family, (cutter, layout) in _FAMILIES.items():
        if arch.startswith(family):
            return list(cutter(net)), layout
    raise ValueError(f"{arch}: of no known family ({', '.join(FAMILIES)})")


def _residual(net: Any) -> Iterable[nn.Module]:
    return [net.stem, *net.blocks]


def _resnet(net: Any) -> Iterable[nn.Module]:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4]


def _features(net: Any) -> Iterable[nn.Module]:
    return list(net.features)


def _by_pooling(net: Any) -> Iterable[nn.Module]:
    stages: list[nn.Module] = []
    part: list[nn.Module] = []
    for layer in net.features:
        part.append(layer)
        if isinstance(layer, nn.MaxPool2d):
            stages.append(nn.Sequential(*part))
            part = []
    return stages


def _convnext(net: Any) -> Iterable[nn.Module]:
    *first, last = net.features
    return [*first, nn.Sequential(last, nn.AdaptiveAvgPool2d(1), net.classifier[0])]  # its norm is pretrained


def _swin(net: Any) -> Iterable[nn.Module]:
    *first, last = net.features
    return [*first, nn.Sequential(last, net.norm)]


def _vit(net: Any) -> Iterable[nn.Module]:
    *layers, last = net.encoder.layers
    return [Tokens(net), *layers, nn.Sequential(last, net.encoder.ln)]


class Tokens(nn.Module):
    """A picture as tokens, each with its place; what torchvision's ViT does before its layers."""

    def __init__(self, vit: Any) -> None:
        """Take these parts of `vit`, which is taught at one side of pictures only."""
        super().__init__()
        self.project = vit.conv_proj
        self.dropout = vit.encoder.dropout
        self.class_token, self.places = vit.class_token, vit.encoder.pos_embedding

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Tokens (B, T, F), the class token first."""
        patches_BTF = self.project(image_BCHW).flatten(2).transpose(1, 2)
        token = self.class_token.expand(len(patches_BTF), -1, -1)
        tokens: Tensor = self.dropout(torch.cat([token, patches_BTF], dim=1) + self.places)
        return tokens


_Cutter = Callable[[Any], Iterable[nn.Module]]
_FAMILIES: dict[str, tuple[_Cutter, Layout]] = {
    "residual": (_residual, "maps"),
    "resnet": (_resnet, "maps"),
    "resnext": (_resnet, "maps"),
    "wide_resnet": (_resnet, "maps"),
    "vgg": (_by_pooling, "maps"),
    "alexnet": (_by_pooling, "maps"),
    "efficientnet": (_features, "maps"),
    "mobilenet": (_features, "maps"),
    "convnext": (_convnext, "maps"),
    "swin": (_swin, "maps last"),
    "vit": (_vit, "tokens"),
}
FAMILIES = tuple(_FAMILIES)
