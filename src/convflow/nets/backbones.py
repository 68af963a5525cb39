"""A network without its classifier, and the pictures as it wants them: what transfer learning starts from.

Shape letters: B images, C channels, S side, F features, V views.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convflow.nets.cutting import Layout, cut

LITE0 = "efficientnet_lite0"
OWN = ("residual",)
_LEAST_VARIANCE = 1e-6
# Pictures of 224 px that go through a network at a time. On a processor their maps should stay in its caches:
# 4 at once took two thirds of the time of 32 (EfficientNet-Lite0, 2 cores of an AMD EPYC).
_AT_ONCE = {"cpu": 4, "mps": 64, "cuda": 256}
_LUMA = (0.299, 0.587, 0.114)  # grey from red, green and blue, as Pillow makes it (ITU-R 601-2)

Pooling = Literal["mean", "mean_std"]
Views = Literal["none", "mirror", "flips", "dihedral"]
# A view is a sum of 1 (left and right change places), 2 (up and down) and 4 (rows and columns).
VIEWS: dict[Views, tuple[int, ...]] = {
    "none": (0,),
    "mirror": (0, 1),
    "flips": (0, 1, 2, 3),
    "dihedral": tuple(range(8)),
}


@dataclass(frozen=True)
class Spec:
    """From what a trunk is rebuilt; every value fits in JSON.

    Attributes:
        arch: `efficientnet_lite0`, an own architecture, or one of torchvision's.
        arch_args: for an own one.
        channels: of the pictures it was trained on, 1 or 3.
        built_px: side of these; some networks are built after it.
        size_px: side to which pictures are brought before they enter.
        per_image: each picture is normalised by its own mean and spread, as in training.
        pooling: a stage's features are the means of its maps, or means and standard deviations: how evenly a
            map responds tells textures apart that have the same mean.
    """

    arch: str
    arch_args: dict[str, Any]
    channels: int
    built_px: int
    size_px: int
    per_image: bool = False
    pooling: Pooling = "mean"

    def as_json(self) -> dict[str, Any]:
        """The values by name."""
        return asdict(self)


class Trunk(nn.Module):
    """The stages of a network; normalisation, size and colour are its own affair.

    Attributes:
        mean, std: float32 (C,), in grey levels, by which it was trained.
        widths: features that each stage gives.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Spec, stages: Sequence[nn.Module], layout: Layout) -> None:
        """Put `stages` one after the other; normalisation starts as identity."""
        super().__init__()
        self.spec, self.layout = spec, layout
        self.stages = nn.ModuleList(stages)
        self.register_buffer("mean", torch.zeros(spec.channels))
        self.register_buffer("std", torch.ones(spec.channels))
        self.widths = self._measure()

    def prepare(self, image_BCSS: Tensor) -> Tensor:
        """Bring pictures of any side and colour, 0..255, to the side, channels and scale of this network."""
        image = image_BCSS.float()
        if image.shape[1] > self.spec.channels:
            image = (image * image.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
        if image.shape[2] != self.spec.size_px:
            image = F.interpolate(image, size=(self.spec.size_px,) * 2, mode="bilinear", antialias=True)
        if self.spec.per_image:
            deviation, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True)
            image = (image - mean) / (deviation + 1.0)  # as convflow.nets.registry.Classifier does
        else:
            image = (image - self.mean[:, None, None]) / self.std[:, None, None]
        return image if image.shape[1] == self.spec.channels else image.expand(-1, self.spec.channels, -1, -1)

    def forward(self, prepared_BCSS: Tensor, depths: Sequence[int]) -> Tensor:
        """Features (B, F) of prepared pictures: those of the stages `depths`, averaged over the places."""
        return torch.cat(self.through(prepared_BCSS, depths, 0, max(depths) + 1)[1], dim=1)

    def through(self, x: Tensor, depths: Sequence[int], first: int, end: int) -> tuple[Tensor, list[Tensor]]:
        """Let `x`, which is to enter stage `first`, through the stages before `end`.

        Returns:
            what leaves the last of them, and the features (B, F) of those among them that `depths` names.
        """
        found = []
        for depth in range(first, end):
            x = self.stages[depth](x)
            if depth in depths:
                found.append(self._pooled(x))
        return x, found

    def shortened(self, depth: int) -> "Trunk":
        """Drop the stages after `depth`, for good."""
        self.stages, self.widths = self.stages[: depth + 1], self.widths[: depth + 1]
        return self

    def _pooled(self, x: Tensor) -> Tensor:
        x = x.float()
        places = {"maps": (2, 3), "maps last": (1, 2), "tokens": (1,)}[self.layout]
        if self.spec.pooling == "mean":
            return x[:, 0] if self.layout == "tokens" else x.mean(dim=places)
        variance, mean = torch.var_mean(x, dim=places, correction=0)
        spread = (variance + _LEAST_VARIANCE).sqrt()  # without the least, no slope where a map is silent
        return torch.cat([x[:, 0] if self.layout == "tokens" else mean, spread], dim=1)

    def _measure(self) -> list[int]:
        """Let one black picture through, on no device: only the shapes count."""
        with torch.no_grad(), torch.device("meta"):
            x = torch.zeros(1, self.spec.channels, self.spec.size_px, self.spec.size_px)
        widths = []
        for stage in self.stages:
            shell = {
                name: tensor.to("meta")
                for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]
            }
            training = stage.training
            with torch.no_grad():
                x = torch.func.functional_call(stage.eval(), shell, (x,))
            stage.train(training)
            widths.append(self._pooled(x).shape[1])
        return widths


def build_trunk(spec: Spec) -> Trunk:
    """Build the trunk that `spec` describes, with fresh weights.

    Raises:
        ValueError: an architecture that is not known, or pictures too small for it.
    """
    if spec.arch == LITE0:
        lite = importlib.import_module("convflow.nets.efficientnet_lite")
        return Trunk(spec, lite.build_stages(), "maps")
    return Trunk(spec, *cut(spec.arch, whole_net(spec, n_classes=1)))


def whole_net(spec: Spec, n_classes: int) -> nn.Module:
    """The network of `spec` with its classifier.

    Raises:
        ValueError: an architecture that is not known.
    """
    own = spec.arch in OWN
    module = importlib.import_module(f"convflow.nets.{spec.arch if own else 'vision'}")
    fixed = {} if own else {"arch": spec.arch}
    net: nn.Module = module.build(n_classes, spec.channels, spec.built_px, **fixed, **spec.arch_args)
    return net


def at_once(size_px: int, device: torch.device) -> int:
    """How many pictures of side `size_px` to let through a network together where no gradient is asked."""
    return max(1, _AT_ONCE.get(device.type, 64) * 224**2 // size_px**2)


def views_of(image_BCSS: Tensor, views: Views) -> Iterator[Tensor]:
    """Yield the pictures flipped and turned, one view after the other, each (B, C, S, S), channels last."""
    for number in VIEWS[views]:
        image = image_BCSS.transpose(2, 3) if number & 4 else image_BCSS
        axes = [axis for bit, axis in ((1, 3), (2, 2)) if number & bit]
        image = image.flip(axes) if axes else image
        yield image.contiguous(memory_format=torch.channels_last)
