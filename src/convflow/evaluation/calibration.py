"""Temperature scaling: one number, fitted on val, that makes all probabilities more or less sure.

Guo et al., On calibration of modern neural networks, ICML 2017. It moves no decision of the likeliest class.

Shape letters: N images, K classes.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from convflow.evaluation.operating_point import tempered
from convflow.evaluation.ranking import TINY, Floats, Indices

COOLEST, HOTTEST = 0.05, 100.0
_DIGITS = 4  # finer than any val set can tell, and the same on every processor


@dataclass(frozen=True)
class Temperature:
    """The divisor of all log-probabilities, and what is to be said of it where it could not be told."""

    value: float = 1.0
    note: str | None = None


def fit_temperature(label_N: Indices, prob_NK: Floats) -> Temperature:
    """The temperature with the lowest log loss on these (val) images, in [0.05, 100].

    All images count alike, as in the log loss reported on test. It stays 1, with a note, where the images
    cannot tell it: none, or one class only. Where not one of N is a mistake, surer would always seem better;
    then it is fitted as if a mistake were expected once in N + 2 (Laplace's rule of succession, which Platt's
    scaling uses likewise), any wrong class as likely as another.
    """
    if len(label_N) == 0:
        return Temperature(note="no val image to fit it on; left at 1")
    if len(np.unique(label_N)) < 2:
        return Temperature(note="val has images of one class only; left at 1")
    n_images, n_classes = prob_NK.shape
    faultless = bool((prob_NK.argmax(axis=1) == label_N).all())
    doubt = 1 / (n_images + 2) if faultless else 0.0
    true_NK = np.eye(n_classes)[label_N]
    wanted_NK = (1 - doubt) * true_NK + doubt / (n_classes - 1) * (1 - true_NK)

    def loss(log_temperature: float) -> float:
        prob_NK_now = tempered(prob_NK, math.exp(log_temperature))
        return float(-(wanted_NK * np.log(np.maximum(prob_NK_now, TINY))).sum() / n_images)

    ends = (math.log(COOLEST), math.log(HOTTEST))
    found = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    value = round(math.exp(found.x), _DIGITS)
    if faultless:
        return Temperature(value, f"no mistake on val; fitted as if one in {n_images + 2:,} were expected")
    if value >= 0.99 * HOTTEST:
        return Temperature(value, "at its upper bound: on val the probabilities tell next to nothing")
    return Temperature(value)
