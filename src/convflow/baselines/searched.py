"""Kinds whose settings are searched for: features to few numbers, then a classifier, saved with skops."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from convflow.baselines.reducing import reduce
from convflow.baselines.rows import Advance, Floats, Found, Indices, Rows, Search, expect_shapes
from convflow.baselines.searching import Method, find
from convflow.baselines.skops_file import read_skops, write_skops
from convflow.errors import ModelError


class Searched:
    """A `Kind` made of a `Method`. Shape letters: N images, F features, D directions, P classes in train."""

    needs_features = True
    file_name = "model.skops"

    def __init__(self, method: Method) -> None:
        self._method = method

    def find(self, train: Rows, search: Search, advance: Advance) -> Found:
        """See `convflow.baselines.searching.find`."""
        return find(self._method, train, search, advance)

    def classes(self, parts: dict[str, Any]) -> Indices:
        """The classes scored, ascending, (P,)."""
        found: Indices = parts["class_P"]
        return found

    def scores(self, parts: dict[str, Any], feature_NF: NDArray[np.floating]) -> Floats:
        """A score of each class, (N, P)."""
        return self._method.scores(parts, reduce(parts["reducer"], feature_NF))

    def n_parameters(self, parts: dict[str, Any]) -> int:
        """Numbers that an answer is computed from: means, scales, directions and the classifier's."""
        pca = parts["reducer"]["reduce"]
        return int(3 * pca.mean_.size + np.size(pca.components_)) + self._method.n_numbers(parts)

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer, from its features on."""
        pca = parts["reducer"]["reduce"]
        return int(pca.mean_.size + np.size(pca.components_)) + self._method.multiply_adds(parts)

    def save(self, path: Path, parts: dict[str, Any]) -> None:
        """Write the parts with skops."""
        write_skops(path, parts)

    def load(self, path: Path, n_features: int, n_classes: int) -> dict[str, Any]:
        """Read them, and look that they are whole before any of them is asked.

        Raises:
            ModelError: something else is in the file, or it is of another version of scikit-learn.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", InconsistentVersionWarning)
                parts: dict[str, Any] = read_skops(path)
            _check(parts, n_features, n_classes)
            self._method.check(parts, parts["reducer"]["reduce"].components_.shape[0])
        except Exception as error:  # noqa: BLE001  a file made to be wrong may fail anywhere
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"{path}: no baseline of this convflow ({reason}); run `dvc repro`") from None
        return parts


def _check(parts: dict[str, Any], n_features: int, n_classes: int) -> None:
    """Look at shapes, types and values.

    Raises:
        ValueError: one of them is not what an answer can be computed from.
    """
    reducer, class_P = parts["reducer"], parts["class_P"]
    kinds = [StandardScaler, PCA]
    if type(reducer) is not Pipeline or [type(step) for _, step in reducer.steps] != kinds:
        raise ValueError("its features are not reduced as here")
    scaler, pca = (step for _, step in reducer.steps)
    n_directions = len(pca.components_)
    expect_shapes(
        {
            "mean_": (scaler.mean_, (n_features,)),
            "scale_": (scaler.scale_, (n_features,)),
            "pca mean_": (pca.mean_, (n_features,)),
            "components_": (pca.components_, (n_directions, n_features)),
            "class_P": (class_P, (len(class_P),)),
        }
    )
    if not (scaler.scale_ > 0).all() or pca.whiten or not (scaler.with_mean and scaler.with_std):
        raise ValueError("its features are not scaled as here")
    if not 0 < len(class_P) <= n_classes or (np.diff(class_P) <= 0).any():
        raise ValueError(f"its classes are {class_P!s:.60}")
    if class_P[0] < 0 or class_P[-1] >= n_classes:
        raise ValueError(f"its classes are {class_P!s:.60}, the card has {n_classes}")
