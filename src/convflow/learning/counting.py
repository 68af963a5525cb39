"""What a network costs to ask; apart, because counting imports what answering does not need."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convflow.learning.devices import device_name


def count_flops(model: nn.Module, image_1CSS: torch.Tensor) -> int | None:
    """Multiply-adds of one answer, counted twice; None where torch finds none that it can count."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image_1CSS)
    return int(counter.get_total_flops()) or None


def hardware(device: torch.device) -> tuple[str, int]:
    """The device as its maker calls it, and how many of the processor's threads may take part."""
    return device_name(device.type), torch.get_num_threads()
