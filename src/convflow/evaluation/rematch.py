"""A challenger and the champion on the same images: paired differences overall, by class and by slice.

Both models see the same draws, so subtracting draw by draw pairs them. Images are drawn by groups where they
come in groups; a class or a slice that lies in one group is drawn by images, as nothing else is left to draw.

Shape letters: N images, K classes, B draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convflow.evaluation import metrics
from convflow.evaluation.bootstrap import Interval, Resampling, interval, resampling
from convflow.evaluation.metrics import Scored
from convflow.evaluation.ranking import Floats, ratio
from convflow.evaluation.sides import Side
from convflow.evaluation.slices import cut

N_DRAWS = 2000
SEED = 0
Metric = Callable[[Scored, Floats | None], Floats]
METRICS: dict[str, Metric] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_f1": metrics.macro_f1,
    "roc_auc": metrics.roc_auc,
    "average_precision": metrics.average_precision,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
}


@dataclass(frozen=True)
class Apart:
    """Ours and theirs in one figure on `n` images, ours less theirs, and its paired 95 % interval.

    `ends` is None where nothing can be drawn (a single image).
    """

    name: str
    n: int
    ours: float
    theirs: float
    ends: Interval | None

    @property
    def value(self) -> float:
        """Ours less theirs."""
        return self.ours - self.theirs


@dataclass(frozen=True)
class Rematch:
    """What came of it: one metric over all images, the recall of each class, the accuracy in each slice."""

    metric: Apart
    classes: list[Apart]
    slices: list[Apart]


def rematch(ours: Scored, theirs: Scored, side: Side, metric: str, *, n_draws: int = N_DRAWS) -> Rematch:
    """Compare two models on the images of `side`.

    Args:
        ours: the challenger's answers, in the order of `side`.
        theirs: the champion's, likewise.
        side: the images; its probabilities are not looked at.
        metric: a key of METRICS.
        n_draws: bootstrap draws of each interval.
    """
    draws = resampling(side.group_N, n_draws=n_draws, seed=SEED)
    measure = METRICS[metric]

    def both(count_BN: Floats | None) -> dict[str, Floats]:
        return {"ours": measure(ours, count_BN), "theirs": measure(theirs, count_BN)}

    seen, drawn = both(None), draws.draw(both)
    ends = interval(drawn["ours"] - drawn["theirs"], draws.n_units)
    whole = Apart(metric, side.n_images, float(seen["ours"][0]), float(seen["theirs"][0]), ends)
    present = np.unique(side.label_N).tolist()
    slices = cut(side)[0] if side.n_images else []
    parts = [(side.classes[k], side.label_N == k) for k in present]
    parts += [(f"{one.column} {one.value}", one.inside_N) for one in slices]
    found = _in_parts(ours, theirs, parts, draws)
    return Rematch(whole, found[: len(present)], found[len(present) :])


def _in_parts(
    ours: Scored, theirs: Scored, parts: Sequence[tuple[str, NDArray[np.bool_]]], draws: Resampling
) -> list[Apart]:
    """The share decided rightly in each part; within a class that is its recall."""
    gain_N = _right(ours) - _right(theirs)
    inside_NP = np.stack([inside_N for _, inside_N in parts], axis=1).astype(np.float64)

    def measure(count_BN: Floats) -> dict[str, Floats]:
        return {"gain": ratio(count_BN @ (inside_NP * gain_N[:, None]), count_BN @ inside_NP)}

    drawn_BP = draws.draw(measure)["gain"]
    found = []
    for place, (name, inside_N) in enumerate(parts):
        n_units = len(np.unique(draws.unit_N[inside_N]))
        if n_units > 1:
            ends = interval(drawn_BP[:, place], n_units)
        else:
            ends = _by_images(gain_N[inside_N], draws.n_draws)
        ours_share, theirs_share = (float(_right(one)[inside_N].mean()) for one in (ours, theirs))
        found.append(Apart(name, int(inside_N.sum()), ours_share, theirs_share, ends))
    return found


def _by_images(gain_N: Floats, n_draws: int) -> Interval | None:
    """The interval of a mean over images that all belong to one group."""
    draws = resampling([None] * len(gain_N), n_draws=n_draws, seed=SEED)
    drawn = draws.draw(lambda count_BN: {"gain": count_BN @ gain_N / len(gain_N)})
    return interval(drawn["gain"], len(gain_N))


def _right(one: Scored) -> Floats:
    right: Floats = (one.label_N == one.decided).astype(np.float64)
    return right
