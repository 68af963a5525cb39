"""The figures of one split: all images of its test part, and slices of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convflow.evaluation.metrics import Scored, all_metrics

METRICS = ("accuracy", "balanced_accuracy", "roc_auc", "macro_f1", "average_precision", "log_loss")
EVERYTHING = "all"

Scores = dict[str, dict[str, float]]


def score(
    label_N: NDArray[np.int64],
    prob_NK: NDArray[np.float64],
    positive: int,
    columns: Mapping[str, Sequence[str | None]],
) -> Scores:
    """Figures by slice (`all`, then `column=value`) and metric; NaN where a slice leaves one undefined.

    Every image counts once, whatever its weight in training. Of two classes the positive one is decided on
    where its probability is above one half; of more, the likeliest.

    Args:
        label_N: int, class indices.
        prob_NK: float, each row sums to 1.
        positive: the class that ROC-AUC and average precision look for, of two.
        columns: what to slice by: name, and a value for each image.
    """
    found = {EVERYTHING: _figures(label_N, prob_NK, positive)}
    for column, values in columns.items():
        value_N = np.asarray(values)
        for value in sorted({value for value in values if value is not None}):
            inside = value_N == value
            found[f"{column}={value}"] = _figures(label_N[inside], prob_NK[inside], positive)
    return found


def decide(prob_NK: NDArray[np.float64], positive: int) -> NDArray[np.int64]:
    """The class decided on for each image, as `score` says."""
    decided_N: NDArray[np.int64] = prob_NK.argmax(axis=1)
    if prob_NK.shape[1] == 2:
        decided_N = np.where(prob_NK[:, positive] > 0.5, positive, 1 - positive)
    return decided_N


def _figures(label_N: NDArray[np.int64], prob_NK: NDArray[np.float64], positive: int) -> dict[str, float]:
    case = Scored(label_N, prob_NK, decide(prob_NK, positive), positive)
    measured = all_metrics(case)
    return {name: float(measured[name][0]) for name in METRICS}
