"""Support vector machine with a Gaussian kernel (Cortes & Vapnik, 1995), one against one.

Shape letters: N rows that ask, M rows known, D directions, P classes present in train.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.svm import SVC

from convflow.baselines.distances import Distances
from convflow.baselines.folds import Fold
from convflow.baselines.rows import Floats, Known, expect_shapes
from convflow.baselines.searched import Searched

_CACHE_MIB = 500
_ENTRIES = 2**22  # of a block of duels


class Svm:
    """See the module."""

    most_search: int | None = 4_000  # of a search: a kernel of 128 MiB
    most_fit: int | None = 20_000  # libsvm's time grows with the square

    def candidates(self, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """Every width with every cost; the width in units of 1 / (the rows' variance in all)."""
        return [{"c": c, "gamma": gamma} for gamma in grid["gamma"] for c in grid["c"]]

    def work(self, folds: Sequence[Fold], n_directions: int, candidates: Sequence[dict[str, Any]]) -> float:
        """Multiply-adds of a search's kernels; with most_search rows too few for a GPU to pay."""
        n_entries = sum((len(held) + len(fit)) * len(fit) for fit, held in folds)
        return float(n_entries) * (n_directions + len({one["gamma"] for one in candidates}))

    def ask(
        self, known: Known, z_ND: Floats, candidates: Sequence[dict[str, Any]], distances: Distances
    ) -> Iterator[Floats]:
        """Scores (N, P) of each candidate; distances are computed once, kernels once for each width."""
        widths = list(dict.fromkeys(one["gamma"] for one in candidates))
        gammas = [width * _unit(known.z_MD) for width in widths]
        own = distances.kernels(known.z_MD, known.z_MD, gammas)
        asked = distances.kernels(z_ND, known.z_MD, gammas)
        for width, kernel_MM, kernel_NM in zip(widths, own, asked, strict=True):
            for one in candidates:
                if one["gamma"] == width:
                    model = _machine(C=one["c"], kernel="precomputed")
                    model.fit(kernel_MM, known.class_M, known.weight_M)
                    yield narrowest(model.decision_function(kernel_NM), len(model.classes_))

    def fit(self, known: Known, chosen: dict[str, Any]) -> dict[str, Any]:
        """The classifier, with its support vectors."""
        gamma = chosen["gamma"] * _unit(known.z_MD)
        model = _machine(C=chosen["c"], gamma=gamma)
        return {"classifier": model.fit(known.z_MD, known.class_M, known.weight_M)}

    def scores(self, parts: dict[str, Any], z_ND: Floats) -> Floats:
        """By how much each class wins the narrowest of its duels with the others, (N, P)."""
        model = parts["classifier"]
        step = max(1, _ENTRIES // len(model.classes_) ** 2)
        blocks = [z_ND[start : start + step] for start in range(0, max(1, len(z_ND)), step)]
        return np.concatenate([narrowest(_duels(model, block), len(model.classes_)) for block in blocks])

    def n_numbers(self, parts: dict[str, Any]) -> int:
        """How many numbers were kept."""
        model = parts["classifier"]
        return sum(
            int(np.size(kept)) for kept in (model.support_vectors_, model.dual_coef_, model.intercept_)
        )

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer."""
        model = parts["classifier"]
        return int(np.size(model.support_vectors_) + np.size(model.dual_coef_))

    def check(self, parts: dict[str, Any], n_directions: int) -> None:
        """See `Method`; libsvm itself looks at nothing and would read beyond its arrays."""
        model, n_classes = parts["classifier"], len(parts["class_P"])
        if type(model) is not SVC or model.kernel != "rbf" or model._sparse:
            raise ValueError("it is no support vector machine with a Gaussian kernel")
        n_vectors, n_pairs = len(model.support_vectors_), n_classes * (n_classes - 1) // 2
        expect_shapes(
            {
                "support_vectors_": (model.support_vectors_, (n_vectors, n_directions)),
                "support_": (model.support_, (n_vectors,)),
                "_n_support": (model._n_support, (n_classes,)),
                "_dual_coef_": (model._dual_coef_, (n_classes - 1, n_vectors)),
                "_intercept_": (model._intercept_, (n_pairs,)),
                "classes_": (model.classes_, (n_classes,)),
                "_gamma": (np.asarray(model._gamma), ()),
            }
        )
        if (model._n_support < 0).any() or model._n_support.sum() != n_vectors:
            raise ValueError("its support vectors are not as many as it says")
        if not (np.size(model._probA) == np.size(model._probB) == 0):
            raise ValueError("it has probabilities of its own")


def narrowest(duel_NQ: Floats, n_classes: int) -> Floats:
    """The least decision value that each class reaches against another, (N, P).

    As scores for probabilities these are far better than the number of duels won, which is scikit-learn's
    choice, and where a class wins all its duels it is the likeliest here, too.

    Args:
        duel_NQ: of every pair of classes (0, 1), (0, 2) .. the decision value for the first; of two
            classes only, (N,) for the second.
        n_classes: P.
    """
    if n_classes == 2:
        return np.stack([-duel_NQ, duel_NQ], axis=1)
    score_NP = np.full((len(duel_NQ), n_classes), np.inf)
    start = 0
    for first in range(n_classes - 1):
        others_NR = duel_NQ[:, start : start + n_classes - 1 - first]
        score_NP[:, first] = np.minimum(score_NP[:, first], others_NR.min(axis=1))
        score_NP[:, first + 1 :] = np.minimum(score_NP[:, first + 1 :], -others_NR)
        start += n_classes - 1 - first
    return score_NP


def _machine(**settings: Any) -> SVC:
    return SVC(cache_size=_CACHE_MIB, decision_function_shape="ovo", **settings)


def _duels(model: SVC, z_ND: Floats) -> Floats:
    n_classes = len(model.classes_)
    if not len(z_ND):  # scikit-learn takes no empty input
        return np.empty(0 if n_classes == 2 else (0, n_classes * (n_classes - 1) // 2))
    found: Floats = model.decision_function(z_ND)
    return found


def _unit(z_MD: Floats) -> float:
    """What scikit-learn calls gamma="scale"."""
    return 1 / max(float(z_MD.var() * z_MD.shape[1]), 1e-12)


KIND = Searched(Svm())
