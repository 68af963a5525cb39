"""Which images belong together, as a number for each."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convflow.tables import read_table


def group_numbers(packed: Path) -> NDArray[np.int64]:
    """The group of each image in a packed folder, as a number from 0; one without is a group of its own."""
    images = read_table(packed / "rows.parquet", ["group", "sha256"]).to_pydict()
    names = [group or sha256 for group, sha256 in zip(images["group"], images["sha256"], strict=True)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
