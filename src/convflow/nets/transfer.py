"""A pretrained trunk under a linear head, in one network that eats raw pixels.

Shape letters: B images, C channels, S side, F features, K classes.
"""

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from convflow.nets.backbones import VIEWS, Pooling, Spec, Trunk, Views, at_once, build_trunk, views_of

_MOST_PX = 1024


class Head(nn.Module):
    """A linear layer on standardised features.

    Attributes:
        mean, std: float32 (F,), of the training pictures' features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int, n_classes: int) -> None:
        """Standardisation starts as identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, feature_BF: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.linear((feature_BF - self.mean) / self.std)
        return logits


class Transfer(nn.Module):
    """Trunk and head; looks at every view of a picture and averages the logits. `Upper` trains its parts."""

    def __init__(self, trunk: Trunk, n_classes: int, depths: Sequence[int], views: Views) -> None:
        """Put a head on the stages `depths` of `trunk`; the stages behind the last of them are dropped."""
        super().__init__()
        self.trunk = trunk.shortened(max(depths))
        self.depths, self.views = sorted(depths), views
        self.head = Head(sum(trunk.widths[depth] for depth in self.depths), n_classes)

    def forward(self, image_BCSS: Tensor) -> Tensor:
        """Logits (B, K) of pixels 0..255."""
        # by the side they have inside, which the caller cannot see
        parts = torch.split(image_BCSS, at_once(self.trunk.spec.size_px, image_BCSS.device))
        return torch.cat([self._looked_at(part) for part in parts])

    def _looked_at(self, image_BCSS: Tensor) -> Tensor:
        prepared = self.trunk.prepare(image_BCSS)
        seen = [self.head(self.trunk(view, self.depths)) for view in views_of(prepared, self.views)]
        return torch.stack(seen).mean(dim=0)


def build(
    n_classes: int, channels: int, size_px: int, *, trunk: dict[str, Any], depths: list[int], views: Views
) -> Transfer:
    """Rebuild what a model card describes, with fresh weights.

    Args:
        n_classes: K.
        channels: of the pictures; the trunk turns them into what it wants.
        size_px: side of the pictures; likewise.
        trunk: what `Spec.as_json` gave.
        depths: the stages whose features the head sees.
        views: under which a picture is looked at.

    Raises:
        ValueError: a card that no such network was saved with.
    """
    spec = Spec(**trunk)
    _check(spec)
    built = build_trunk(spec)
    if views not in VIEWS:
        raise ValueError(f"views {views!r:.40}")
    if not depths or not set(depths) <= set(range(len(built.stages))):
        raise ValueError(f"depths {depths} of {len(built.stages)} stages")
    return Transfer(built, n_classes, depths, views)


def _check(spec: Spec) -> None:
    """Look at what decides on the cost of an answer, and not on the shapes of weights.

    Raises:
        ValueError: a value that `embed` would not have written.
    """
    good = {
        "channels": spec.channels in (1, 3),
        "built_px": type(spec.built_px) is int and 8 <= spec.built_px <= _MOST_PX,
        "size_px": type(spec.size_px) is int and 8 <= spec.size_px <= _MOST_PX,
        "per_image": type(spec.per_image) is bool,
        "pooling": spec.pooling in get_args(Pooling),
    }
    for name, is_good in good.items():
        if not is_good:
            raise ValueError(f"trunk: {name} is {getattr(spec, name)!r:.40}")
