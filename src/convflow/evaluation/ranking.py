"""Images ranked by one class's score: the area under the ROC curve and average precision of many draws.

Shape letters: N images, B draws, T ties (images of one score), P positive images, or the ties that hold one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
TINY = float(np.finfo(np.float64).eps)  # what a probability of 0 counts as, so that it has a logarithm


@dataclass(frozen=True, eq=False)
class Ranked:
    """Images by falling score of one class, cut into ties; a tie is one threshold.

    Args:
        order_N: int, all images up to the last tie that holds a positive one.
        positive_P: int, the positive images in that order.
        tie_P: int, where in `positive_P` each tie that holds one starts.
        start_P, end_P: int, the same ties as [start, end) in `order_N`.
    """

    order_N: Indices
    positive_P: Indices
    tie_P: Indices
    start_P: Indices
    end_P: Indices

    @classmethod
    def of(cls, inside_N: NDArray[np.bool_], score_N: Floats) -> "Ranked":
        """Rank images by `score_N`; `inside_N` marks the positive ones (at least one)."""
        order_N = np.argsort(-score_N, kind="stable")
        sorted_N = score_N[order_N]
        start_T = np.flatnonzero(np.r_[True, sorted_N[1:] != sorted_N[:-1]])
        end_T = np.r_[start_T[1:], len(order_N)]
        place_P = np.flatnonzero(inside_N[order_N])
        tie_of_P = np.searchsorted(start_T, place_P, side="right") - 1
        held, first_P = np.unique(tie_of_P, return_index=True)
        last = int(end_T[held[-1]])
        return cls(order_N[:last], order_N[place_P], first_P, start_T[held], end_T[held])

    def measure(self, count_BN: Floats, n_B: Floats) -> tuple[Floats, Floats]:
        """The area under the ROC curve and the average precision of each draw, (B,) in [0, 1].

        NaN where a draw has no image inside the class, or (area) none outside.

        Args:
            count_BN: how often each image stands in each draw.
            n_B: its sum over images.
        """
        above_BN = np.zeros((len(count_BN), len(self.order_N) + 1))
        np.cumsum(count_BN[:, self.order_N], axis=1, out=above_BN[:, 1:])
        start_BP, end_BP = above_BN[:, self.start_P], above_BN[:, self.end_P]
        gain_BP = np.add.reduceat(count_BN[:, self.positive_P], self.tie_P, axis=1)
        found_BP = np.cumsum(gain_BP, axis=1)
        inside_B = found_BP[:, -1]
        # the others above a tie and half of those in it: its two ends' mean, less the positive ones
        beaten_by_BP = (start_BP + end_BP) / 2 - (found_BP - gain_BP / 2)
        lost_B = np.einsum("bp,bp->b", gain_BP, beaten_by_BP)
        precise_B = np.einsum("bp,bp->b", gain_BP, found_BP / np.maximum(end_BP, 1))
        return 1 - ratio(lost_B, inside_B * (n_B - inside_B)), ratio(precise_B, inside_B)


def ratio(over: Floats, under: Floats) -> Floats:
    """`over / under`, NaN (and no warning) where `under` is not positive."""
    result: Floats = np.full(np.broadcast_shapes(over.shape, under.shape), np.nan)
    np.divide(over, under, out=result, where=under > 0)
    return result
