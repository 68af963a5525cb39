"""A packed folder from arrays, as the stage `pack` writes it; without torch."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convflow.data.packed import Contract, write_contract
from convflow.tables import write_table


def write_packed(
    folder: Path,
    image_NSSC: NDArray,
    label_N: NDArray,
    classes: list[str],
    rows: pa.Table,
    *,
    weight_N: NDArray | None = None,
    about: dict | None = None,
) -> Path:
    """Write pixels, labels, weights (1 where none are given), rows and contract."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pixels.npy", image_NSSC.astype(np.uint8))
    np.save(folder / "labels.npy", label_N.astype(np.int64))
    weight_N = np.ones(len(label_N)) if weight_N is None else weight_N
    np.save(folder / "weights.npy", weight_N.astype(np.float32))
    write_table(folder / "rows.parquet", rows, about=about)
    _, side, _, channels = image_NSSC.shape
    write_contract(folder / "contract.json", Contract(classes, side, channels, "stretch"))
    return folder
