"""torchvision's classification networks, fitted to any number of channels and to small pictures."""

from torch import nn
from torchvision.models import get_model

_SMALL_PX = 64


def build(n_classes: int, channels: int, size_px: int, *, arch: str) -> nn.Module:
    """torchvision's `arch` from scratch, with its first convolution changed where the data ask for it.

    Args:
        n_classes: K.
        channels: C; other than 3 replaces the first convolution.
        size_px: below 64 px a ResNet's stem (7x7 stride 2, then pooling) is replaced by 3x3 stride 1,
            as He et al. (CVPR 2016, section 4.2) do for CIFAR; otherwise nothing of the picture is left.
        arch: a name of `torchvision.models.list_models()`.
    """
    net: nn.Module = get_model(arch, weights=None, num_classes=n_classes)
    small = size_px < _SMALL_PX and arch.startswith("resnet")
    if small:
        net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        _replace_first_conv(net, channels)
    return net


def _replace_first_conv(net: nn.Module, channels: int) -> None:
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                setattr(module, name, _with_channels(child, channels))
                return


def _with_channels(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
