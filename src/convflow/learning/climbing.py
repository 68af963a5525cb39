"""Rung by rung from a head on frozen features to a fine-tuned network; kept is only what helps on val.

probe        a linear head on cached features of each picture as it is
views        the same on features averaged over all views
tune         the head and the last stages trained on, from the head that stands
soup         the mean of the weights of several such runs
temperature  all logits divided by one number

`climb` works on arrays alone, no folder and no stage needed, so that a study can call it for many splits::

    sides = {
        name: Side(feature_NVF, taught, image_NSSC=image_NSSC, row_N=row_N)
        for name, (taught, row_N) in {"train": ..., "val": ...}.items()
    }
    tuner = Tuner(trunk, (sides["train"], sides["val"]), tuning, Place(...))  # convflow.learning.tuner
    climbed = climb(sides["train"], sides["val"], widths, plan, in_time=in_time, tuner=tuner)
    network = assemble(trunk, climbed.stand, channels, views)                # convflow.learning.assembling
    prob_MK = ask(network, Pictures(image_NSSC, rows["test"]), device)

`feature_NVF` and `image_NSSC` hold all images of a set and may lie on disk; `row_N` says which of them a
side consists of, and `taught` describes those alone, in the order of `row_N`. Without tune and soup no tuner
and no pictures are needed, and `climbed.stand.logits(side, widths)` answers for any side from its features;
where `climbed.stand.tuned` is None it does so after a climb with a tuner, too.

Shape letters: N images, V views, F features, K classes, C channels, S side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convflow.evaluation.calibration import fit_temperature
from convflow.learning.fitting import Epoch
from convflow.learning.ladder import Ladder
from convflow.learning.probing import Floats, Probe, Search, Taught, Widths, figures_of, fit_probe

RungName = Literal["probe", "views", "tune", "soup", "temperature"]
RUNGS: tuple[RungName, ...] = ("probe", "views", "tune", "soup", "temperature")
HEADS = RUNGS[:2]  # those that a ladder can begin with
TUNED = RUNGS[2:4]  # those for which the network itself is trained


@dataclass(frozen=True)
class Plan:
    """What is tried.

    Attributes:
        rungs: some of RUNGS, in their order; one that gives a head comes first.
        search: how heads are looked for.
        errors: standard errors by which a rung has to be better, see `convflow.learning.ladder`.
    """

    rungs: tuple[RungName, ...]
    search: Search
    errors: float


@dataclass(frozen=True, eq=False)
class Side:
    """One side as the ladder sees it.

    Attributes:
        feature_NVF: float32, stage beside stage; may lie on disk.
        taught: labels and what goes with them, of this side alone.
        image_NSSC: uint8, the pictures of these features; may lie on disk. Needed for tune and soup only.
        row_N: int64, which of both belong to this side; None: all.
    """

    feature_NVF: NDArray[np.float32]
    taught: Taught
    image_NSSC: NDArray[np.uint8] | None = None
    row_N: NDArray[np.int64] | None = None

    def seen(self, *, all_views: bool) -> Floats:
        """Features (N, F): the mean over all views, or those of the picture as it is."""
        rows = slice(None) if self.row_N is None else self.row_N
        n_views = self.feature_NVF.shape[1] if all_views else 1
        found = np.array(self.feature_NVF[rows, 0])
        for view in range(1, n_views):  # one after the other: all together may not fit in memory
            found += self.feature_NVF[rows, view]
        return found / np.float32(n_views)


@dataclass(frozen=True, eq=False)
class Stand:
    """A model on the way.

    Attributes:
        probe: its head, or the one from which it was tuned.
        all_views: whether it looks at all views of a picture and averages.
        temperature: divides the logits.
        tuned: weights that have been trained since, under their names in a `Transfer`; None: frozen.
    """

    probe: Probe
    all_views: bool
    temperature: float = 1.0
    tuned: dict[str, Tensor] | None = None

    def logits(self, side: Side, widths: Widths) -> Tensor:
        """Logits float64 (N, K) of a frozen model.

        Raises:
            ValueError: a tuned one, which cached features cannot tell; assemble it and ask it about pictures.
        """
        if self.tuned is not None:
            raise ValueError("features of a frozen trunk asked for a tuned one; use assemble")
        return self.probe.logits(side.seen(all_views=self.all_views), widths) / self.temperature


@dataclass(frozen=True, eq=False)
class Tuned:
    """What tuning gave.

    Attributes:
        weights: of all that was trained, under its names in a `Transfer`.
        train_NK, val_NK: logits float64; of train under one view each.
        epochs: of each run.
        spoken: what else is to be said, with minutes in it; None: nothing.
    """

    weights: dict[str, Tensor]
    train_NK: Tensor
    val_NK: Tensor
    epochs: Sequence[Sequence[Epoch]]
    spoken: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A rung that was not tried.

    Attributes:
        why: in words without minutes, which must not enter a model's folder.
        spoken: in words with them.
    """

    name: str
    why: str
    spoken: str


