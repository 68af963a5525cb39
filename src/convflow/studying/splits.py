"""Splits of images into train, val and test, and the table they are kept in: a row per split and image.

Shape letters: N images, J splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convflow.data.layout import SIDES
from convflow.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """One split: `side_N` says train, val or test for each image."""

    repeat: int
    fold: int
    side_N: NDArray[np.str_]

    @property
    def name(self) -> str:
        """As its files are called: two digits of the repeat, then the fold."""
        return f"{self.repeat:02d}-{self.fold}"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many images are in train, val and test."""
        n_train, n_val, n_test = (len(self.rows(side)) for side in ("train", "val", "test"))
        return n_train, n_val, n_test

    def rows(self, *sides: str) -> Indices:
        """The images on `sides`, in order."""
        return np.flatnonzero(np.isin(self.side_N, sides))


def split_table(path: Sequence[str], sha256: Sequence[str], splits: Sequence[Split]) -> pa.Table:
    """Columns repeat, fold, sha256, path and side (train, val or test) of every image in every split."""
    n_images = len(path)
    columns = {
        "repeat": np.repeat([split.repeat for split in splits], n_images).astype(np.int16),
        "fold": np.repeat([split.fold for split in splits], n_images).astype(np.int16),
        "sha256": list(sha256) * len(splits),
        "path": list(path) * len(splits),
        "side": np.concatenate([split.side_N for split in splits]),
    }
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def splits_in(table: pa.Table) -> tuple[list[str], list[Split]]:
    """The digests of the images, in their order, and the splits of them that `table` holds.

    Raises:
        DataError: not a table as `split_table` makes it.
    """
    repeat, fold = (table[name].to_numpy().astype(np.int64) for name in ("repeat", "fold"))
    sha256, sides = (table[name].to_pylist() for name in ("sha256", "side"))
    n_images = int(((repeat == repeat[:1]) & (fold == fold[:1])).sum())
    images = sha256[:n_images]
    whole = n_images > 0 and sha256 == images * (len(sha256) // n_images)
    if not whole or not set(sides) <= set(SIDES):
        raise DataError("splits: not a table of whole splits; run `dvc repro` in the study's folder")
    side_JN = np.asarray(sides).reshape(-1, n_images)
    starts = zip(repeat[::n_images], fold[::n_images], side_JN, strict=True)
    return images, [Split(int(number), int(part), side_N) for number, part, side_N in starts]
