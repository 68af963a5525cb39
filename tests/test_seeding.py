"""The chosen seed is the one that brute force finds, and it is found without asking a model."""

import numpy as np
import pytest

from convflow.data import seeding
from convflow.data.seeding import choose_seed, n_seeds
from convflow.data.splitting import SIDES, Fractions, assign_by_hash, check_sides, families
from convflow.errors import DataError

FRACTIONS = Fractions(0.2, 0.3)
ASKED = {"train": 0.5, "val": 0.2, "test": 0.3}


def made(n_groups, n_images, seed=0):
    """Labels, digests and groups of `n_images`, in groups of unlike size and mix."""
    rng = np.random.default_rng(seed)
    group = [f"g{int(n_groups * draw**2)}" for draw in rng.random(n_images)]
    return [str(label) for label in rng.choice(["a", "b", "c"], n_images, p=[0.6, 0.3, 0.1])], group


def unevenness(labels, sides):
    """The criterion, image by image."""
    labels, sides = np.asarray(labels), np.asarray(sides)
    sizes = sum(abs(np.mean(sides == side) - ASKED[side]) for side in SIDES)
    shares = [
        abs(np.mean(labels[sides == side] == label) - np.mean(labels == label))
        for side in SIDES
        for label in sorted(set(labels))
    ]
    return sizes + np.mean(shares)


@pytest.mark.parametrize(("n_groups", "n_images"), [(6, 60), (15, 90), (40, 200)])
def test_the_seed_is_the_best_of_those_that_pass(n_groups, n_images):
    labels, group = made(n_groups, n_images)
    digest = [f"{n:064x}" for n in range(n_images)]
    digest[1] = digest[0]  # copies tie two groups together
    family = families(digest, [""] * n_images, group, 4)
    scores = {}
    for seed in range(100):
        sides, _ = assign_by_hash(family, group, FRACTIONS, seed=seed, before=[None] * n_images)
        try:
            check_sides(sides, labels)
        except DataError:
            continue
        scores[seed] = round(unevenness(labels, sides), 12)
    assert choose_seed(labels, family, group, FRACTIONS) == min(scores, key=lambda seed: (scores[seed], seed))


def test_of_equals_the_smallest_seed_wins(monkeypatch):
    labels, group = made(10, 80)
    monkeypatch.setattr(seeding, "_unevenness", lambda *_: 0.5)
    family = families([str(n) for n in range(80)], [""] * 80, group, 4)
    first = choose_seed(labels, family, group, FRACTIONS)
    sides, _ = assign_by_hash(family, group, FRACTIONS, seed=first, before=[None] * 80)
    check_sides(sides, labels)
    for seed in range(first):
        sides, _ = assign_by_hash(family, group, FRACTIONS, seed=seed, before=[None] * 80)
        with pytest.raises(DataError):
            check_sides(sides, labels)


def test_the_order_of_the_images_does_not_matter():
    labels, group = made(12, 80)
    turned = choose_seed(
        labels[::-1], families([str(n) for n in range(80)], [""] * 80, group[::-1], 4), group[::-1], FRACTIONS
    )
    assert turned == choose_seed(
        labels, families([str(n) for n in range(80)], [""] * 80, group, 4), group, FRACTIONS
    )


def test_many_images_get_fewer_tries():
    assert n_seeds([str(n) for n in range(10_000)]) == 100
    assert n_seeds([str(n) for n in range(10_001)]) == 10
    assert n_seeds(["g"] * 30_000) == 100


@pytest.mark.parametrize("fractions", [FRACTIONS, Fractions(0.0, 0.3), Fractions(0.5, 0.5)])
def test_where_no_seed_serves_it_is_one_line(fractions):
    n_groups = 2 if fractions == FRACTIONS else 12
    group = [f"g{n}" for n in range(n_groups)]
    with pytest.raises(
        DataError, match=r"^split: of seeds 0 to 99 none .* add images from more groups"
    ) as caught:
        choose_seed(["a"] * n_groups, np.arange(n_groups), group, fractions)
    assert "\n" not in str(caught.value)
