"""Every architecture by its name; only the chosen one's library is loaded."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from convflow.errors import ParamsError

OWN = ("residual",)
# Named here, so that a wrong name is answered without loading torchvision (4 s).
TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "vgg11_bn", "vgg16_bn", "alexnet", "mobilenet_v3_small",
    "efficientnet_b0",
)  # fmt: skip


class Classifier(nn.Module):
    """A network that eats raw pixels: normalisation is its first layer, so nobody can forget it.

    Attributes:
        mean, std: float32 (C,), of the training pixels in grey levels 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean_C: Tensor, std_C: Tensor) -> None:
        """Put normalisation by `mean_C` and `std_C` before `net`."""
        super().__init__()
        self.net = net
        self.register_buffer("mean", mean_C.float())
        self.register_buffer("std", std_C.float())

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pixels 0..255, uint8 or float."""
        normal = (image_BCHW.float() - self.mean[:, None, None]) / self.std[:, None, None]
        logits: Tensor = self.net(normal)
        return logits


def build(arch: str, n_classes: int, channels: int, size_px: int, arguments: dict[str, Any]) -> Classifier:
    """Build `arch` with fresh weights from torch's current random state; normalisation starts as identity.

    Raises:
        ParamsError: an unknown name, or an argument the architecture does not take.
    """
    if arch not in OWN + TORCHVISION:
        raise ParamsError(
            f"train.arch: no architecture {arch!r}; choose one of {', '.join(OWN + TORCHVISION)}"
        )
    own = arch in OWN
    module = importlib.import_module(f"convflow.nets.{arch if own else 'vision'}")
    extra = arguments if own else {"arch": arch, **arguments}
    try:
        net = module.build(n_classes, channels, size_px, **extra)
    except TypeError as error:
        raise ParamsError(f"train.arch_args: {arch} does not take them ({error})") from None
    return Classifier(net, torch.zeros(channels), torch.ones(channels))
