"""Distances between rows, on the processor or, where there is one and it pays, on a GPU.

Shape letters: N rows that ask, M rows that answer, D directions, k neighbours.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from convflow.baselines.rows import Floats, Indices
from convflow.errors import ParamsError

# An estimate, not measured: torch and a GPU take about 5 s to start, in which two cores do this many
# multiply-adds of distances. On less work than this a GPU would lose.
WORTH_A_GPU = 2e11
_ENTRIES = 2**23  # of a block of distances: 64 MiB
_ON_TORCH = "convflow.baselines.distances_torch"
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # CUDA, CUDA in Windows' Linux, ROCm


class Distances(Protocol):
    """Where distances are computed; every place gives the same numbers to about 1e-12."""

    def kernels(self, x_ND: Floats, y_MD: Floats, gammas: Sequence[float]) -> Iterator[Floats]:
        """For each gamma exp(-gamma * squared distance), float64 (N, M)."""

    def nearest(self, x_ND: Floats, y_MD: Floats, k: int) -> tuple[Indices, Floats]:
        """The k nearest of y to each of x, nearest first: int64 and squared distances, both (N, k).

        Of equally near ones the first; distances are compared to 12 digits of the largest, so that an
        answer does not depend on how many rows are asked about at once.
        """


class OnProcessor:
    """Distances by numpy."""

    def kernels(self, x_ND: Floats, y_MD: Floats, gammas: Sequence[float]) -> Iterator[Floats]:
        """See `Distances`."""
        square_NM = squared(x_ND, y_MD)
        for gamma in gammas:
            yield np.exp(-gamma * square_NM)

    def nearest(self, x_ND: Floats, y_MD: Floats, k: int) -> tuple[Indices, Floats]:
        """See `Distances`."""
        index_Nk = np.empty((len(x_ND), k), np.int64)
        square_Nk = np.empty((len(x_ND), k))
        step = max(1, _ENTRIES // len(y_MD))
        for start in range(0, len(x_ND), step):
            block = slice(start, start + step)
            square_BM = np.round(squared(x_ND[block], y_MD), decimals_for(y_MD))
            index_Nk[block] = first_smallest(square_BM, k)
            square_Nk[block] = np.take_along_axis(square_BM, index_Nk[block], axis=1)
        return index_Nk, square_Nk


def squared(x_ND: Floats, y_MD: Floats) -> Floats:
    """Squared Euclidean distances, float64 (N, M), at least 0."""
    square_NM = (x_ND**2).sum(axis=1)[:, None] + (y_MD**2).sum(axis=1) - 2 * (x_ND @ y_MD.T)
    found: Floats = np.maximum(square_NM, 0)
    return found


def decimals_for(y_MD: Floats) -> int:
    """Decimals to which squared distances are compared: 12 digits of the longest row's square."""
    longest = float((y_MD**2).sum(axis=1).max(initial=0))
    return 12 - int(np.ceil(np.log10(longest))) if longest > 0 else 12


def first_smallest(square_BM: Floats, k: int) -> Indices:
    """Columns of the k smallest of each row, smallest first, of equal ones the first: (B, k)."""
    n_columns = square_BM.shape[1]
    limit_B1 = np.partition(square_BM, k - 1, axis=1)[:, k - 1 : k]
    below_BM, equal_BM = square_BM < limit_B1, square_BM == limit_B1
    room_B1 = k - below_BM.sum(axis=1, keepdims=True)
    kept_BM = below_BM | (equal_BM & (equal_BM.cumsum(axis=1) <= room_B1))
    column_Bk = np.broadcast_to(np.arange(n_columns), square_BM.shape)[kept_BM].reshape(-1, k)
    order_Bk = np.argsort(np.take_along_axis(square_BM, column_Bk, axis=1), axis=1, kind="stable")
    found: Indices = np.take_along_axis(column_Bk, order_Bk, axis=1)
    return found


def pick_distances(wanted: str, work: float) -> Distances:
    """Where to compute: as `wanted`, or for "auto" on a GPU where there is one and `work` pays for its start.

    Args:
        wanted: auto, cpu or cuda.
        work: multiply-adds of all distances.

    Raises:
        ParamsError: cuda is wanted and not there.
    """
    if wanted == "cpu" or (wanted == "auto" and (work < WORTH_A_GPU or not _may_have_gpu())):
        return OnProcessor()
    on_torch = importlib.import_module(_ON_TORCH)
    if on_torch.has_gpu():
        found: Distances = on_torch.OnTorch("cuda")
        return found
    if wanted == "cuda":
        raise ParamsError("baseline.device: no 'cuda' here; set it to auto or cpu")
    return OnProcessor()


def _may_have_gpu() -> bool:
    """Whether a driver is loaded; torch, which would know, takes seconds to import."""
    return any(Path(driver).exists() for driver in _DRIVERS)
