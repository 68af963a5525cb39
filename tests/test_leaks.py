"""The leak probe trips on what is no picture, stays quiet on chance, and reads no class from a name."""

import numpy as np
import pytest

from convflow.data import leaks
from convflow.data.leaks import Rows, file_order, nameless, probe_all, sentence

NAMES = ["cat", "dog"]


def made(n=160, *, seed=0, label=None, path="{n}.png", light=0.0, size=0, key=None):
    """Random images, and what the class changes in them: (train, held)."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 2, n) if label is None else np.asarray([label(n) for n in range(n)])
    paths = [path.format(n=n, label=NAMES[k], camera=["east", "west"][k]) for n, k in enumerate(label_N)]
    file_NF = np.column_stack([rng.normal(5000, 300, n) + size * label_N, np.full(n, 64), np.full(n, 48)])
    light_NF = rng.normal(100, 20, (n, 2)) + light * label_N[:, None]
    key_N = np.arange(n) if key is None else np.asarray([key(n) for n in range(n)])
    held = rng.random(n) < 0.4
    rows = Rows(paths, label_N, NAMES, file_NF, light_NF, key_N)
    return rows.take(np.flatnonzero(~held)), rows.take(np.flatnonzero(held))


def worst(**changes):
    return probe_all(*made(**changes), seed=0)[0]


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("file order", {"label": lambda n: n // 20 % 2}),
        ("file order", {"label": lambda n: n // 20 % 2, "path": "{label}/{n}.png"}),
        ("path", {"path": "{camera}_{n}.png"}),
        ("path", {"path": "shots/{camera}/deep/{n}.png"}),
        ("file order", {"path": "shots/{camera}/deep/{n}.png"}),
        ("brightness", {"light": 60.0}),
        ("file", {"size": 1500}),
    ],
)
def test_each_probe_trips_on_its_own_leak(name, leak):
    probes = probe_all(*made(**leak), seed=0)
    found = next(probe for probe in probes if probe.name == name)
    assert probes[0].gain >= found.gain
    assert found.gain_low > 0.4
    assert found.gain_low <= found.gain <= found.gain_high <= 1


@pytest.mark.parametrize(
    "path",
    [
        "{label}/{n}.png",
        "{label}/{label}.{n}.jpg",
        "{label}s/{n}.png",
        "all/{label}{n}.png",
        "IMG_{label}_{n}.png",
        "{label}/deep/{label}/img.{n}.png",
    ],
)
def test_a_name_made_from_the_label_is_no_leak(path):
    # the pictures of both classes count from 0, as owners number them
    train, held = made(path=path)
    assert max(probe.gain_low for probe in probe_all(train, held, seed=0)) < 0.15


def test_classes_that_count_each_for_itself_are_no_leak():
    seen = {0: 0, 1: 0}

    def next_number(label):
        seen[label] += 1
        return seen[label]

    rng = np.random.default_rng(1)
    label_N = rng.integers(0, 2, 200)
    paths = [f"{NAMES[k]}/{NAMES[k]}.{next_number(int(k))}.jpg" for k in label_N]
    noise = rng.normal(size=(200, 2))
    rows = Rows(paths, label_N, NAMES, noise, noise, np.arange(200))
    side = rng.random(200) < 0.6
    probes = probe_all(rows.take(np.flatnonzero(side)), rows.take(np.flatnonzero(~side)), seed=0)
    assert max(probe.gain_low for probe in probes) < 0.15


@pytest.mark.slow
def test_a_false_alarm_is_rare():
    limits = [worst(n=60 + 5 * seed, seed=seed).gain_low for seed in range(40)]
    assert sum(limit > 0.2 for limit in limits) <= 1


def test_class_names_go_whoever_the_image_belongs_to():
    paths = ["cat/catalogue 3.png", "dog/DOG_7.b.jpeg", "x.y/cat"]
    assert nameless(paths, NAMES) == ["/alogue 3", "/_7.b", "x.y/"]


def test_a_class_that_is_a_number_or_a_letter_goes_only_where_it_stands_alone():
    paths = ["1/0011.png", "10/1_100.png", "a/camera 1a.png", "b/a-b.png"]
    assert nameless(paths, ["1", "10", "a", "b"]) == ["/0011", "/_100", "/camera ", "/-"]


def test_names_count_as_people_count_and_equal_ones_rank_equal():
    paths = ["cat/9.png", "dog/9.png", "cat/10.png", "dog/2.png"]
    assert file_order(paths, NAMES).tolist() == [1, 1, 2, 0]


def test_the_interval_is_the_one_of_drawing_whole_families(monkeypatch):
    monkeypatch.setattr(leaks, "_DRAWS", 20_000)
    rng = np.random.default_rng(5)
    key_N = rng.integers(0, 30, 200)
    hit_N = (rng.random(30) < 0.8)[key_N]  # a family is hit as a whole, so it counts once
    majority_N = rng.random(200) < 0.6
    found = leaks._judge("x", "y", hit_N, majority_N, key_N, 0)
    gains = []
    families = [np.flatnonzero(key_N == key) for key in np.unique(key_N)]
    for _ in range(4000):
        index = np.concatenate([families[f] for f in rng.integers(0, len(families), len(families))])
        gains.append((hit_N[index].mean() - majority_N[index].mean()) / (1 - majority_N[index].mean()))
    assert (found.gain_low, found.gain_high) == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.03)
    assert found.accuracy == hit_N.mean()


def test_a_single_class_gains_nothing():
    assert worst(label=lambda _: 1).gain == 0


def test_the_answer_is_the_same_each_time():
    assert probe_all(*made(light=20.0), seed=3) == probe_all(*made(light=20.0), seed=3)


def test_the_sentence_says_who_told_and_how_much_above_the_majority():
    probe = leaks.Probe("brightness", "mean and spread of grey", 0.9, 0.75, 0.6, 0.85)
    rest = (
        "brightness (mean and spread of grey) alone tells the label in 90.0% of the held-out images, "
        "always naming the commonest class in 60.0%; "
        "gain +0.75 [+0.60, +0.85] of what is left to gain, limit "
    )
    assert sentence([probe], 0.6, 0.2) == f"TRIPPED: {rest}0.20 for its lower end"
    assert sentence([probe], 0.6, 0.7) == f"clear: {rest}0.70 for its lower end"
