"""Features to few numbers: standardised, each sort of feature weighed alike, then principal components."""

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from convflow.baselines.rows import Floats, Indices, Rows, drawn

COMPONENTS = 200
WEIGHINGS = ("by sort", "by feature", "texture")
_ROWS = 10_000  # directions are found on so many; more change them little and cost much
_BLOCK = 4096


def fit_reducer(rows: Rows, index_M: Indices, weighing: str, seed: int) -> Pipeline:
    """Find the directions in which the features vary most.

    Args:
        rows: of train.
        index_M: those of them that may be looked at.
        weighing: "by feature": each feature gets the same variance. "by sort": each sort of feature gets
            the same in all, so that 1,764 numbers on edges do not drown 32 on light (as in multiple factor
            analysis). "texture": so too, but what lies where (hog) gets a hundredth.
        seed: of the rows drawn, where there are more than are needed.
    """
    index_M = index_M[drawn(rows.label_N[index_M], _ROWS, seed)]
    feature_MF = rows.feature_NF[index_M].astype(np.float64)
    scaler = StandardScaler().fit(feature_MF)
    sizes = np.array(list(rows.blocks.values()))
    share = {"by sort": 1 / sizes, "by feature": np.ones(len(sizes)), "texture": 1 / sizes}[weighing]
    if weighing == "texture":
        share[[name == "hog" for name in rows.blocks]] /= 100
    scaler.scale_ = scaler.scale_ / np.sqrt(np.repeat(share, sizes))
    n_components = min(COMPONENTS, len(feature_MF), feature_MF.shape[1])
    solver = "randomized" if n_components == COMPONENTS else "full"
    pca = PCA(n_components, svd_solver=solver, random_state=0).fit(scaler.transform(feature_MF))
    return Pipeline([("scale", scaler), ("reduce", pca)])


def reduce(reducer: Pipeline, feature_NF: NDArray[np.floating], index_M: Indices | None = None) -> Floats:
    """The rows `index_M`, or all, along these directions: float64 (M, D), in blocks to save memory."""
    index_M = np.arange(len(feature_NF)) if index_M is None else index_M
    found_MD = np.empty((len(index_M), reducer["reduce"].n_components_))
    for start in range(0, len(index_M), _BLOCK):
        block = slice(start, start + _BLOCK)
        found_MD[block] = reducer.transform(feature_NF[index_M[block]].astype(np.float64))
    return found_MD
