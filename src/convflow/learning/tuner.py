"""The rungs for which the network itself is trained, within the time that is left.

Shape letters: N images, V views, K classes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.learning.activations import Below, Feed, Fresh, Kept, Pictures, bytes_kept, has_room
from convflow.learning.assembling import assemble
from convflow.learning.augment import Augment
from convflow.learning.climbing import Side, Skipped, Stand, Tuned
from convflow.learning.devices import make_accelerator
from convflow.learning.embedding import Mode
from convflow.learning.fitting import Sums
from convflow.learning.pacing import Cost, PerImage, epochs_that_fit, seconds_of
from convflow.learning.probing import targets_of
from convflow.learning.tuning import Learner, Lesson, Run, Tuning, Weights, answers, fit, soup_of
from convflow.learning.unfreezing import Upper, first_trained
from convflow.nets.backbones import VIEWS, Trunk, Views
from convflow.nets.transfer import Transfer

_CAUTION = 1.1  # what has been measured may take this much longer


@dataclass(frozen=True)
class Place:
    """Where and how to compute.

    Attributes:
        device: cpu, cuda or mps.
        precision: of training: fp32, bf16 or fp16; what the ladder is offered is computed in fp32.
        mode: of the frozen stages, see `convflow.learning.embedding`.
        views: under which pictures may be seen.
        work: a folder on a disk with room for what is kept of the frozen stages; nothing stays in it.
    """

    device: str
    precision: str
    mode: Mode
    views: Views
    work: Path


class Tuner:
    """Trains the last stages, or all, by gradient descent.

    Attributes:
        runs: those made so far; `soup` averages them with those it makes.
    """

    def __init__(
        self,
        trunk: Trunk,
        sides: tuple[Side, Side],
        tuning: Tuning,
        place: Place,
        *,
        seconds_left: Callable[[], float] | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            trunk: with the weights from which the features came; stays as it is.
            sides: train and val, with their pictures.
            tuning: how to train.
            place: where.
            seconds_left: of the time allowed; None: there is no end to it, and no clock is looked at.
        """
        self.runs: list[Run] = []
        self._trunk, self._sides, self._tuning, self._place = trunk, sides, tuning, place
        self._left = seconds_left
        self._device = torch.device(place.device)
        self._ready: tuple[Below, Lesson] | None = None
        self._epochs = 0
        self._seconds = 0.0  # of the last run

    def tune(self, stand: Stand) -> Tuned | Skipped:
        """One run from the head of `stand`, with as many epochs as fit.

        Raises:
            TrainingError: the loss is not finite; epoch and step are named.
        """
        spoken = self._pace(stand)
        if not self._epochs:
            why = "one epoch would not end in time"
            return Skipped("tune", why, f"{why}; {spoken}")
        self._run(stand)
        return self._told(stand, self.runs[-1].weights, self.runs[-1:], spoken)

    def soup(self, stand: Stand) -> Tuned | Skipped:
        """The mean over the runs so far and as many of those missing as fit.

        Raises:
            TrainingError: the loss is not finite; epoch and step are named.
        """
        spoken = None if self._epochs else self._pace(stand)
        before = len(self.runs)
        while self._epochs and len(self.runs) < self._tuning.runs and self._fits():
            self._run(stand)
        if len(self.runs) < 2:
            why = f"{len(self.runs)} of {self._tuning.runs} runs would end in time"
            return Skipped("soup", why, why if spoken is None else f"{why}; {spoken}")
        if len(self.runs) < self._tuning.runs:
            spoken = f"{len(self.runs)} of {self._tuning.runs} runs; a run takes {self._seconds / 60:.1f} min"
        return self._told(stand, soup_of(run.weights for run in self.runs), self.runs[before:], spoken)

    def _told(self, stand: Stand, weights: Weights, runs: Sequence[Run], spoken: str | None) -> Tuned:
        lesson = self._prepared(stand)[1]
        upper = self._upper(replace(stand, tuned=weights))
        train_NK, val_NK = answers(upper, lesson.train, 1), answers(upper, lesson.val, lesson.n_views)
        return Tuned(weights, train_NK, val_NK, [run.epochs for run in runs], spoken)

    def _run(self, stand: Stand) -> None:
        begun = time.monotonic()
        lesson = self._prepared(stand)[1]
        accelerator = make_accelerator(self._place.device, self._place.precision)
        upper = self._upper(replace(stand, tuned=None), fresh=self._tuning.method != "lp_ft")
        number = len(self.runs)
        self.runs.append(fit(upper, lesson, self._tuning, accelerator, epochs=self._epochs, number=number))
        self._seconds = time.monotonic() - begun

    def _upper(self, stand: Stand, *, fresh: bool = False) -> Upper:
        net = assemble(self._trunk, replace(stand, temperature=1.0), 1, "none").net
        if not isinstance(net, Transfer):
            raise TypeError(f"{type(net).__name__} is no transferred network")
        if fresh:  # the same in each run: a mean over runs makes sense only from one beginning
            torch.manual_seed(self._tuning.seed)
            net.head.linear.reset_parameters()
        upper = Upper(net, first_trained(len(net.trunk.stages), self._tuning.blocks))
        return upper.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _prepared(self, stand: Stand) -> tuple[Below, Lesson]:
        """The frozen stages, and what is learned from; made once, as the head does not change any more."""
        if self._ready is None:
            depths = list(stand.probe.depths)
            first = first_trained(max(depths) + 1, self._tuning.blocks)
            below = Below(self._trunk, depths, first, self._place.mode, self._device)
            self._ready = below, self._lesson(below, len(VIEWS[self._shown(stand)]))
        return self._ready

    def _lesson(self, below: Below, n_views: int) -> Lesson:
        train, val = (side.taught for side in self._sides)
        target_NK, weight_N = targets_of(train, self._tuning.unsure)
        seen_V = np.array(VIEWS[self._place.views])
        seen_NV = np.tile(seen_V, (len(train.label_N), 1))
        shuffled_NV = np.random.default_rng(self._tuning.seed).permuted(seen_NV, axis=1)
        return Lesson(
            self._feed(below, self._sides[0], shuffled_NV),
            self._feed(below, self._sides[1], np.tile(seen_V[:n_views], (len(val.label_N), 1))),
            target_NK.float().to(self._device),
            weight_N.float().to(self._device),
            torch.from_numpy(train.label_N).to(self._device),
            torch.from_numpy(val.label_N),
            n_views,
        )

    def _feed(self, below: Below, side: Side, view_NV: NDArray[np.int64]) -> Feed:
        pictures = _pictures(side)
        if below.first == 0:
            return Fresh(below, pictures, view_NV, self._tuning.augment)
        if not has_room(self._place.work, bytes_kept(below, pictures, view_NV.shape[1])):
            return Fresh(below, pictures, view_NV, Augment())
        return Kept(below, pictures, view_NV, self._place.work)

    def _shown(self, stand: Stand) -> Views:
        return self._place.views if stand.all_views else "none"

    def _fits(self) -> bool:
        """Whether one more run does; the first has been seen to by `_pace`."""
        return self._left is None or not self.runs or _CAUTION * self._seconds <= self._left()

    def _pace(self, stand: Stand) -> str | None:
        """Choose the epochs that fit; say so where they are fewer than asked for."""
        wanted = self._epochs = self._tuning.epochs
        if self._left is None:
            return None
        cost = self._measured(stand)
        left = self._left()
        self._epochs = epochs_that_fit(wanted, left / _CAUTION, cost)
        if self._epochs == wanted:
            return None
        return (
            f"{self._epochs} of {wanted} epochs, which take {cost.seconds(wanted) / 60:.1f} min; "
            f"{max(left, 0) / 60:.1f} min are left"
        )

    def _measured(self, stand: Stand) -> Cost:
        """Let a batch go each way a few times, on a network that is thrown away."""
        below, lesson = self._prepared(stand)
        index_B = np.arange(min(self._tuning.batch_size, len(lesson.label_N)))
        pictures = _pictures(self._sides[0])
        augment = Augment() if below.first else self._tuning.augment
        fresh = Fresh(below, pictures, lesson.train.view_NV, augment)
        generator = torch.Generator().manual_seed(0)
        x, below_BF = fresh.batch(0, index_B, generator)
        upper = self._upper(replace(stand, tuned=None))
        optimizer = torch.optim.AdamW(upper.groups(1.0, 0.0), lr=0.0, fused=True)
        accelerator = make_accelerator(self._place.device, self._place.precision)
        learner = Learner(accelerator, upper, optimizer, lesson, self._tuning)
        index = torch.from_numpy(index_B).to(self._device)

        def step() -> None:
            upper.train()
            learner.step(x, below_BF, index, Sums(self._device))

        def answer() -> None:
            upper.eval()
            with torch.no_grad():
                upper(x, below_BF)

        works = (lambda: fresh.batch(0, index_B, generator)), step, answer
        each = PerImage(*(seconds_of(work, self._device) / len(index_B) for work in works))
        n_train, n_val = len(lesson.label_N), len(lesson.label_val_N)
        kept = lesson.train.view_NV.shape[1] if isinstance(lesson.train, Kept) else 0
        return each.cost(n_train, n_val, n_views=lesson.n_views, kept=kept)


def _pictures(side: Side) -> Pictures:
    if side.image_NSSC is None:
        raise ValueError("a side without pictures cannot be tuned on")
    return Pictures(side.image_NSSC, side.row_N)
