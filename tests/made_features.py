"""Rows of features and packed folders in little, for the baselines; without torch."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convflow.baselines.rows import Rows
from made_folder import write_packed

BLOCKS = {"hog": 8, "histogram": 4}
SIDE = 16
GRIDS = {
    "majority": {},
    "knn": {"neighbours": [1, 3]},
    "svm": {"c": [1.0, 10.0], "gamma": [0.3]},
    "logistic": {"c": [10.0, 100.0]},
}


def made_rows(
    label_N: NDArray | list[int], n_classes: int, *, seed: int = 0, spread: float = 0.6, group_N=None
) -> Rows:
    """Each class around a place of its own; the places are the same for every seed."""
    label_N = np.asarray(label_N, dtype=np.int64)
    place_KF = np.random.default_rng(99).normal(size=(n_classes, sum(BLOCKS.values())))
    noise_NF = np.random.default_rng(seed).normal(size=(len(label_N), place_KF.shape[1]))
    feature_NF = (place_KF[label_N] + spread * noise_NF).astype(np.float32)
    return Rows(feature_NF, label_N, np.ones(len(label_N)), n_classes, BLOCKS, group_N)


def made_packed(
    folder: Path,
    label_N: list[int] | NDArray,
    n_classes: int,
    *,
    channels: int = 1,
    seed: int = 0,
    group: list[str | None] | None = None,
    weight_N: list[float] | None = None,
    method: str = "stratified",
) -> Path:
    """A packed folder as `pack` writes it: each class has a pattern of its own, under noise."""
    label_N = np.asarray(label_N, dtype=np.int64)
    shape = (SIDE, SIDE, channels)
    pattern_KSSC = np.random.default_rng(99).integers(0, 200, (n_classes, *shape))
    noise_NSSC = np.random.default_rng(seed).integers(0, 56, (len(label_N), *shape))
    weights = [1.0] * len(label_N) if weight_N is None else weight_N
    classes = [f"class {k:03}" for k in range(n_classes)]
    names = [f"{folder.name}/{n}.png" for n in range(len(label_N))]
    rows = {
        "path": pa.array(names, pa.string()),
        "sha256": pa.array(names, pa.string()),
        "label": pa.array([classes[label] for label in label_N], pa.string()),
        "group": pa.array(group or [None] * len(label_N), pa.string()),
        "weight": pa.array(weights, pa.float64()),
    }
    pixels, about = pattern_KSSC[label_N] + noise_NSSC, {"method": method, "seed": 4}
    weight_N = np.array(weights)
    return write_packed(folder, pixels, label_N, classes, pa.table(rows), weight_N=weight_N, about=about)
