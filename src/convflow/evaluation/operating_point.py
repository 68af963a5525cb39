"""From probabilities to decisions: temperature, then threshold; both chosen on val and never on test.

Shape letters: N images, K classes, T candidate thresholds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.errors import DataError, ModelError, ParamsError
from convflow.evaluation.ranking import TINY, Floats, Indices, ratio


@dataclass(frozen=True)
class OperatingPoint:
    """How to decide: for `positive` from probability `threshold` (in [0, 1]) on, or for the likeliest.

    Both are said of calibrated probabilities: call `calibrated` first, then `decide`. `value` is what the
    criterion came to on val, in [0, 1]; positive, threshold and value are None for argmax.
    """

    criterion: str
    positive: int | None = None
    threshold: float | None = None
    value: float | None = None
    temperature: float = 1.0

    def calibrated(self, prob_NK: Floats) -> Floats:
        """The probabilities at this point's temperature, float64 (N, K); at 1 they stay as they are."""
        return tempered(prob_NK, self.temperature)

    def decide(self, prob_NK: Floats) -> Indices:
        """The class decided on per image, from calibrated probabilities."""
        if self.positive is None or self.threshold is None:
            return np.asarray(prob_NK.argmax(axis=1), dtype=np.int64)
        is_positive = prob_NK[:, self.positive] >= self.threshold
        return np.where(is_positive, self.positive, 1 - self.positive).astype(np.int64)


def tempered(prob_NK: Floats, temperature: float) -> Floats:
    """Probabilities p as p^(1/T), each row summing to 1 again: a softmax at temperature T (Guo et al., 2017).

    Above 1 they get less sure, below 1 surer; their order within a row stays.
    """
    prob_NK = np.asarray(prob_NK, dtype=np.float64)
    if temperature == 1:
        return prob_NK
    logit_NK = np.log(np.maximum(prob_NK, TINY)) / temperature
    power_NK = np.exp(logit_NK - logit_NK.max(axis=1, keepdims=True))
    result: Floats = power_NK / power_NK.sum(axis=1, keepdims=True)
    return result


def told_point(entry: Any, classes: Sequence[str], place: str) -> OperatingPoint:
    """The operating point that metrics.json or a registered model tells of; argmax where it tells none.

    Args:
        entry: what stands under "operating_point": criterion, positive (a class), threshold (or null),
            temperature (1 where it does not say).
        classes: in the order of the probabilities.
        place: where it was read, for the message.

    Raises:
        ModelError: a threshold for classes that are not these, or a temperature that is none.
    """
    if not isinstance(entry, dict):
        return OperatingPoint("argmax")
    temperature = _told_temperature(entry, place)
    if entry.get("threshold") is None:
        return OperatingPoint("argmax", temperature=temperature)
    positive, threshold = str(entry.get("positive")), entry["threshold"]
    if len(classes) != 2 or positive not in classes or not isinstance(threshold, (int, float)):
        raise ModelError(
            f"{place}: operating point {threshold!r} for {positive!r} does not fit the classes "
            f"{', '.join(classes)}; run `dvc repro` to choose it anew"
        )
    return OperatingPoint(
        str(entry.get("criterion")),
        list(classes).index(positive),
        float(threshold),
        entry.get("value_on_val"),
        temperature,
    )


def _told_temperature(entry: dict[str, Any], place: str) -> float:
    found = entry.get("temperature", 1.0)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < math.inf:
        raise ModelError(
            f"{place}: temperature {found!r} is no finite number above 0; run `dvc repro` to fit it anew"
        )
    return float(found)


def choose_operating_point(
    label_N: Indices, prob_NK: Floats, *, criterion: str, positive: int
) -> OperatingPoint:
    """The threshold with the best `criterion` on these (val) images; the nearest to 0.5 among equals.

    Candidates lie halfway between neighbouring probabilities, so that a picture a hair away falls on the
    same side. f1 is that of the positive class.

    Raises:
        ParamsError: a threshold is asked for more than two classes.
        DataError: val lacks one of the two classes.
    """
    if criterion == "argmax":
        return OperatingPoint("argmax")
    n_classes = prob_NK.shape[1]
    if n_classes != 2:
        raise ParamsError(
            f"params.yaml: evaluate.operating_point: {criterion} wants two classes, these are "
            f"{n_classes}; set it to argmax"
        )
    is_positive = label_N == positive
    if is_positive.all() or not is_positive.any():
        raise DataError(
            f"val has images of one class only ({len(label_N)} in all), so it cannot choose a threshold; "
            "set evaluate.operating_point to argmax, or give split.val_fraction more"
        )
    threshold_T = _candidates(prob_NK[:, positive])
    value_T = _values(criterion, is_positive, prob_NK[:, positive], threshold_T)
    best = np.flatnonzero(value_T >= value_T.max() - 1e-12)
    chosen = best[np.argmin(np.abs(threshold_T[best] - 0.5))]
    return OperatingPoint(criterion, positive, float(threshold_T[chosen]), float(value_T[chosen]))


def _candidates(score_N: Floats) -> Floats:
    distinct = np.unique(score_N)
    between: Floats = np.r_[0.0, (distinct[1:] + distinct[:-1]) / 2, 0.5]
    return np.unique(between)


def _values(criterion: str, is_positive: NDArray[np.bool_], score_N: Floats, threshold_T: Floats) -> Floats:
    inside, outside = np.sort(score_N[is_positive]), np.sort(score_N[~is_positive])
    hit_T = (len(inside) - np.searchsorted(inside, threshold_T)).astype(np.float64)
    passed_T = np.searchsorted(outside, threshold_T).astype(np.float64)
    false_T = len(outside) - passed_T
    if criterion == "accuracy":
        return (hit_T + passed_T) / len(score_N)
    if criterion == "f1":
        return ratio(2 * hit_T, hit_T + false_T + len(inside))
    return (hit_T / len(inside) + passed_T / len(outside)) / 2
