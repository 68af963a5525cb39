"""The figures that choose settings; apart from `evaluation`, whose reports may change without a new fit.

Shape letters: N rows, K classes.
"""

import numpy as np

from convflow.baselines.rows import Criterion, Floats, Indices

_TINY = 2.2e-16  # a probability of 0 counts as this


def figure(criterion: Criterion, label_N: Indices, prob_NK: Floats) -> float:
    """The accuracy or the mean recall of the classes present, in [0, 1], or the log loss in nats."""
    if criterion == "log_loss":
        true_N = prob_NK[np.arange(len(label_N)), label_N]
        return float(-np.log(np.maximum(true_N, _TINY)).mean())
    right_N = prob_NK.argmax(axis=1) == label_N
    if criterion == "accuracy":
        return float(right_N.mean())
    n_K = np.bincount(label_N, minlength=prob_NK.shape[1])
    right_K = np.bincount(label_N, right_N, minlength=prob_NK.shape[1])
    return float((right_K[n_K > 0] / n_K[n_K > 0]).mean())
