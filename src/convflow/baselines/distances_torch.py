"""Distances by torch; see `convflow.baselines.distances`. In float64, as on the processor."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from convflow.baselines.distances import decimals_for
from convflow.baselines.rows import Floats, Indices

_ENTRIES = 2**26  # of a block of distances: 512 MiB


def has_gpu() -> bool:
    """Whether torch can compute on a GPU here."""
    return torch.cuda.is_available()


class OnTorch:
    """Distances on a device of torch's."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def kernels(self, x_ND: Floats, y_MD: Floats, gammas: Sequence[float]) -> Iterator[Floats]:
        """See `Distances`."""
        square_NM = _squared(self._there(x_ND), self._there(y_MD))
        for gamma in gammas:
            yield torch.exp(-gamma * square_NM).cpu().numpy()

    def nearest(self, x_ND: Floats, y_MD: Floats, k: int) -> tuple[Indices, Floats]:
        """See `Distances`."""
        x, y, decimals = self._there(x_ND), self._there(y_MD), decimals_for(y_MD)
        blocks = torch.split(x, max(1, _ENTRIES // len(y_MD)))
        parts = [_first_smallest(torch.round(_squared(block, y), decimals=decimals), k) for block in blocks]
        if not parts:
            return torch.empty((0, k), dtype=torch.int64).numpy(), torch.empty((0, k)).double().numpy()
        column_Nk, square_Nk = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return column_Nk, square_Nk

    def _there(self, rows: Floats) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.float64).to(self.device)


def _squared(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    square_NM = (x_ND**2).sum(dim=1)[:, None] + (y_MD**2).sum(dim=1) - 2 * (x_ND @ y_MD.T)
    return square_NM.clamp_(min=0)


def _first_smallest(square_BM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `distances.first_smallest`: torch's topk takes any of equal ones, so they are chosen here."""
    limit_B1 = square_BM.kthvalue(k, dim=1, keepdim=True).values
    below_BM, equal_BM = square_BM < limit_B1, square_BM == limit_B1
    room_B1 = k - below_BM.sum(dim=1, keepdim=True)
    kept_BM = below_BM | (equal_BM & (equal_BM.cumsum(dim=1) <= room_B1))
    column_Bk = kept_BM.nonzero()[:, 1].reshape(-1, k)
    near_Bk, order_Bk = square_BM.gather(1, column_Bk).sort(dim=1, stable=True)
    return column_Bk.gather(1, order_Bk), near_Bk
