"""The rungs that need no more than cached features: a head, all views, a temperature.

Shape letters: N images, V views, F features, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convflow.evaluation.calibration import fit_temperature
from convflow.learning.ladder import Ladder
from convflow.learning.probing import Floats, Probe, Search, Taught, Widths, figures_of, fit_probe

RungName = Literal["probe", "views", "temperature"]
RUNGS: tuple[RungName, ...] = ("probe", "views", "temperature")


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
        taught: labels and what goes with them.
    """

    feature_NVF: NDArray[np.float32]
    taught: Taught

    def seen(self, *, all_views: bool) -> Floats:
        """Features (N, F): the mean over all views, or those of the picture as it is."""
        found: Floats = self.feature_NVF.mean(axis=1) if all_views else np.array(self.feature_NVF[:, 0])
        return found


@dataclass(frozen=True, eq=False)
class Stand:
    """A model made of frozen features.

    Attributes:
        probe: its head.
        all_views: whether the features are averaged over all views.
        temperature: divides the logits.
    """

    probe: Probe
    all_views: bool
    temperature: float = 1.0

    def logits(self, side: Side, widths: Widths) -> Tensor:
        """Logits float64 (N, K)."""
        return self.probe.logits(side.seen(all_views=self.all_views), widths) / self.temperature


@dataclass(frozen=True)
class Note:
    """What a rung reached on train, and when it was done, in seconds from the start."""

    train_loss: float
    train_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Climbed:
    """Where the ladder ended: the model, all rungs tried, and a note on each."""

    stand: Stand
    ladder: Ladder
    notes: list[Note]


def climb(
    train: Side,
    val: Side,
    widths: Widths,
    plan: Plan,
    *,
    in_time: Callable[[], tuple[float, bool]],
) -> Climbed:
    """Try the rungs in their order, keep what helps on val.

    Args:
        train: fitted on.
        val: asked which rungs help.
        widths: features of each stage at hand.
        plan: which rungs, and how.
        in_time: seconds since the start, and whether there is time for another rung.
    """
    ladder = Ladder(val.taught.label_N, val.taught.group_N, errors=plan.errors)
    stand: Stand | None = None
    notes: list[Note] = []
    for name in plan.rungs:
        if stand is not None and not in_time()[1]:
            break
        tried = _tried(name, stand, (train, val), widths, plan.search)
        logits_NK = tried.logits(val, widths)
        if ladder.offer(name, logits_NK.log_softmax(dim=1).numpy()):
            stand = tried
        loss, accuracy = figures_of(tried.logits(train, widths), torch.from_numpy(train.taught.label_N))
        notes.append(Note(loss, accuracy, in_time()[0]))
    if stand is None:
        raise ValueError("no rung was asked for")
    return Climbed(stand, ladder, notes)


def _tried(
    name: RungName, stand: Stand | None, sides: tuple[Side, Side], widths: Widths, search: Search
) -> Stand:
    train, val = sides
    if name != "temperature":
        all_views = name == "views"
        return Stand(fit_probe(train.seen(all_views=all_views), widths, train.taught, search), all_views)
    if stand is None:
        raise ValueError("a temperature needs a head before it")
    prob_NK = stand.logits(val, widths).softmax(dim=1).numpy()
    return replace(stand, temperature=fit_temperature(val.taught.label_N, prob_NK).value)