class Trains(Protocol):
    """Trains the network itself; `convflow.learning.tuner` has one."""

    def tune(self, stand: Stand) -> Tuned | Skipped:
        """One run from the head of `stand`."""
        ...

    def soup(self, stand: Stand) -> Tuned | Skipped:
        """The mean of several runs, those before included."""
        ...


@dataclass(frozen=True)
class Note:
    """What a rung reached on train, when it was done, in seconds from the start, and its runs' epochs."""

    train_loss: float
    train_accuracy: float
    seconds: float
    epochs: Sequence[Sequence[Epoch]] = ()
    spoken: str | None = None


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where the ladder ended: the model, all rungs tried, a note on each, and those that were not tried."""

    stand: Stand
    ladder: Ladder
    notes: list[Note]
    skipped: list[Skipped]


@dataclass(frozen=True, eq=False)
class _Tried:
    stand: Stand
    train_NK: Tensor
    val_NK: Tensor
    epochs: Sequence[Sequence[Epoch]] = ()
    spoken: str | None = None


def climb(
    train: Side,
    val: Side,
    widths: Widths,
    plan: Plan,
    *,
    in_time: Callable[[], tuple[float, bool]],
    tuner: Trains | None = None,
) -> Climbed:
    """Try the rungs in their order, keep what helps on val.

    Args:
        train: fitted on.
        val: asked which rungs help.
        widths: features of each stage at hand.
        plan: which rungs, and how.
        in_time: seconds since the start, and whether there is time for another rung.
        tuner: for tune and soup.

    Raises:
        ValueError: no rung gives a head, or tune or soup without a tuner.
        TrainingError: a loss that is not finite; epoch and step are named.
    """
    ladder = Ladder(val.taught.label_N, val.taught.group_N, errors=plan.errors)
    best: _Tried | None = None
    notes: list[Note] = []
    skipped: list[Skipped] = []
    label_N = torch.from_numpy(train.taught.label_N)
    for name in plan.rungs:
        if best is not None and not in_time()[1]:
            skipped.append(Skipped(name, "no time was left for it", "no time was left for it"))
            continue
        tried = _tried(name, best, (train, val), widths, plan.search, tuner)
        if isinstance(tried, Skipped):
            skipped.append(tried)
            continue
        if ladder.offer(name, tried.val_NK.log_softmax(dim=1).numpy()):
            best = tried
        notes.append(Note(*figures_of(tried.train_NK, label_N), in_time()[0], tried.epochs, tried.spoken))
    if best is None:
        raise ValueError("no rung was asked for")
    return Climbed(best.stand, ladder, notes, skipped)


def _tried(
    name: RungName,
    best: _Tried | None,
    sides: tuple[Side, Side],
    widths: Widths,
    search: Search,
    tuner: Trains | None,
) -> _Tried | Skipped:
    train, val = sides
    if name in HEADS:
        all_views = name == "views"
        stand = Stand(fit_probe(train.seen(all_views=all_views), widths, train.taught, search), all_views)
        return _Tried(stand, stand.logits(train, widths), stand.logits(val, widths))
    if best is None:
        raise ValueError(f"{name} needs a head before it")
    if name == "temperature":
        return _cooled(best, val)
    if tuner is None:
        raise ValueError(f"{name} needs a tuner")
    found = tuner.tune(best.stand) if name == "tune" else tuner.soup(best.stand)
    if isinstance(found, Skipped):
        return found
    stand = replace(best.stand, tuned=found.weights)
    return _Tried(stand, found.train_NK, found.val_NK, found.epochs, found.spoken)


def _cooled(best: _Tried, val: Side) -> _Tried:
    value = fit_temperature(val.taught.label_N, best.val_NK.softmax(dim=1).numpy()).value
    stand = replace(best.stand, temperature=best.stand.temperature * value)
    return _Tried(stand, best.train_NK / value, best.val_NK / value)
