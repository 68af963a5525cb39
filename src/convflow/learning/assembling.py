"""From a frozen trunk and a head found on its features to one network that eats raw pixels."""

import copy

import torch

from convflow.learning.probing import Probe
from convflow.nets.backbones import Trunk, Views
from convflow.nets.registry import Classifier
from convflow.nets.transfer import Transfer


def assemble(
    trunk: Trunk, probe: Probe, channels: int, views: Views, *, temperature: float = 1.0
) -> Classifier:
    """Put `probe` on a copy of `trunk`.

    Args:
        trunk: with its weights; what the head does not look at is left out.
        probe: the head.
        channels: of the pictures that will come.
        views: under which each is looked at.
        temperature: divides all logits.

    Returns:
        the network, in evaluation mode. The trunk normalises, so the classifier's own step is identity.
    """
    net = Transfer(copy.deepcopy(trunk), len(probe.bias_K), probe.depths, views)
    with torch.no_grad():
        net.head.mean.copy_(probe.mean_F)
        net.head.std.copy_(probe.std_F)
        net.head.linear.weight.copy_(probe.weight_FK.T / temperature)
        net.head.linear.bias.copy_(probe.bias_K / temperature)
    return Classifier(net, torch.zeros(channels), torch.ones(channels)).eval()
