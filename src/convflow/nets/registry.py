"""Every architecture by its name; only the chosen one's library is loaded."""

import importlib
from typing import Any, Literal

import torch
from torch import Tensor, nn

from convflow.errors import ParamsError

OWN = ("residual",)
REBUILT = "transfer"  # a fine-tuned network: model cards know it; `train` could not give it its weights
# Named here, so that a wrong name is answered without loading torchvision (4 s).
TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "vgg11_bn", "vgg16_bn", "alexnet", "mobilenet_v3_small",
    "efficientnet_b0",
)  # fmt: skip
_LEAST_PX = {"vgg11_bn": 32, "vgg16_bn": 32, "alexnet": 63}  # below, their poolings run out of picture


class Classifier(nn.Module):
    """A network that eats raw pixels: normalisation is its first layer, so nobody can forget it.

    Attributes:
        mean, std: float32 (C,), of the training pixels in grey levels 0..255.
        per_image: each picture is normalised by its own mean and spread (all channels together) instead,
            for sets in which exposure tells more of the camera than of the object.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean_C: Tensor, std_C: Tensor, *, per_image: bool = False) -> None:
        """Put normalisation before `net`."""
        super().__init__()
        self.net = net
        self.per_image = per_image
        self.register_buffer("mean", mean_C.float())
        self.register_buffer("std", std_C.float())

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of pixels 0..255, uint8 or float."""
        logits: Tensor = self.net(self._normal(image_BCHW.float()))
        return logits

    def _normal(self, image_BCHW: Tensor) -> Tensor:
        if self.per_image:
            deviation, mean = torch.std_mean(image_BCHW, dim=(1, 2, 3), keepdim=True)
            return (image_BCHW - mean) / (deviation + 1.0)  # one grey level: a flat picture stays flat
        return (image_BCHW - self.mean[:, None, None]) / self.std[:, None, None]


def build(
    arch: str,
    n_classes: int,
    channels: int,
    size_px: int,
    arguments: dict[str, Any],
    normalise: Literal["dataset", "image"] = "dataset",
) -> Classifier:
    """Build `arch` with fresh weights from torch's current random state; normalisation starts as identity.

    Raises:
        ParamsError: an unknown name, an argument it does not take, or pictures too small for it.
    """
    if arch not in (*OWN, *TORCHVISION, REBUILT):
        raise ParamsError(
            f"train.arch: no architecture {arch!r}; choose one of {', '.join(OWN + TORCHVISION)}"
        )
    least_px = _LEAST_PX.get(arch, 8)
    if size_px < least_px:
        raise ParamsError(
            f"train.packed_px: {size_px} leaves nothing for {arch} to see; it needs {least_px} or more"
        )
    own = arch in (*OWN, REBUILT)
    module = importlib.import_module(f"convflow.nets.{arch if own else 'vision'}")
    fixed = {} if own else {"arch": arch}
    try:
        net = module.build(n_classes, channels, size_px, **fixed, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:  # torch answers nonsense with all three
        reason = " ".join(str(error).split())[:200]
        raise ParamsError(
            f"train.arch_args: {arguments!s:.100} does not suit {arch} ({reason}); try {{}}, its defaults"
        ) from None
    return Classifier(net, torch.zeros(channels), torch.ones(channels), per_image=normalise == "image")
