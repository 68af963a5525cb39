"""The kinds of baseline, each in a module that is loaded when it is asked for: scikit-learn takes seconds."""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convflow.baselines.rows import Advance, Floats, Found, Indices, Rows, Search
from convflow.errors import ParamsError

_MODULES = {
    "majority": "convflow.baselines.majority",
    "knn": "convflow.baselines.neighbours",
    "svm": "convflow.baselines.svm",
    "logistic": "convflow.baselines.logistic",
}
KINDS = tuple(_MODULES)


class Kind(Protocol):
    """How one kind is fitted, asked, saved and loaded; `parts` is all that it keeps.

    Shape letters: N images, F features, P classes present in train.
    """

    needs_features: bool
    file_name: str

    def find(self, train: Rows, search: Search, advance: Advance) -> Found:
        """Choose the settings inside train and learn from it."""

    def classes(self, parts: dict[str, Any]) -> Indices:
        """The classes scored, ascending, (P,)."""

    def scores(self, parts: dict[str, Any], feature_NF: NDArray[np.floating]) -> Floats:
        """A score of each class, (N, P); the higher, the likelier."""

    def n_parameters(self, parts: dict[str, Any]) -> int:
        """How many numbers are kept."""

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer, from its features on."""

    def save(self, path: Path, parts: dict[str, Any]) -> None:
        """Write the parts, the same bytes for the same parts."""

    def load(self, path: Path, n_features: int, n_classes: int) -> dict[str, Any]:
        """Read them, or say in one ModelError what is wrong with them."""


def load_kind(name: str) -> Kind:
    """The kind of this name.

    Raises:
        ParamsError: there is none.
    """
    if name not in _MODULES:
        raise ParamsError(f"no baseline {name!r}; choose from {', '.join(KINDS)}")
    kind: Kind = importlib.import_module(_MODULES[name]).KIND
    return kind
