"""Splits of a study: shares, groups, balance, the same ones each time."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convflow.errors import DataError
from convflow.studying.protocols import deal_groups, grouped_splits, random_splits
from convflow.studying.splits import split_table, splits_in

STRATA = [f"{p} {wafer}" for p in range(4) for wafer in ("mono", "poly") for _ in range(10 + 25 * (p == 0))]


def random(strata=STRATA, **changed):
    settings = {"n_splits": 6, "test_fraction": 0.25, "val_fraction": 0.2, "seed": 0} | changed
    return list(random_splits(strata, **settings))


def modules(n_groups=44, seed=0):
    """Groups of unequal size and very unequal rates, and the strata of their images."""
    rng = np.random.default_rng(seed)
    group, strata = [], []
    for number in range(n_groups):
        rate = rng.beta(0.6, 1.4)
        for _ in range(rng.integers(48, 72)):
            group.append(f"m{number}")
            strata.append(f"{'bad' if rng.random() < rate else 'good'} {number % 3 == 0}")
    return strata, group


def grouped(strata, group, **changed):
    settings = {"n_folds": 5, "n_repeats": 4, "val_fraction": 0.15, "seed": 0} | changed
    return list(grouped_splits(strata, group, **settings))


def share(strata, rows, name):
    return np.mean([strata[row].startswith(name) for row in rows])


def test_random_splits_give_every_side_its_share_of_every_stratum():
    for split in random():
        for stratum in set(STRATA):
            n_images = STRATA.count(stratum)
            inside = [row for row in split.rows("test") if STRATA[row] == stratum]
            assert abs(len(inside) - 0.25 * n_images) <= 1
            inside = [row for row in split.rows("val") if STRATA[row] == stratum]
            assert abs(len(inside) - 0.15 * n_images) <= 1
        assert sum(split.sizes) == len(STRATA)


def test_random_splits_of_the_published_size_are_the_published_ones():
    strata = ["a"] * 1508 + ["b"] * 295 + ["c"] * 106 + ["d"] * 715
    for split in random(strata, n_splits=3):
        assert (split.sizes[0] + split.sizes[1], split.sizes[2]) == (1968, 656)


@pytest.mark.parametrize("make", [random, lambda **changed: grouped(*modules(), **changed)])
def test_splits_differ_from_each_other_and_repeat_with_their_seed(make):
    first, again, other = make(), make(), make(seed=1)
    assert all((one.side_N == two.side_N).all() for one, two in zip(first, again, strict=True))
    assert not any((one.side_N == two.side_N).all() for one, two in zip(first, other, strict=True))
    assert not any((one.side_N == two.side_N).all() for one, two in itertools.combinations(first, 2))


def test_more_splits_leave_the_first_ones_as_they_were():
    for few, many in ((random(n_splits=3), random(n_splits=6)),):
        assert all((one.side_N == two.side_N).all() for one, two in zip(few, many, strict=False))


def test_a_stratum_that_cannot_be_shared_out_is_told_in_one_line():
    with pytest.raises(DataError, match=r"^protocols\.strata: .*; use fewer columns, or another share$"):
        random([*STRATA, "alone"])


@given(st.integers(0, 50), st.integers(10, 30))
def test_no_group_is_on_two_sides_and_each_image_is_tested_once_a_repeat(seed, n_groups):
    strata, group = modules(n_groups, seed)
    splits = grouped(strata, group, n_repeats=2, seed=seed)
    for split in splits:
        sides = {side: {group[row] for row in split.rows(side)} for side in ("train", "val", "test")}
        assert all(sides.values())
        assert not any(one & two for one, two in itertools.combinations(sides.values(), 2))
    for repeat in range(2):
        tested = np.concatenate([split.rows("test") for split in splits if split.repeat == repeat])
        assert sorted(tested) == list(range(len(group)))


def test_grouped_folds_are_even_in_size_and_in_strata():
    strata, group = modules()
    whole = share(strata, range(len(strata)), "bad")
    for split in grouped(strata, group):
        assert abs(split.sizes[2] / len(strata) - 0.2) < 0.03
        assert abs(split.sizes[1] / (split.sizes[0] + split.sizes[1]) - 0.15) < 0.04
        assert abs(share(strata, split.rows("test"), "bad") - whole) < 0.08
        assert abs(share(strata, split.rows("val"), "bad") - whole) < 0.08


def test_repeats_deal_the_groups_anew():
    # of two groups in one part of five, about 8 in 43 are together again by chance
    strata, group = modules()
    splits = grouped(strata, group)
    first_of_group = [group.index(name) for name in sorted(set(group))]
    parts = []
    for repeat in range(4):
        part_N = np.zeros(len(group), int)
        for split in splits[5 * repeat : 5 * repeat + 5]:
            part_N[split.rows("test")] = split.fold
        parts.append(part_N[first_of_group])
    for one, two in itertools.combinations(parts, 2):
        together = np.triu(np.equal.outer(one, one), 1)
        assert (together & np.equal.outer(two, two)).sum() / together.sum() < 0.35


def test_dealing_is_more_even_than_chance_and_watches_what_it_is_told_to():
    strata, group = modules()
    count_GS = np.zeros((44, 4), int)
    names = sorted(set(strata))
    for stratum, name in zip(strata, group, strict=True):
        count_GS[int(name[1:]), names.index(stratum)] += 1

    def unevenness(part_G, parts):
        dealt = np.stack([count_GS[part_G == part].sum(axis=0) for part in parts])
        fair = count_GS.sum(axis=0) / 5
        return ((dealt - fair) ** 2 / fair).sum(axis=1).max()

    by_chance = [
        unevenness(np.random.default_rng(s).permutation(np.arange(44) % 5), range(5)) for s in range(50)
    ]
    dealt = unevenness(deal_groups(count_GS, 5, seed=(0,)), range(5))
    assert dealt < min(by_chance)
    assert unevenness(deal_groups(count_GS, 5, seed=(0,), n_watched=1), range(1)) < dealt


def test_fewer_groups_than_folds_are_told_in_one_line():
    with pytest.raises(DataError, match=r"^4 groups cannot be dealt into 5 parts; take fewer folds"):
        grouped(*modules(4))


def test_the_table_gives_the_splits_back():
    splits = random(n_splits=3)
    paths = [f"{n}.png" for n in range(len(STRATA))]
    table = split_table(paths, paths, splits)
    images, found = splits_in(table)
    assert images == paths
    assert [one.name for one in found] == ["00-0", "01-0", "02-0"]
    assert all((one.side_N == two.side_N).all() for one, two in zip(splits, found, strict=True))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda table: table.slice(0, table.num_rows - 1),
        lambda table: table.slice(0, 0),
        lambda table: table.set_column(4, "side", pa.array(["nowhere"] * table.num_rows)),
    ],
)
def test_a_table_that_is_not_whole_is_refused(spoil):
    paths = [f"{n}.png" for n in range(len(STRATA))]
    with pytest.raises(DataError, match=r"not a table of whole splits; run `dvc repro`"):
        splits_in(spoil(split_table(paths, paths, random(n_splits=2))))
