"""k nearest neighbours (Cover & Hart, 1967): votes that count as their images' weights say.

Shape letters: N rows that ask, M rows that answer, D directions, P classes present in train, k neighbours.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from convflow.baselines.distances import Distances, OnProcessor
from convflow.baselines.folds import Fold
from convflow.baselines.rows import Floats, Indices, Known, expect_shapes
from convflow.baselines.searched import Searched

_NEAR = 1e-6  # of the mean squared distance, added to each: copies of an image do not outvote all else


class Neighbours:
    """See the module."""

    most_search: int | None = 20_000
    most_fit: int | None = None

    def candidates(self, grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """Every number of neighbours, with equal votes and with near ones counting more."""
        return [
            {"neighbours": k, "votes": votes}
            for k in grid["neighbours"]
            for votes in ("equal", "by distance")
        ]

    def work(self, folds: Sequence[Fold], n_directions: int, candidates: Sequence[dict[str, Any]]) -> float:
        """Multiply-adds of a search's distances."""
        return float(sum(len(held) * len(fit) for fit, held in folds)) * n_directions

    def ask(
        self, known: Known, z_ND: Floats, candidates: Sequence[dict[str, Any]], distances: Distances
    ) -> Iterator[Floats]:
        """Scores (N, P) of each candidate; the distances are computed once for all."""
        most = min(max(one["neighbours"] for one in candidates), len(known.z_MD))
        index_Nk, square_Nk = distances.nearest(z_ND, known.z_MD, most)
        for one in candidates:
            k = min(one["neighbours"], most)
            parts = self.fit(known, one)
            yield _scores(parts, index_Nk[:, :k], square_Nk[:, :k])

    def fit(self, known: Known, chosen: dict[str, Any]) -> dict[str, Any]:
        """All rows, their labels and weights, and how they vote."""
        spread = float(known.z_MD.var(axis=0).sum())
        return {
            "class_M": known.class_M,
            "by_distance": chosen["votes"] == "by distance",
            "k": min(chosen["neighbours"], len(known.z_MD)),
            "near": max(2 * _NEAR * spread, 1e-300),
            "share_P": known.shares(),
            "weight_M": known.weight_M,
            "z_MD": known.z_MD,
        }

    def scores(self, parts: dict[str, Any], z_ND: Floats) -> Floats:
        """Logarithms of the classes' shares of the votes, (N, P)."""
        return _scores(parts, *OnProcessor().nearest(z_ND, parts["z_MD"], parts["k"]))

    def n_numbers(self, parts: dict[str, Any]) -> int:
        """How many numbers were kept."""
        return int(parts["z_MD"].size + 2 * len(parts["z_MD"]))

    def multiply_adds(self, parts: dict[str, Any]) -> int:
        """Of one answer."""
        return int(parts["z_MD"].size)

    def check(self, parts: dict[str, Any], n_directions: int) -> None:
        """See `Method`."""
        n_rows, n_classes = len(parts["z_MD"]), len(parts["class_P"])
        expect_shapes(
            {
                "z_MD": (parts["z_MD"], (n_rows, n_directions)),
                "class_M": (parts["class_M"], (n_rows,)),
                "weight_M": (parts["weight_M"], (n_rows,)),
                "share_P": (parts["share_P"], (n_classes,)),
            }
        )
        if not 1 <= int(parts["k"]) <= n_rows:
            raise ValueError(f"{parts['k']} neighbours of {n_rows} rows")
        if not np.isin(parts["class_M"], np.arange(n_classes)).all():
            raise ValueError("a row is of a class that there is not")
        if not ((parts["weight_M"] > 0).all() and (parts["share_P"] > 0).all() and parts["near"] > 0):
            raise ValueError("a vote counts nothing")


def vote_shares(parts: dict[str, Any], index_Nk: Indices, square_Nk: Floats) -> Floats:
    """Each class's share of the neighbours' votes, (N, P); rows sum to 1."""
    n_classes = len(parts["share_P"])
    vote_Nk = parts["weight_M"][index_Nk]
    if parts["by_distance"]:
        vote_Nk = vote_Nk / np.sqrt(square_Nk + parts["near"])
    place_Nk = np.arange(len(index_Nk))[:, None] * n_classes + parts["class_M"][index_Nk]
    total = np.bincount(place_Nk.ravel(), vote_Nk.ravel(), minlength=len(index_Nk) * n_classes)
    total_NP = total.reshape(len(index_Nk), n_classes)
    found: Floats = total_NP / total_NP.sum(axis=1, keepdims=True)
    return found


def _scores(parts: dict[str, Any], index_Nk: Indices, square_Nk: Floats) -> Floats:
    """One more neighbour votes as all of train would: no class is ruled out, and ties are broken."""
    k = index_Nk.shape[1]
    share_NP = (k * vote_shares(parts, index_Nk, square_Nk) + parts["share_P"]) / (k + 1)
    found: Floats = np.log(share_NP)
    return found


KIND = Searched(Neighbours())
