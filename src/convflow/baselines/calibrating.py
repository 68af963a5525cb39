"""From scores to probabilities: one scale for all classes and an offset for each, fitted on val.

Bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar, ICML 2020); for two classes it is
Platt's (1999) sigmoid of the difference of scores.

Shape letters: N images, K classes, P classes present in val.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from convflow.baselines.rows import Floats, Indices

SPREAD = 2.0  # of the Gaussian prior of each offset and of the scale's logarithm: a mild one
_DIGITS = 6  # finer than any val set can tell, and the same on every processor


@dataclass(frozen=True)
class Calibration:
    """Probabilities are softmax(scale * score + bias_K)."""

    scale: float
    bias_K: tuple[float, ...]
    note: str | None = None


def neutral(n_classes: int, note: str | None = None) -> Calibration:
    """Scores as they are."""
    return Calibration(1.0, (0.0,) * n_classes, note)


def probabilities(score_NK: Floats, calibration: Calibration) -> Floats:
    """Probabilities (N, K), rows sum to 1."""
    found: Floats = softmax(calibration.scale * score_NK + np.array(calibration.bias_K), axis=1)
    return found


def fit_calibration(
    score_NK: Floats, label_N: Indices, *, spread: float = SPREAD, doubt: float | None = None
) -> Calibration:
    """The scale and the offsets that make these labels likeliest.

    All images count alike, as in the log loss reported on test. A class without an image here keeps offset 0.

    Args:
        score_NK: finite.
        label_N: class indices in [0, K).
        spread: of the prior; infinity is maximum likelihood.
        doubt: the share of each label that goes to the other classes. None: 1 / (N + 2), so that N images
            without a mistake make nothing surer than N images can, as in Platt's own targets.
    """
    n_classes = score_NK.shape[1]
    present_P, class_N = np.unique(label_N, return_inverse=True)
    if len(present_P) < 2:
        what = "no image" if not len(present_P) else "images of one class only"
        return neutral(n_classes, f"val has {what}; probabilities are not calibrated")
    score_NP = score_NK[:, present_P]
    doubt = 1 / (len(label_N) + 2) if doubt is None else doubt
    others = doubt / (len(present_P) - 1)
    truth_NP = others + (1 - doubt - others) * np.eye(len(present_P))[class_N]

    def loss(theta: Floats) -> tuple[float, Floats]:
        scale, bias_P = np.exp(theta[0]), theta[1:]
        log_NP = log_softmax(scale * score_NP + bias_P, axis=1)
        off_NP = np.exp(log_NP) - truth_NP
        slope = np.append(scale * (off_NP * score_NP).sum(), off_NP.sum(axis=0))
        prior = theta / spread**2
        return float((prior * theta).sum() / 2 - (truth_NP * log_NP).sum()), slope + prior

    start, until = np.zeros(1 + len(present_P)), {"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-8}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=until)
    bias_K = np.zeros(n_classes)
    bias_K[present_P] = found.x[1:] - found.x[1:].mean()
    return Calibration(round(float(np.exp(found.x[0])), _DIGITS), tuple(np.round(bias_K, _DIGITS).tolist()))
