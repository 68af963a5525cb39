"""Which images belong together, by name and as a number for each.

Shape letter: N images.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convflow.tables import read_table


def group_names(group_N: Iterable[str | None], sha256_N: Iterable[str]) -> list[str]:
    """The group of each image; one without is a group of its own, together with its copies."""
    return [group or sha256 for group, sha256 in zip(group_N, sha256_N, strict=True)]


def numbered(names: list[str]) -> NDArray[np.int64]:
    """A number from 0 for each name, int64 (N,), in the order of the names as sorted."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def group_numbers(packed: Path) -> NDArray[np.int64]:
    """The group of each image in a packed folder, as a number from 0.

    Raises:
        DataError: its rows.parquet is missing or is not a whole table.
    """
    images = read_table(packed / "rows.parquet", ["group", "sha256"]).to_pydict()
    return numbered(group_names(images["group"], images["sha256"]))
