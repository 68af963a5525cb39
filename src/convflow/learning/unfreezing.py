"""The part of a network that is trained: its last stages and the head, batch norms standing still.

Shape letters: B images, F features, K classes.
"""

from collections.abc import Iterator
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from convflow.nets.transfer import Transfer

Method = Literal["lp_ft", "plain", "gradual"]


class Upper(nn.Module):
    """The stages of a network from `first` on, and its head.

    Batch norms keep their statistics: few pictures in a batch would spoil what many have told, and what the
    head has been fitted on would change under it.

    Attributes:
        net: the whole network; below `first` nothing of it is asked or changed.
        first: the first trained stage.
    """

    def __init__(self, net: Transfer, first: int) -> None:
        """Let gradients reach the stages from `first` on and the head."""
        super().__init__()
        self.net, self.first = net, first
        net.requires_grad_(False)
        self.open(len(net.trunk.stages) - first)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained sooner or later, under its name in the network."""
        places = tuple(f"trunk.stages.{depth}." for depth in range(self.first, len(self.net.trunk.stages)))
        return {
            name: parameter
            for name, parameter in self.net.named_parameters()
            if name.startswith((*places, "head."))
        }

    def open(self, n_stages: int) -> None:
        """Let gradients reach the head and the last `n_stages` stages, and no others."""
        stages = self.net.trunk.stages
        for depth in range(self.first, len(stages)):
            stages[depth].requires_grad_(depth >= len(stages) - n_stages)
        self.net.head.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and its kind in the trained stages; batch norms stay as they are."""
        super().train(False)
        for stage in self.net.trunk.stages[self.first :]:
            stage.train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, x: Tensor, below_BF: Tensor) -> Tensor:
        """Logits float32 (B, K) of what enters stage `first`, and of the features from below it."""
        trunk = self.net.trunk
        _, found = trunk.through(x, self.net.depths, self.first, len(trunk.stages))
        with torch.autocast(x.device.type, enabled=False):  # logits of 8 bits would tell too little
            logits: Tensor = self.net.head(torch.cat([below_BF, *found], dim=1))
        return logits

    def groups(self, decay: float, weight_decay: float) -> Iterator[dict[str, Any]]:
        """Groups for an optimizer; `share` of a stage is `decay` times that of the one above, the head has 1.

        Matrices and kernels lose weight; biases and normalisation do not.
        """
        n_stages = len(self.net.trunk.stages)
        for depth in range(self.first, n_stages + 1):
            part = self.net.head if depth == n_stages else self.net.trunk.stages[depth]
            for many, loss in ((True, weight_decay), (False, 0.0)):
                chosen = [each for each in part.parameters() if (each.ndim > 1) == many]
                if chosen:
                    yield {"params": chosen, "weight_decay": loss, "share": decay ** (n_stages - depth)}


def first_trained(n_stages: int, blocks: int | None) -> int:
    """The first stage to be trained, where the last `blocks` of `n_stages` are; None: all."""
    return 0 if blocks is None else max(0, n_stages - blocks)


def n_open(method: Method, epoch: int, epochs: int, n_stages: int) -> int:
    """How many stages learn in `epoch` (from 1): all; unfrozen one after the other, all in the first half.

    Gradual unfreezing is Howard & Ruder's (ACL 2018): the head alone first, then from there down.
    """
    if method != "gradual":
        return n_stages
    return min(n_stages, -(-2 * (epoch - 1) * n_stages // epochs))
