"""Multinomial logistic regression, many at once: all folds and all strengths of a search share each product.

Böhning (Ann. Inst. Stat. Math. 1992) bounds the Hessian of every such problem by one fixed matrix; in the
directions in which the features are uncorrelated that bound is diagonal, so a step costs two matrix products
for all problems together, needs no line search and never leads uphill. Nesterov's momentum, set back for
each problem as it overshoots (O'Donoghue & Candès 2015), makes up for the caution.

Shape letters: N rows, F features, R directions of the features, K classes, P problems.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_ENTRIES = 2**25  # of the array of logits: bounds the memory whatever the search


@dataclass(frozen=True)
class Directions:
    """Features turned into the directions in which they are uncorrelated.

    Attributes:
        rows_NR: the centred features along these directions.
        axes_FR: the directions, orthonormal columns.
        spread_R: the sum of squares along each.
    """

    rows_NR: Tensor
    axes_FR: Tensor
    spread_R: Tensor


def turned(feature_NF: Tensor) -> Directions:
    """Turn centred features (N, F); directions in which nothing varies are left out."""
    if len(feature_NF) < feature_NF.shape[1]:  # fewer rows than features: the smaller matrix knows as much
        spread_N, side_NN = torch.linalg.eigh(feature_NF @ feature_NF.T)
        kept = spread_N > 1e-7 * spread_N[-1]
        length_R = spread_N[kept].sqrt()
        axes_FR = feature_NF.T @ (side_NN[:, kept] / length_R)
        return Directions(side_NN[:, kept] * length_R, axes_FR, spread_N[kept])
    spread_F, axes_FF = torch.linalg.eigh(feature_NF.T @ feature_NF)
    kept = spread_F > 1e-7 * spread_F[-1]
    return Directions(feature_NF @ axes_FF[:, kept], axes_FF[:, kept], spread_F[kept])


def fit_many(
    found: Directions,
    target_NK: Tensor,
    weight_PN: Tensor,
    c_P: Tensor,
    *,
    tolerance: float = 1e-5,
    max_steps: int = 2000,
) -> tuple[Tensor, Tensor]:
    """Minimise c * sum_n weight_n * cross-entropy_n + |coefficients|^2 / 2 for each problem.

    Args:
        found: what `turned` made of the features.
        target_NK: probabilities (soft labels), rows sum to 1.
        weight_PN: 0 leaves a row out of that problem.
        c_P: strength of the data against the penalty, as scikit-learn's C.
        tolerance: a problem is done when no coefficient moves by more than this share of the largest, each in
            units of its own scale.
        max_steps: stop then in any case.

    Returns:
        coefficients (P, R, K) along the directions, and intercepts (P, K), which carry no penalty.
    """
    n_at_once = max(1, _ENTRIES // target_NK.numel())
    parts = [
        _fit(found, target_NK, weight, c, tolerance=tolerance, max_steps=max_steps)
        for weight, c in zip(torch.split(weight_PN, n_at_once), torch.split(c_P, n_at_once), strict=True)
    ]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _fit(
    found: Directions,
    target_NK: Tensor,
    weight_PN: Tensor,
    c_P: Tensor,
    *,
    tolerance: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    n_rows = len(found.rows_NR)
    row_NE = torch.cat([found.rows_NR, found.rows_NR.new_ones(n_rows, 1)], dim=1)  # E: directions, intercept
    spread_E = torch.cat([found.spread_R, found.spread_R.new_tensor([float(n_rows)])])
    penalty_E1 = torch.ones_like(spread_E)[:, None]
    penalty_E1[-1] = 0
    bound_PE1 = 0.5 * (c_P * weight_PN.amax(dim=1))[:, None, None] * spread_E[:, None] + penalty_E1
    weight_PN1 = (c_P[:, None] * weight_PN)[..., None]
    solved_PEK = row_NE.new_zeros(len(c_P), len(spread_E), target_NK.shape[1])
    open_P = torch.arange(len(c_P))  # problems that still move
    now = ahead = solved_PEK
    momentum_P11 = row_NE.new_ones(len(c_P), 1, 1)
    for _ in range(max_steps):
        wrong_PNK = (_times(row_NE, ahead).softmax(dim=2) - target_NK) * weight_PN1
        following = ahead - (_times(row_NE.T, wrong_PNK) + penalty_E1 * ahead) / bound_PE1
        moved = following - now
        uphill_P11 = ((ahead - following) * moved * bound_PE1).sum(dim=(1, 2), keepdim=True) > 0
        faster_P11 = 0.5 * (1 + (1 + 4 * momentum_P11**2).sqrt())
        share_P11 = torch.where(uphill_P11, 0.0, (momentum_P11 - 1) / faster_P11)
        momentum_P11 = torch.where(uphill_P11, 1.0, faster_P11)
        now, ahead = following, following + share_P11 * moved
        scale_PE1 = bound_PE1.sqrt()
        still = (moved * scale_PE1).abs().amax((1, 2)) >= tolerance * (now * scale_PE1).abs().amax((1, 2))
        if not bool(still.all()):
            solved_PEK[open_P[~still]] = now[~still]
            open_P, now, ahead, momentum_P11 = open_P[still], now[still], ahead[still], momentum_P11[still]
            bound_PE1, weight_PN1 = bound_PE1[still], weight_PN1[still]
        if not len(open_P):
            break
    solved_PEK[open_P] = now
    return solved_PEK[:, :-1], solved_PEK[:, -1]


def _times(left_AB: Tensor, right_PBK: Tensor) -> Tensor:
    """(A, B) times each (B, K) of P, as one product: (P, A, K)."""
    n_problems, n_inner, n_classes = right_PBK.shape
    flat = left_AB @ right_PBK.permute(1, 0, 2).reshape(n_inner, n_problems * n_classes)
    return flat.reshape(len(left_AB), n_problems, n_classes).permute(1, 0, 2)
