"""Logistic regression, multinomial, with a quadratic penalty.

Shape letters: N rows that ask, M rows known, D directions, P classes present in train.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from convflow.baselines.distances import Distances
from convflow.baselines.folds import Fold
from convflow.baselines.rows import Floats, Known, expect_shapes, of_two
from convflow.baselines.searched import Searched

_STEPS = 500  # without convergence after so many it is an early stop, no worse a baseline


class Logistic:
    """See the module."""

    most_search: int | None = 10_000  # of a search; the fit that follows takes all rows
    most_fit: int | None = None

    def candidates(self, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """From the strongest penalty to the weakest."""
        return [{"c": c} for c in sorted(grid["c"])]

    def work(self, folds: Sequence[Fold], n_directions: int, candidates: Sequence[dict[str, Any]]) -> float:
        """No distances are computed."""
        return 0.0

    def ask(
        self, known: Known, z_ND: Floats, candidates: Sequence[dict[str, Any]], distances: Distances
    ) -> Iterator[Floats]:
        """Scores (N, P) of each candidate; each fit starts where the one before ended."""
        model = LogisticRegression(max_iter=_STEPS, warm_start=True)
        for one in candidates:
            model.set_params(C=one["c"]).fit(known.z_MD, known.class_M, known.weight_M)
            yield self.scores({"classifier": model}, z_ND)

    def fit(self, known: Known, chosen: dict[str, Any]) -> dict[str, Any]:
        """The classifier."""
        model = LogisticRegression(C=chosen["c"], max_iter=_STEPS)
        return {"classifier": model.fit(known.z_MD, known.class_M, known.weight_M)}

    def scores(self, parts: dict[str, Any], z_ND: Floats) -> Floats:
        """Logits (N, P)."""
        return of_two(parts["classifier"].decision_function(z_ND))

    def n_numbers(self, parts: dict[str, Any]) -> int:
        """How many numbers were fitted."""
        return int(np.size(parts["classifier"].coef_) + np.size(parts["classifier"].intercept_))

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer."""
        return int(np.size(parts["classifier"].coef_))

    def check(self, parts: dict[str, Any], n_directions: int) -> None:
        """See `Method`."""
        model, n_classes = parts["classifier"], len(parts["class_P"])
        if type(model) is not LogisticRegression:
            raise ValueError("it is no logistic regression")
        n_rows = 1 if n_classes == 2 else n_classes
        expect_shapes(
            {
                "coef_": (model.coef_, (n_rows, n_directions)),
                "intercept_": (model.intercept_, (n_rows,)),
                "classes_": (model.classes_, (n_classes,)),
            }
        )


KIND = Searched(Logistic())
