"""Settings chosen by cross-validation inside train: all candidates on the same folds.

Shape letters: N rows, F features, K classes, P classes present.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from convflow.baselines.calibrating import fit_calibration, probabilities
from convflow.baselines.distances import Distances, pick_distances
from convflow.baselines.figures import figure
from convflow.baselines.folds import Fold, make_folds
from convflow.baselines.reducing import COMPONENTS, WEIGHINGS, fit_reducer, reduce
from convflow.baselines.rows import Advance, Criterion, Floats, Found, Indices, Known, Rows, Search, drawn
from convflow.data.workers import cpu_count
from convflow.errors import DataError

_MOST_THREADS = 4  # each holds a fold's kernels
_OUT_OF_REACH = 30.0  # below a row's lowest score: of a class that the fold's training part lacks

Candidates = Sequence[dict[str, Any]]


class Method(Protocol):
    """A sort of classifier on standardised rows; its parts are plain arrays or scikit-learn's."""

    most_search: int | None
    most_fit: int | None

    def candidates(self, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """The settings to try; of equally good ones the first is taken."""

    def work(self, folds: Sequence[Fold], n_directions: int, candidates: Candidates) -> float:
        """Multiply-adds of the distances of a search over these folds."""

    def ask(
        self, known: Known, z_ND: Floats, candidates: Candidates, distances: Distances
    ) -> Iterator[Floats]:
        """Learn from `known` with each candidate's settings, and score the rows `z_ND`: (N, P) each."""

    def fit(self, known: Known, chosen: dict[str, Any]) -> dict[str, Any]:
        """Learn from `known`: what is kept."""

    def scores(self, parts: dict[str, Any], z_ND: Floats) -> Floats:
        """A score of each class, (N, P)."""

    def n_numbers(self, parts: dict[str, Any]) -> int:
        """How many numbers the classifier keeps."""

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer of the classifier."""

    def check(self, parts: dict[str, Any], n_directions: int) -> None:
        """Look that parts read from a file fit together; ValueError where they do not."""


def find(method: Method, train: Rows, search: Search, advance: Advance) -> Found:
    """Choose the settings inside train, then learn from all of it.

    The same on any number of threads: each works on folds of its own, in BLAS alone.

    Raises:
        DataError: train has images of one class only.
        ParamsError: a GPU is wanted and not there.
    """
    if len(np.unique(train.label_N)) < 2:
        raise DataError(
            "train: images of one class only, of which nothing but majority learns; add images of another"
        )
    n_images, own = len(train.label_N), method.candidates(search.grid)
    candidates = [one | {"weighing": weighing} for weighing in WEIGHINGS for one in own]
    with _alone(), _quiet():
        figures, notes = _figures(method, train, candidates, search, advance)
        best = _best(figures, search.criterion)
        fit = drawn(train.label_N, method.most_fit or n_images, search.seed)
        if len(fit) < n_images:
            notes = (*notes, f"learned from {len(fit):,} of {n_images:,} images of train")
        reducer = fit_reducer(train, fit, candidates[best]["weighing"], search.seed)
        known, present_P = _known(train, fit, reduce(reducer, train.feature_NF, fit))
        parts = {"reducer": reducer, "class_P": present_P} | method.fit(known, candidates[best])
    told = [
        one | {search.criterion: None if np.isnan(figure) else round(float(figure), 6)}
        for one, figure in zip(candidates, figures, strict=True)
    ]
    return Found(parts, candidates[best], told, notes)


def _known(rows: Rows, index_M: Indices, z_MD: Floats) -> tuple[Known, Indices]:
    present_P, class_M = np.unique(rows.label_N[index_M], return_inverse=True)
    return Known(z_MD, class_M.astype(np.int64), rows.weight_N[index_M]), present_P


def _best(figures: Floats, criterion: Criterion) -> int:
    if np.isnan(figures).all():
        return 0
    return int(np.nanargmin(figures) if criterion == "log_loss" else np.nanargmax(figures))


def _figures(
    method: Method, train: Rows, candidates: Candidates, search: Search, advance: Advance
) -> tuple[Floats, tuple[str, ...]]:
    """The figure of each candidate over the images asked about, NaN where there is none; and notes."""
    n_images = len(train.label_N)
    some = drawn(train.label_N, method.most_search or n_images, search.seed)
    group_M = None if train.group_N is None else train.group_N[some]
    folds, notes = make_folds(train.label_N[some], group_M, search.folds, search.seed)
    folds = [(some[fit], some[held]) for fit, held in folds]
    if len(some) < n_images:
        notes = (*notes, f"settings chosen on {len(some):,} of {n_images:,} images of train")
    if not folds:
        return np.full(len(candidates), np.nan), notes
    work = len(WEIGHINGS) * method.work(folds, min(COMPONENTS, train.feature_NF.shape[1]), candidates)
    distances = pick_distances(search.device, work)

    n_fits = len(folds) * len(candidates)

    def ask(fold: Fold) -> list[Floats]:
        scores = []
        for score_NK in _ask(method, train, fold, candidates, distances, search.seed):
            scores.append(score_NK)
            advance(n_fits)
        return scores

    with ThreadPoolExecutor(min(cpu_count(), len(folds), _MOST_THREADS)) as pool:
        answers = list(pool.map(ask, folds))
    asked_N = np.concatenate([held for _, held in folds])
    label_N = train.label_N[asked_N]
    judged_N = np.concatenate([np.isin(train.label_N[held], train.label_N[fit]) for fit, held in folds])
    scores = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    found = [_figure(score_NK[judged_N], label_N[judged_N], search.criterion) for score_NK in scores]
    return np.array(found), notes


def _ask(
    method: Method, rows: Rows, fold: Fold, candidates: Candidates, distances: Distances, seed: int
) -> Iterator[Floats]:
    """Scores (N, K) of each candidate for the images that the fold holds back."""
    fit, held = fold
    for weighing in WEIGHINGS:
        reducer = fit_reducer(rows, fit, weighing, seed)
        known, present_P = _known(rows, fit, reduce(reducer, rows.feature_NF, fit))
        z_ND = reduce(reducer, rows.feature_NF, held)
        some = [one for one in candidates if one["weighing"] == weighing]
        answers = (
            method.ask(known, z_ND, some, distances) if len(present_P) > 1 else _certain(len(held), some)
        )
        for score_NP in answers:
            yield _for_all(score_NP, present_P, rows.n_classes)


def _certain(n_images: int, candidates: Candidates) -> Iterator[Floats]:
    """Where a fold knows one class only."""
    return (np.zeros((n_images, 1)) for _ in candidates)


def _for_all(score_NP: Floats, present_P: Indices, n_classes: int) -> Floats:
    """Scores (N, K) of all classes; those that the fold does not know are out of reach."""
    score_NK = np.repeat(score_NP.min(axis=1, keepdims=True) - _OUT_OF_REACH, n_classes, axis=1)
    score_NK[:, present_P] = score_NP
    return score_NK


def _figure(score_NK: Floats, label_N: Indices, criterion: Criterion) -> float:
    """The criterion of these scores, calibrated on themselves as val will calibrate those of the fit."""
    if not len(label_N):
        return float("nan")
    prob_NK = probabilities(score_NK, fit_calibration(score_NK, label_N))
    return figure(criterion, label_N, prob_NK)


@contextmanager
def _alone() -> Iterator[None]:
    """BLAS in one thread: sums come out the same on any number of processors."""
    with threadpool_limits(1):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning of what is meant: entered once, as the filters are shared by all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that stops early is judged as it is
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)  # few each
        yield
