"""The points of curves and tables that plots show: ROC, precision-recall, reliability, confusion.

Shape letters: N images, K classes, T thresholds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convflow.evaluation.metrics import N_BINS, Scored, confidence_bins
from convflow.evaluation.ranking import Floats

GRID = np.linspace(0, 1, 201)
_MOST_POINTS = 1_000


@dataclass(frozen=True, eq=False)
class Curve:
    """Points from left to right."""

    x: Floats
    y: Floats


def roc_curve(inside_N: NDArray[np.bool_], score_N: Floats) -> Curve:
    """x: false positive rate, y: true positive rate; from (0, 0) to (1, 1), corners only.

    Wants images inside the class and outside.
    """
    found_T, passed_T = _cumulative(inside_N, score_N)
    x, y = np.r_[0, passed_T], np.r_[0, found_T]
    straight = np.diff(x)[:-1] * np.diff(y)[1:] == np.diff(x)[1:] * np.diff(y)[:-1]
    keep = np.r_[True, ~straight, True]
    return _thin(Curve(x[keep] / x[-1], y[keep] / y[-1]))


def precision_recall_curve(inside_N: NDArray[np.bool_], score_N: Floats) -> Curve:
    """x: recall, y: precision, one point per threshold from the highest; wants an image inside."""
    found_T, passed_T = _cumulative(inside_N, score_N)
    precision_T = found_T / (found_T + passed_T)
    return _thin(Curve(np.r_[0, found_T / found_T[-1]], np.r_[precision_T[0], precision_T]))


def rank_curves(case: Scored) -> tuple[dict[int, Curve], dict[int, Curve]]:
    """ROC and precision-recall curves by class, where a class has images inside and outside.

    Of two classes only the positive one's.
    """
    classes = range(case.n_classes)
    if case.n_classes == 2:
        wanted = 1 if case.positive is None else case.positive
        classes = range(wanted, wanted + 1)
    roc, precision = {}, {}
    for k in classes:
        inside_N = case.label_N == k
        if inside_N.any() and not inside_N.all():
            roc[k] = roc_curve(inside_N, case.prob_NK[:, k])
            precision[k] = precision_recall_curve(inside_N, case.prob_NK[:, k])
    return roc, precision


def mean_curve(curves: dict[int, Curve]) -> Curve:
    """The only curve, or the mean height of several: its area is the macro average of theirs."""
    if len(curves) == 1:
        return next(iter(curves.values()))
    if not curves:
        return Curve(np.empty(0), np.empty(0))
    return Curve(GRID, np.mean([np.interp(GRID, one.x, one.y) for one in curves.values()], axis=0))


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of confidence (low, high] with its images: their mean confidence, their accuracy."""

    low: float
    high: float
    confidence: float
    accuracy: float
    images: int


def reliability(case: Scored) -> list[ReliabilityBin]:
    """The bins that ECE adds up, those without an image left out."""
    sure_N = case.prob_NK.max(axis=1)
    right_N = case.label_N == case.prob_NK.argmax(axis=1)
    bin_N = confidence_bins(sure_N)
    return [
        ReliabilityBin(
            float(index / N_BINS),
            float((index + 1) / N_BINS),
            float(sure_N[bin_N == index].mean()),
            float(right_N[bin_N == index].mean()),
            int((bin_N == index).sum()),
        )
        for index in np.unique(bin_N)
    ]


def _cumulative(inside_N: NDArray[np.bool_], score_N: Floats) -> tuple[Floats, Floats]:
    """Images inside and outside that score at least each distinct score, from the highest: (T,)."""
    order = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order]
    end_T = np.r_[np.flatnonzero(sorted_N[1:] != sorted_N[:-1]), len(sorted_N) - 1]
    found_T = np.cumsum(inside_N[order])[end_T].astype(np.float64)
    return found_T, end_T + 1 - found_T


def _thin(curve: Curve) -> Curve:
    if len(curve.x) <= _MOST_POINTS:
        return curve
    keep = np.unique(np.linspace(0, len(curve.x) - 1, _MOST_POINTS).astype(np.int64))
    return Curve(curve.x[keep], curve.y[keep])
