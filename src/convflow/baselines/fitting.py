"""A baseline fitted on train, its probabilities calibrated on val; and how it answers.

Shape letters: N images, F features, K classes, P classes present in train.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.baselines.calibrating import Calibration, fit_calibration, neutral, probabilities
from convflow.baselines.kinds import Kind, load_kind
from convflow.baselines.rows import Advance, Floats, Rows, Search

UNSEEN = 1e-6  # probability of a class without an image in train
_BLOCK = 1024


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Args:
        kind: how `parts` answer.
        parts: what was fitted.
        calibration: of the P classes present in train.
        n_classes: K.
    """

    kind: Kind
    parts: dict[str, Any]
    calibration: Calibration
    n_classes: int

    def predict_proba(self, feature_NF: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities float32 (N, K) from features (N, F), rows sum to 1; each row by itself."""
        present_P = self.kind.classes(self.parts)
        prob_NK = np.full((len(feature_NF), self.n_classes), UNSEEN, np.float32)
        left = 1 - UNSEEN * (self.n_classes - len(present_P))
        for start in range(0, len(feature_NF), _BLOCK):
            rows = slice(start, start + _BLOCK)
            score_NP = self.kind.scores(self.parts, feature_NF[rows])
            prob_NK[rows, present_P] = left * probabilities(score_NP, self.calibration)
        return prob_NK


@dataclass(frozen=True)
class Fit:
    """A baseline, and how its settings were chosen: see `Found`."""

    baseline: Baseline
    chosen: dict[str, Any]
    figures: list[dict[str, Any]]
    notes: tuple[str, ...]


def fit_baseline(
    name: str, train: Rows, val: Rows, search: Search, advance: Advance = lambda n_fits: None
) -> Fit:
    """Choose settings inside train, learn from all of it, calibrate on val.

    Args:
        name: of the kind: majority, knn, svm or logistic.
        train: what is learned from.
        val: may be empty; then scores become probabilities as they are, and a note says so.
        search: how settings are chosen.
        advance: told after each fit of the search how many there are in all.

    Raises:
        DataError: train has images of one class only.
        ParamsError: no such kind, or a GPU is wanted and not there.
    """
    kind = load_kind(name)
    found = kind.find(train, search, advance)
    present_P = kind.classes(found.parts)
    calibration = neutral(len(present_P))
    if kind.needs_features:
        score_NP, class_N = _scored(kind, found.parts, val)
        calibration = fit_calibration(score_NP, class_N)
    notes = (*found.notes, *([calibration.note] if calibration.note else []))
    baseline = Baseline(kind, found.parts, calibration, train.n_classes)
    return Fit(baseline, found.chosen, found.figures, notes)


def _scored(kind: Kind, parts: dict[str, Any], val: Rows) -> tuple[Floats, NDArray[np.int64]]:
    """Scores of the images of val whose class is known, and the places of these classes among the known."""
    present_P = kind.classes(parts)
    seen = np.isin(val.label_N, present_P)
    feature_MF, label_M = val.feature_NF[seen], val.label_N[seen]
    score_MP = np.concatenate(
        [np.empty((0, len(present_P)))]
        + [kind.scores(parts, feature_MF[at : at + _BLOCK]) for at in range(0, len(feature_MF), _BLOCK)]
    )
    return score_MP, np.searchsorted(present_P, label_M)
