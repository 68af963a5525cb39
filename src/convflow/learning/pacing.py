"""How many epochs of fine-tuning fit into the time that is left."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_MEASURED = 3  # goes whose time is taken, after one to warm up


@dataclass(frozen=True)
class Cost:
    """What a fine-tuning takes, in seconds.

    Attributes:
        view: to compute what enters the trained stages, of all training pictures under one view each.
        views: at most so many are computed; later epochs find them done.
        epoch: to train for one epoch, and to ask val.
        once: before and after, however many epochs.
    """

    view: float
    views: int
    epoch: float
    once: float

    def seconds(self, epochs: int) -> float:
        """Of so many epochs, all together."""
        return self.once + self.view * min(epochs, self.views) + self.epoch * epochs


@dataclass(frozen=True)
class PerImage:
    """Seconds for one picture under one view.

    Attributes:
        below: through the frozen stages.
        step: to learn from what they gave.
        asked: to answer from it.
    """

    below: float
    step: float
    asked: float

    def cost(self, n_train: int, n_val: int, *, n_views: int, kept: int) -> Cost:
        """Of a run.

        Args:
            n_train: images trained on.
            n_val: images asked after each epoch.
            n_views: under so many views each.
            kept: so many views of what the frozen stages gave are kept; 0: they are asked anew each time.
        """
        asked = n_val * n_views
        if kept:
            once = asked * self.below + (n_train + asked) * self.asked
            return Cost(n_train * self.below, kept, n_train * self.step + asked * self.asked, once)
        answer = self.below + self.asked
        epoch = n_train * (self.below + self.step) + asked * answer
        return Cost(0.0, 0, epoch, (n_train + asked) * answer)


def epochs_that_fit(wanted: int, seconds: float, cost: Cost) -> int:
    """At most `wanted`; 0 where not even one ends within `seconds`."""
    return next((epochs for epochs in range(wanted, 0, -1) if cost.seconds(epochs) <= seconds), 0)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, once warm."""
    work()
    _wait(device)
    begun = time.perf_counter()
    for _ in range(_MEASURED):
        work()
    _wait(device)
    return (time.perf_counter() - begun) / _MEASURED


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
