"""The seed of a split: of a handful, the one whose sides are most alike; labels and groups decide, no model.

Shape letters: N images, F families, K classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convflow.data.layout import SIDES
from convflow.data.splitting import Fractions, assign_by_hash, check_sides
from convflow.errors import DataError

# With many families chance is even by itself, and every further seed costs a hash per family.
_MANY = 10_000
N_SEEDS, N_SEEDS_OF_MANY = 100, 10


def n_seeds(key: Sequence[str]) -> int:
    """How many seeds are tried for images of these keys: the first so many from 0."""
    return N_SEEDS if len(set(key)) <= _MANY else N_SEEDS_OF_MANY


def choose_seed(
    labels: Sequence[str], family_N: NDArray[np.int64], key: Sequence[str], fractions: Fractions
) -> int:
    """Find the seed by which `assign_by_hash` gives the most even sides.

    What is smallest: the sum over sides of |share of images - share asked for|, plus the mean over sides and
    classes of |the class's share of the side - its share of all images|. Seeds that `check_sides` refuses
    are out; of equals the smallest seed wins.

    Args:
        labels: N classes.
        family_N: as `families` numbers them.
        key: N stable names, as `assign_by_hash` takes them.
        fractions: expected shares of the sides.

    Raises:
        DataError: no seed gives every side an image and training every class.
    """
    names, label_N = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    first_F, family_N = np.unique(family_N, return_inverse=True)
    leaders = _leaders(family_N, key, len(first_F))
    count_FK = np.zeros((len(first_F), len(names)))
    np.add.at(count_FK, (family_N, label_N), 1)
    has_F, has_K = np.nonzero(count_FK)
    alone_F, unknown = np.arange(len(first_F)), [None] * len(first_F)
    best: tuple[float, int] | None = None
    for seed in range(n_seeds(key)):
        sides, _ = assign_by_hash(alone_F, leaders, fractions, seed=seed, before=unknown)
        try:
            check_sides([sides[family] for family in has_F], [str(names[label]) for label in has_K])
        except DataError:
            continue
        found = _unevenness(np.asarray(sides), count_FK, fractions), seed
        best = found if best is None else min(best, found)
    if best is None:
        raise DataError(
            f"split: of seeds 0 to {n_seeds(key) - 1} none gives every side an image and train every class "
            f"({len(key):,} images, {len(first_F):,} that may part); add images from more groups, "
            "or change split.val_fraction and split.test_fraction: together they must stay well below 1"
        )
    return best[1]


def _leaders(family_N: NDArray[np.int64], key: Sequence[str], n_families: int) -> list[str]:
    """The name that decides for each family: its least, as in `assign_by_hash`."""
    leaders = [""] * n_families
    for family, name in zip(family_N.tolist(), key, strict=True):
        if not leaders[family] or name < leaders[family]:
            leaders[family] = name
    return leaders


def _unevenness(side_F: NDArray[np.str_], count_FK: NDArray[np.float64], fractions: Fractions) -> float:
    asked = {"train": 1 - fractions.val - fractions.test, "val": fractions.val, "test": fractions.test}
    overall_K, n_images = count_FK.sum(axis=0) / count_FK.sum(), count_FK.sum()
    sizes, classes = 0.0, []
    for side in SIDES:
        count_K = count_FK[side_F == side].sum(axis=0)
        sizes += abs(float(count_K.sum() / n_images) - asked[side])
        classes.append(np.abs(count_K / count_K.sum() - overall_K))
    return sizes + float(np.mean(classes))
