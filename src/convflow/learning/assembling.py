"""From a trunk and what the ladder ended with to one network that eats raw pixels.

Shape letters: N images, K classes.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.learning.activations import Pictures
from convflow.learning.climbing import Stand
from convflow.nets.backbones import Trunk, Views
from convflow.nets.registry import Classifier
from convflow.nets.transfer import Transfer

_AT_ONCE = 64


def assemble(trunk: Trunk, stand: Stand, channels: int, views: Views) -> Classifier:
    """Put the head of `stand` on a copy of `trunk`, with the weights that were tuned, where they were.

    Args:
        trunk: with its weights; what the head does not look at is left out.
        stand: the model.
        channels: of the pictures that will come.
        views: those of the features; looked at where the model looks at all of them.

    Returns:
        the network, in evaluation mode. The trunk normalises, so the classifier's own step is identity.
    """
    probe = stand.probe
    shown: Views = views if stand.all_views else "none"
    net = Transfer(copy.deepcopy(trunk), len(probe.bias_K), probe.depths, shown)
    with torch.no_grad():
        net.head.mean.copy_(probe.mean_F)
        net.head.std.copy_(probe.std_F)
        net.head.linear.weight.copy_(probe.weight_FK.T)
        net.head.linear.bias.copy_(probe.bias_K)
        if stand.tuned is not None:
            places = dict(net.named_parameters())
            for name, tensor in stand.tuned.items():
                places[name].copy_(tensor)
        net.head.linear.weight.div_(stand.temperature)
        net.head.linear.bias.div_(stand.temperature)
    return Classifier(net, torch.zeros(channels), torch.ones(channels)).eval()


@torch.inference_mode()
def ask(network: Classifier, pictures: Pictures, device: str) -> NDArray[np.float32]:
    """Probabilities float32 (N, K), as `convflow.learning.predictor` gives them for the network on disk."""
    network = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for index_B in torch.split(torch.arange(len(pictures)), _AT_ONCE):
        image_BCSS = pictures.read(index_B.numpy(), torch.device(device))
        found.append(network(image_BCSS).softmax(dim=1).float().cpu().numpy())
    return np.concatenate(found)
