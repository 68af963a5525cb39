"""What baselines are fitted on, and how their settings are searched for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Criterion = Literal["balanced_accuracy", "accuracy", "log_loss"]
Advance = Callable[[int], object]  # told after each fit of a search how many there are in all


@dataclass(frozen=True, eq=False)
class Rows:
    """Pictures as a baseline sees them. Shape letters: N pictures, F features, K classes.

    Args:
        feature_NF: float, finite.
        label_N: class indices in [0, K).
        weight_N: above 0; how much a picture counts in a fit. Figures count all pictures alike.
        n_classes: K.
        blocks: how many features each sort has, by name and in order; their sum is F.
        group_N: pictures of the same number stay together in cross-validation; None: each by itself.
    """

    feature_NF: NDArray[np.floating]
    label_N: Indices
    weight_N: Floats
    n_classes: int
    blocks: dict[str, int]
    group_N: Indices | None = None

    def take(self, index_M: Indices) -> "Rows":
        """Only the rows `index_M`."""
        group = None if self.group_N is None else self.group_N[index_M]
        chosen = self.feature_NF[index_M], self.label_N[index_M], self.weight_N[index_M]
        return Rows(*chosen, self.n_classes, self.blocks, group)


@dataclass(frozen=True)
class Search:
    """How settings are chosen by cross-validation.

    Args:
        grid: values to try by name, of one kind of baseline.
        folds: at most so many.
        seed: of the folds, and of rows drawn where there are too many.
        criterion: what the figures of the candidates are.
        device: where distances are computed: auto, cpu or cuda.
    """

    grid: dict[str, list[Any]]
    folds: int = 5
    seed: int = 0
    criterion: Criterion = "balanced_accuracy"
    device: str = "cpu"


@dataclass(frozen=True)
class Found:
    """A fitted classifier and how it was found.

    Args:
        parts: what `scores` of its kind takes, and what is saved.
        chosen: the settings.
        figures: each candidate with its figure; None where none could be computed.
        notes: what a reader of the figures should know.
    """

    parts: Any
    chosen: dict[str, Any]
    figures: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Known:
    """What a classifier learns from. Shape letters: M rows, D directions, P classes present.

    Args:
        z_MD: the rows.
        class_M: indices in [0, P), each of which occurs.
        weight_M: above 0.
    """

    z_MD: Floats
    class_M: Indices
    weight_M: Floats

    def shares(self) -> Floats:
        """Each class's share of the weight, (P,)."""
        total_P = np.bincount(self.class_M, self.weight_M)
        found: Floats = total_P / total_P.sum()
        return found


def of_two(score_N: Floats) -> Floats:
    """Scores (N, 2) of two classes from one number each, that speaks for the second; others as they are."""
    if score_N.ndim == 2:
        return score_N
    found: Floats = np.stack([-score_N / 2, score_N / 2], axis=1)
    return found


def drawn(label_N: Indices, most: int, seed: int) -> Indices:
    """At most `most` rows, of every class its share and at least one: sorted indices."""
    if len(label_N) <= most:
        return np.arange(len(label_N))
    mixed_N = np.random.default_rng(seed).permutation(len(label_N))
    rank_N = np.empty(len(label_N))
    for k in np.unique(label_N):
        of_class = mixed_N[label_N[mixed_N] == k]
        rank_N[of_class] = np.arange(len(of_class)) / len(of_class)
    return np.sort(np.argsort(rank_N, kind="stable")[:most])


def expect_shapes(arrays: dict[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Look that each is an array of numbers of this shape, without NaN or infinity.

    Raises:
        ValueError: one is not; the text names it.
    """
    for name, (array, shape) in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise ValueError(f"{name} is no array of numbers")
        if array.shape != shape:
            raise ValueError(f"{name} is {array.shape}, not {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
