"""Many splits of one set of images into train, val and test: at random, or with groups kept together.

Every model is asked on the same splits. `val` is taken from what is not test in the same manner; it serves
calibration and early stopping only.

Groups are dealt by our own hand: scikit-learn's StratifiedGroupKFold shuffles only groups that are equally
uneven, so that its "repeats" are nearly one and the same partition.

Shape letters: N images, G groups, S strata, P parts, T tries.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from convflow.errors import DataError
from convflow.studying.splits import Indices, Split

_TRIES = 4000


def random_splits(
    strata: Sequence[str], *, n_splits: int, test_fraction: float, val_fraction: float, seed: int
) -> Iterator[Split]:
    """Yield splits that draw each image by itself, with the same share of every stratum on each side.

    Args:
        strata: N names; images of one name are shared out alike.
        n_splits: how many splits.
        test_fraction: share of all images, 0..1.
        val_fraction: share of what is not test, 0..1.
        seed: of all of them; the splits differ by their number.

    Raises:
        DataError: a stratum too small to be shared out.
    """
    stratum_N = np.unique(np.asarray(strata), return_inverse=True)[1]
    for repeat in range(n_splits):
        rest, test = _cut(stratum_N, test_fraction, (seed, repeat, 0))
        _, val = _cut(stratum_N[rest], val_fraction, (seed, repeat, 1))
        yield Split(repeat, 0, _sides(len(strata), rest[val], test))


def grouped_splits(
    strata: Sequence[str],
    group: Sequence[str],
    *,
    n_folds: int,
    n_repeats: int,
    val_fraction: float,
    seed: int,
) -> Iterator[Split]:
    """Yield the folds of repeated cross-validation in which no group is on two sides.

    Each repeat deals the groups anew; see `deal_groups`.

    Args:
        strata: N names; each fold gets about the same share of every stratum.
        group: N names of what stays together.
        n_folds: test parts of each repeat; every image is in one of them.
        n_repeats: how often the groups are dealt.
        val_fraction: share of the groups outside the test part, 0..1.
        seed: of all of them.

    Raises:
        DataError: fewer groups than parts.
    """
    group_N = np.unique(np.asarray(group), return_inverse=True)[1]
    count_GS = _group_counts(group_N, strata)
    for repeat in range(n_repeats):
        part_G = deal_groups(count_GS, n_folds, seed=(seed, repeat))
        for fold in range(n_folds):
            rest = np.flatnonzero(part_G != fold)
            n_parts = max(2, round(1 / val_fraction))
            dealt = deal_groups(count_GS[rest], n_parts, seed=(seed, repeat, fold), n_watched=1)
            val = rest[dealt == 0]
            test_N = np.flatnonzero(part_G[group_N] == fold)
            yield Split(repeat, fold, _sides(len(group_N), np.flatnonzero(np.isin(group_N, val)), test_N))


def deal_groups(
    count_GS: NDArray[np.int64], n_parts: int, *, seed: Sequence[int], n_watched: int | None = None
) -> Indices:
    """Deal groups into parts of like size and like strata; returns the part of each group (G,).

    The most even of 4,000 random deals, by the largest chi-square distance of a part from an equal share.

    Args:
        count_GS: how many images of each stratum a group has.
        n_parts: how many parts.
        seed: of the deals.
        n_watched: only so many of the parts must be even, the first ones; None means all.

    Raises:
        DataError: fewer groups than parts.
    """
    n_groups = len(count_GS)
    if n_groups < n_parts:
        raise DataError(
            f"{n_groups} groups cannot be dealt into {n_parts} parts; take fewer folds or add groups"
        )
    rng = np.random.default_rng(list(seed))
    part_TG = rng.permuted(np.tile(np.arange(n_groups) % n_parts, (_TRIES, 1)), axis=1)
    own_TPG = part_TG[:, None, :] == np.arange(n_parts)[:n_watched, None]
    dealt_TPS = own_TPG.astype(np.float64) @ count_GS
    fair_S = count_GS.sum(axis=0) / n_parts
    uneven_TP = ((dealt_TPS - fair_S) ** 2 / np.maximum(fair_S, 1)).sum(axis=2)
    best: Indices = part_TG[uneven_TP.max(axis=1).argmin()]
    return best


def _group_counts(group_N: Indices, strata: Sequence[str]) -> NDArray[np.int64]:
    stratum_N = np.unique(np.asarray(strata), return_inverse=True)[1]
    count_GS = np.zeros((group_N.max() + 1, stratum_N.max() + 1), np.int64)
    np.add.at(count_GS, (group_N, stratum_N), 1)
    return count_GS


def _cut(stratum_N: Indices, fraction: float, seed: Sequence[int]) -> tuple[Indices, Indices]:
    state = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    cutter = StratifiedShuffleSplit(1, test_size=fraction, random_state=state)
    try:
        rest, drawn = next(cutter.split(stratum_N, stratum_N))
    except ValueError as error:
        raise DataError(
            f"protocols.strata: {error} [{len(stratum_N)} images]; use fewer columns, or another share"
        ) from None
    return rest, drawn


def _sides(n_images: int, val: Indices, test: Indices) -> NDArray[np.str_]:
    side_N = np.full(n_images, "train")
    side_N[val], side_N[test] = "val", "test"
    return side_N
