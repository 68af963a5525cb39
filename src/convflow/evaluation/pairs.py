"""Two models on the same images: paired intervals of their difference, McNemar's test, Holm's correction.

Both models see the same draws (`Resampling` gives the same counts for the same seed), so subtracting
them draw by draw pairs them.

Shape letters: N images, B draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from convflow.evaluation.bootstrap import Interval, interval
from convflow.evaluation.entrants import Measured
from convflow.evaluation.metrics import SCALARS


@dataclass(frozen=True)
class Difference:
    """Ours less theirs, with its paired 95 % interval (None where there is none)."""

    value: float
    ends: Interval | None


@dataclass(frozen=True)
class McNemar:
    """The images only one of two models decided rightly, and the chance of so uneven a share."""

    only_ours: int
    only_theirs: int
    p: float


def differences(ours: Measured, theirs: Measured, n_units: int) -> dict[str, Difference]:
    """Ours less theirs for every metric; both must have been measured on the same draws.

    That of the ECE is of the plain ECE, whose noise does not cancel: its interval is rather too wide.
    `n_units` is the number of groups or images drawn, as in `Resampling`.
    """
    return {
        name: Difference(
            float(ours.seen[name][0] - theirs.seen[name][0]),
            interval(ours.drawn[name] - theirs.drawn[name], n_units),
        )
        for name in SCALARS
    }


def mcnemar(ours_right_N: NDArray[np.bool_], theirs_right_N: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test (Psychometrika 12, 1947): binomial, two-sided, of the images they differ on.

    It takes the images as independent of each other, which those of one group are not.
    """
    only_ours = int((ours_right_N & ~theirs_right_N).sum())
    only_theirs = int((theirs_right_N & ~ours_right_N).sum())
    n_apart = only_ours + only_theirs
    tail = float(special.bdtr(min(only_ours, only_theirs), n_apart, 0.5)) if n_apart else 1.0
    return McNemar(only_ours, only_theirs, min(1.0, 2 * tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number, in the order given (Holm, Scand. J. Statist. 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(order))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        corrected[place] = highest
    return [float(p) for p in corrected]
