"""Folds for cross-validation inside train: every class spread evenly, groups whole where there are groups."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def deal_folds(label_N: Indices, group_N: Indices | None, n_folds: int, seed: int) -> Indices:
    """Give each of N images the fold in which it is asked about.

    Args:
        label_N: class indices.
        group_N: images of the same number stay together; None, or one group alone: each by itself.
        n_folds: at most so many; fewer where there are fewer groups or images.
        seed: of the order in which they are dealt.

    Returns:
        int64 (N,), 0 up to the number of folds less one. All 0 when nothing can be divided.
    """
    n_classes = int(label_N.max(initial=0)) + 1
    unit_N = np.arange(len(label_N))
    if group_N is not None and len(np.unique(group_N)) > 1:
        unit_N = np.unique(group_N, return_inverse=True)[1]
    n_units = int(unit_N.max(initial=-1)) + 1
    n_folds = max(1, min(n_folds, n_units))
    counts_UK = np.zeros((n_units, n_classes))
    np.add.at(counts_UK, (unit_N, label_N), 1)
    # large groups first, the rest fills up; within a size as the seed shuffles, single images class by class
    shuffled = np.random.default_rng(seed).permutation(n_units)
    commonest = counts_UK[shuffled].argmax(axis=1)
    order = shuffled[np.lexsort((commonest, -counts_UK[shuffled].sum(axis=1)))]
    share_K = np.maximum(counts_UK.sum(axis=0), 1)
    filled_FK = np.zeros((n_folds, n_classes))
    fold_U = np.zeros(n_units, np.int64)
    for unit in order:
        # the squares grow least where what this unit brings is rarest
        growth_F = ((2 * filled_FK + counts_UK[unit]) * counts_UK[unit] / share_K**2).sum(axis=1)
        fold_U[unit] = np.lexsort((filled_FK.sum(axis=1), growth_F))[0]
        filled_FK[fold_U[unit]] += counts_UK[unit]
    return fold_U[unit_N]
