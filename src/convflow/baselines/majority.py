"""The commonest class: every image gets the classes' shares of train, whatever is on it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.baselines.rows import Advance, Floats, Found, Indices, Rows, Search
from convflow.errors import ConvflowError, ModelError
from convflow.files import read_json, write_json


class Majority:
    """Nothing is searched, no feature looked at. Shape letters: N images, P classes present in train."""

    needs_features = False
    file_name = "shares.json"

    def find(self, train: Rows, search: Search, advance: Advance) -> Found:
        """The classes' shares of the weight."""
        total_K = np.bincount(train.label_N, train.weight_N, minlength=train.n_classes)
        present_P = np.flatnonzero(total_K)
        share_P = total_K[present_P] / total_K.sum()
        return Found({"class_P": present_P, "share_P": share_P}, {}, [])

    def classes(self, parts: dict[str, Any]) -> Indices:
        """The classes scored, ascending."""
        found: Indices = parts["class_P"]
        return found

    def scores(self, parts: dict[str, Any], feature_NF: NDArray[np.floating]) -> Floats:
        """Logarithms of the shares, (N, P)."""
        return np.repeat(np.log(parts["share_P"])[None], len(feature_NF), axis=0)

    def n_parameters(self, parts: dict[str, Any]) -> int:
        """One number for each class."""
        return len(parts["share_P"])

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Nothing is computed."""
        return 0

    def save(self, path: Path, parts: dict[str, Any]) -> None:
        """Write the shares as JSON."""
        write_json(path, {name: parts[name].tolist() for name in ("class_P", "share_P")})

    def load(self, path: Path, n_features: int, n_classes: int) -> dict[str, Any]:
        """Read them.

        Raises:
            ModelError: something else is in the file.
        """
        try:
            found: Any = read_json(path)
            class_P = np.array(found["class_P"], dtype=np.int64)
            share_P = np.array(found["share_P"], dtype=np.float64)
        except (ConvflowError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: no shares of classes ({error}); run `dvc repro` to fit anew") from None
        if (
            class_P.ndim != 1
            or class_P.shape != share_P.shape
            or not np.isin(class_P, np.arange(n_classes)).all()
            or not ((share_P > 0) & (share_P <= 1)).all()
            or abs(share_P.sum() - 1) > 1e-6
        ):
            raise ModelError(f"{path}: no shares of {n_classes} classes; run `dvc repro` to fit anew")
        return {"class_P": class_P, "share_P": share_P}


KIND = Majority()
