"""A network as training from scratch begins with it."""

from collections.abc import Mapping
from typing import Any

import torch

from convflow.data.packed import Packed
from convflow.nets.registry import Classifier, build


def fresh_network(packed: Packed, settings: Mapping[str, Any]) -> Classifier:
    """A network for pictures like those of `packed`, normalised by their channels' mean and spread.

    Args:
        packed: what it is to be trained on.
        settings: arch, arch_args, normalise; others may stand among them.

    Raises:
        ParamsError: no such architecture, or arguments it does not take.
    """
    contract = packed.contract
    n_classes, channels = len(contract.classes), contract.channels
    kind = settings["arch"], n_classes, channels, contract.size_px
    net = build(*kind, settings["arch_args"], settings["normalise"])
    mean, std = packed.channel_statistics()
    net.mean.copy_(torch.from_numpy(mean))
    net.std.copy_(torch.from_numpy(std))
    return net
