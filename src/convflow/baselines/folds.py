"""Cross-validation inside train: stratified, and groups together where the split keeps them together."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from convflow.baselines.rows import Indices

Fold = tuple[Indices, Indices]


def make_folds(
    label_N: Indices, group_N: Indices | None, n_folds: int, seed: int
) -> tuple[list[Fold], tuple[str, ...]]:
    """Rows to fit on and rows to ask about, fold by fold; and what a reader should know.

    No more folds than groups, or than images of the largest class. A class with fewer images than folds
    needs no fewer: each of its images is asked about once, by a model that saw the others.

    Returns:
        the folds, none where the rows cannot be divided; notes.
    """
    n_folds = min(n_folds, int(np.bincount(label_N).max(initial=0)))
    notes: tuple[str, ...] = ()
    if group_N is not None:
        n_groups = len(np.unique(group_N))
        if n_groups < 2:
            group_N, notes = None, ("all images of train are one group; cross-validated by image",)
        else:
            n_folds = min(n_folds, n_groups)
    if n_folds < 2:
        return [], (*notes, "too few images to cross-validate; the first candidate was taken")
    splitter = (StratifiedKFold if group_N is None else StratifiedGroupKFold)(
        n_folds, shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        # a class smaller than the number of folds: see above
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        found = list(splitter.split(np.zeros((len(label_N), 1)), label_N, group_N))
    return [(fit, ask) for fit, ask in found if len(fit) and len(ask)], notes
