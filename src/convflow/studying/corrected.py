"""Means over splits that share images: their intervals and tests, corrected for the sharing.

Figures of J splits of one set are not independent: their training parts overlap, so do their test parts,
and the plain standard error sd / sqrt(J) goes to zero with J while the uncertainty does not. Nadeau and
Bengio (Machine Learning 52, 2003) replace the factor 1/J of the variance by 1/J + n_test/n_train; Bouckaert
and Frank (PAKDD 2004) use the same for repeated cross-validation.

Shape letter: J splits.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """A figure over J splits: mean, sd (of one split), corrected standard error and 95 % interval.

    `sd`, `error`, `low` and `high` are None where a single split says nothing of them.
    """

    n: int
    mean: float
    sd: float | None
    error: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """A difference over the same J splits, with t statistic and two-sided p; None as in `Summary`."""

    difference: float
    low: float | None
    high: float | None
    t: float | None
    p: float | None


def summarise(value_J: Floats, *, test_to_train: float) -> Summary:
    """Mean of `value_J` with its corrected 95 % interval, of Student's t with J - 1 degrees of freedom.

    Args:
        value_J: one figure per split, finite.
        test_to_train: images in test over images that the model was made from (train and val).
    """
    n_splits, mean = len(value_J), float(np.mean(value_J))
    if n_splits < 2:
        return Summary(n_splits, mean, None, None, None, None)
    sd = _spread(value_J)
    error = sd * math.sqrt(1 / n_splits + test_to_train)
    reach = _t_quantile(n_splits - 1) * error
    return Summary(n_splits, mean, sd, error, mean - reach, mean + reach)


def compare(value_J: Floats, other_J: Floats, *, test_to_train: float) -> Comparison:
    """`value_J` less `other_J`, paired by split: the corrected resampled t-test.

    Args:
        value_J: one figure per split.
        other_J: the other model's, on the same splits.
        test_to_train: as in `summarise`.
    """
    found = summarise(np.asarray(value_J) - np.asarray(other_J), test_to_train=test_to_train)
    if found.error is None:
        return Comparison(found.mean, None, None, None, None)
    if found.error == 0:  # all splits agree: on no difference, or on one that no spread can explain
        return Comparison(found.mean, found.low, found.high, None, float(found.mean == 0))
    t = found.mean / found.error
    p = 2 * float(special.stdtr(found.n - 1, -abs(t)))
    return Comparison(found.mean, found.low, found.high, t, p)


def gap(one: Summary, other: Summary) -> Comparison:
    """`one` less `other`, two means over different splits of the same images.

    The two are treated as independent. They share images, which pulls them the same way, so the interval is
    rather too wide than too narrow. Degrees of freedom are those of the smaller number of splits, less one.
    """
    difference = one.mean - other.mean
    if one.error is None or other.error is None:
        return Comparison(difference, None, None, None, None)
    error = math.hypot(one.error, other.error)
    freedom = min(one.n, other.n) - 1
    reach = _t_quantile(freedom) * error
    if error == 0:
        return Comparison(difference, difference, difference, None, float(difference == 0))
    p = 2 * float(special.stdtr(freedom, -abs(difference / error)))
    return Comparison(difference, difference - reach, difference + reach, difference / error, p)


def share_interval(hits: float, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share of `n` images (Clopper and Pearson, Biometrika 26, 1934)."""
    tail = (1 - LEVEL) / 2
    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def _spread(value_J: Floats) -> float:
    # equal figures have no spread, whatever rounding leaves of their mean
    return 0.0 if np.ptp(value_J) == 0 else float(np.std(value_J, ddof=1))


def _t_quantile(freedom: int) -> float:
    return float(special.stdtrit(freedom, 1 - (1 - LEVEL) / 2))
