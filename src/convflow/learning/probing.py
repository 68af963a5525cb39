"""A linear head on frozen features: depth and penalty by cross-validation inside train.

Shape letters: N images, F features, K classes, P problems (folds times penalties, solved together).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convflow.learning.folds import Indices, deal_folds
from convflow.learning.logistic import Directions, fit_many, turned

Floats = NDArray[np.float32]
Widths = Mapping[int, int]  # features of each stage at hand, in the order in which they lie side by side
Unsure = Literal["weight", "soft", "ignore"]
_LEAST_SHARE, _LEAST_STD = 0.01, 1e-3  # bf16 keeps 8 bits: two to three digits
_SEARCH_TOLERANCE, _SEARCH_STEPS = 1e-3, 500  # figures of the search change in their fourth digit with less


@dataclass(frozen=True, eq=False)
class Taught:
    """What a head learns from.

    Attributes:
        label_N: class indices.
        weight_N: above 0, at most 1 for images whose label is unsure.
        group_N: images that stay together in cross-validation; None: each by itself.
        n_classes: K.
    """

    label_N: Indices
    weight_N: Floats
    group_N: Indices | None
    n_classes: int


@dataclass(frozen=True)
class Search:
    """How a head is looked for.

    Attributes:
        depths: sets of stages to try.
        cs: strengths of the data against the penalty to try, as scikit-learn's C.
        folds: at most so many.
        seed: of the folds.
        unsure: an image of weight w < 1 counts for w (`weight`), or its label is right with probability w and
            anything otherwise (`soft`), or like all others (`ignore`).
    """

    depths: tuple[tuple[int, ...], ...]
    cs: tuple[float, ...]
    folds: int = 5
    seed: int = 0
    unsure: Unsure = "weight"


@dataclass(frozen=True, eq=False)
class Probe:
    """A head: logits are ((feature - mean) / std) @ weight + bias, on the features of the stages `depths`.

    Attributes:
        figures: log loss and accuracy of each candidate over the folds, in the order they were tried.
    """

    depths: tuple[int, ...]
    c: float
    mean_F: Tensor
    std_F: Tensor
    weight_FK: Tensor
    bias_K: Tensor
    figures: list[dict[str, Any]]

    def logits(self, feature_NF: Floats, widths: Widths) -> Tensor:
        """Logits float64 (N, K) of images whose features are given, stage beside stage."""
        x_NF = torch.from_numpy(feature_NF[:, columns(self.depths, widths)]).double()
        return ((x_NF - self.mean_F) / self.std_F) @ self.weight_FK + self.bias_K


def fit_probe(feature_NF: Floats, widths: Widths, taught: Taught, search: Search) -> Probe:
    """Find the best head by cross-validated log loss, then fit it on all images.

    Features are standardised over all of train before it is divided: no label enters there.

    Args:
        feature_NF: float32, stage beside stage.
        widths: how many each of these stages has; their sum is F.
        taught: labels and what goes with them.
        search: what is tried.
    """
    target_NK, weight_N = targets_of(taught, search.unsure)
    fold_N = torch.from_numpy(deal_folds(taught.label_N, taught.group_N, search.folds, search.seed))
    best_loss, best, figures = float("inf"), (search.depths[0], search.cs[0]), []
    label_N = torch.from_numpy(taught.label_N)
    for depths in search.depths:
        found = turned(_standardised(feature_NF[:, columns(depths, widths)])[0])
        for c, logits_NK in _asked(found, target_NK, weight_N, fold_N, search.cs):
            loss, accuracy = figures_of(logits_NK, label_N)
            figures.append({"depths": list(depths), "c": c, "log_loss": loss, "accuracy": accuracy})
            if loss < best_loss:
                best_loss, best = loss, (depths, c)
    return _fitted(feature_NF, widths, (target_NK, weight_N), best, figures)


def columns(depths: Sequence[int], widths: Widths) -> Indices:
    """Which features belong to the stages `depths`."""
    begins = dict(zip(widths, np.cumsum([0, *widths.values()]), strict=False))
    return np.concatenate([np.arange(begins[depth], begins[depth] + widths[depth]) for depth in depths])


def last_depths(stages: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Sets of stages worth a try: the last alone, the last half, all."""
    return tuple(tuple(stages[-count:]) for count in sorted({1, (len(stages) + 1) // 2, len(stages)}))


def figures_of(logits_NK: Tensor, label_N: Tensor) -> tuple[float, float]:
    """Mean log loss (nats) and accuracy; all images count alike."""
    loss = torch.nn.functional.cross_entropy(logits_NK, label_N)
    return float(loss), float((logits_NK.argmax(dim=1) == label_N).double().mean())


def targets_of(taught: Taught, unsure: Unsure) -> tuple[Tensor, Tensor]:
    """Probabilities (N, K), rows sum to 1, and weights (N,), both float64; see `Search.unsure`."""
    target_NK = torch.nn.functional.one_hot(torch.from_numpy(taught.label_N), taught.n_classes).double()
    weight_N = torch.from_numpy(taught.weight_N).double()
    if unsure == "soft":
        sure_N1 = weight_N.clamp(max=1)[:, None]
        target_NK = sure_N1 * target_NK + (1 - sure_N1) / taught.n_classes
        weight_N = weight_N.clamp(min=1)
    return target_NK, torch.ones_like(weight_N) if unsure == "ignore" else weight_N


def _standardised(feature_NF: Floats) -> tuple[Tensor, Tensor, Tensor]:
    x_NF = torch.from_numpy(feature_NF)
    std_F, mean_F = torch.std_mean(x_NF, dim=0, correction=0)
    # a feature that hardly varies is not blown up: what there is of it may be rounding, and differs elsewhere
    std_F = torch.maximum(std_F, _LEAST_SHARE * mean_F.abs()).clamp(min=_LEAST_STD)
    return (x_NF - mean_F) / std_F, mean_F, std_F


def _asked(
    found: Directions, target_NK: Tensor, weight_N: Tensor, fold_N: Tensor, cs: Sequence[float]
) -> Iterator[tuple[float, Tensor]]:
    """Yield each penalty with the logits (N, K) that every image got while it was left out."""
    n_folds = int(fold_N.max()) + 1
    left_out_FN = fold_N == torch.arange(n_folds)[:, None]
    kept_FN = ~left_out_FN if n_folds > 1 else torch.ones_like(left_out_FN)
    dtype = found.rows_NR.dtype
    weight_PN = (kept_FN * weight_N).to(dtype).repeat_interleave(len(cs), dim=0)
    coefficient_PRK, bias_PK = fit_many(
        found,
        target_NK.to(dtype),
        weight_PN,
        torch.tensor(cs, dtype=dtype).repeat(n_folds),
        tolerance=_SEARCH_TOLERANCE,
        max_steps=_SEARCH_STEPS,
    )
    for place, c in enumerate(cs):
        logits_NK = torch.empty_like(target_NK)
        for fold, rows_N in enumerate(left_out_FN):
            problem = fold * len(cs) + place
            logits = found.rows_NR[rows_N] @ coefficient_PRK[problem] + bias_PK[problem]
            logits_NK[rows_N] = logits.double()
        yield c, logits_NK


def _fitted(
    feature_NF: Floats,
    widths: Widths,
    aims: tuple[Tensor, Tensor],
    best: tuple[tuple[int, ...], float],
    figures: list[dict[str, Any]],
) -> Probe:
    depths, c = best
    target_NK, weight_N = aims
    x_NF, mean_F, std_F = _standardised(feature_NF[:, columns(depths, widths)])
    found = turned(x_NF.double())
    coefficient_PRK, bias_PK = fit_many(
        found, target_NK, weight_N[None], torch.tensor([c], dtype=torch.float64)
    )
    weight_FK = found.axes_FR @ coefficient_PRK[0]
    return Probe(depths, c, mean_F.double(), std_F.double(), weight_FK, bias_PK[0], figures)
