"""Near-duplicates: exact against brute force, and families as a reference library sees them."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convflow.data import duplicates
from convflow.data.duplicates import bits_apart, components, near_duplicate_pairs
from convflow.errors import DataError


def near_copies(seed: int, n: int, flips: int) -> list[str]:
    """Hashes of which many are copies of one another, up to `flips` flipped bits."""
    rng = random.Random(seed)
    hashes = [rng.getrandbits(256)]
    while len(hashes) < n:
        base = rng.choice(hashes) if rng.random() < 0.8 else rng.getrandbits(256)
        for bit in rng.sample(range(256), rng.randint(0, flips)):
            base ^= 1 << bit
        hashes.append(base)
    return [f"{value:064x}" for value in hashes]


def brute_force(hashes: list[str], distance: int) -> set[tuple[int, int]]:
    first = {text: index for index, text in reversed(list(enumerate(hashes)))}
    star = {(first[text], index) for index, text in enumerate(hashes) if first[text] != index}
    unique = sorted(first.values())
    return star | {
        (i, j) for i in unique for j in unique if i < j and bits_apart(hashes[i], hashes[j]) <= distance
    }


@given(
    seed=st.integers(0, 2**32), n=st.integers(0, 60), distance=st.integers(0, 15), flips=st.integers(0, 20)
)
@settings(max_examples=150, deadline=None)
def test_the_pairs_are_those_of_brute_force(seed: int, n: int, distance: int, flips: int) -> None:
    hashes = near_copies(seed, max(n, 1), flips)[:n]
    pairs = near_duplicate_pairs(hashes, distance=distance)
    assert pairs.dtype == np.int64
    assert pairs.shape == (len(pairs), 2)
    assert list(map(tuple, pairs.tolist())) == sorted(brute_force(hashes, distance))


@pytest.mark.parametrize("distance", range(16))
def test_a_pair_exactly_at_the_distance_counts_and_one_bit_more_does_not(distance: int) -> None:
    for seed in range(20):
        bits = random.Random(seed).sample(range(256), distance + 1)
        at = sum(1 << bit for bit in bits[:distance])
        beyond = sum(1 << bit for bit in bits)
        hashes = [f"{0:064x}", f"{beyond:064x}"]
        assert near_duplicate_pairs(hashes, distance=distance).tolist() == []
        if distance:
            assert near_duplicate_pairs([hashes[0], f"{at:064x}"], distance=distance).tolist() == [[0, 1]]


def test_equal_hashes_are_linked_as_a_star_and_not_all_to_all() -> None:
    pairs = near_duplicate_pairs(["ab" * 32] * 50_000, distance=8)
    assert pairs.tolist() == [[0, other] for other in range(1, 50_000)]


@given(n=st.integers(1, 40), data=st.data())
@settings(max_examples=100, deadline=None)
def test_families_are_the_connected_components(n: int, data: st.DataObject) -> None:
    sparse, csgraph = pytest.importorskip("scipy.sparse"), pytest.importorskip("scipy.sparse.csgraph")
    index = st.integers(0, n - 1)
    links = data.draw(st.lists(st.tuples(index, index), max_size=40))
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    graph = sparse.coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = csgraph.connected_components(graph, directed=False)
    smallest = [int(np.flatnonzero(label == label[member])[0]) for member in range(n)]
    assert components(n, pairs).tolist() == smallest


def test_a_long_chain_is_one_family() -> None:
    order = np.random.default_rng(0).permutation(10_000)
    assert set(components(10_000, np.column_stack([order[:-1], order[1:]])).tolist()) == {0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: near_duplicate_pairs(["0" * 64] * 2, distance=16), r"16 bits; it must lie in 0\.\.15"),
        (lambda: near_duplicate_pairs(["0" * 64, "1" * 63], distance=3), "has not 64 hexadecimal digits"),
        (lambda: near_duplicate_pairs(["0" * 64, "x" * 64], distance=3), "not hexadecimal; run the scan"),
        (lambda: near_duplicate_pairs(["0" * 64, "ä" * 64], distance=3), "not hexadecimal; run the scan"),
    ],
)
def test_what_is_no_hash_or_no_distance_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("limit", ["MAX_PAIRS", "MAX_COMPARED"])
def test_a_heap_of_look_alikes_is_refused_before_it_fills_the_memory(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, limit, 1_000)
    hashes = [f"{1 << bit:064x}" for bit in range(256)]
    with pytest.raises(DataError, match=r"look alike .* within 4 .*; lower near_duplicate_distance \(4\)"):
        near_duplicate_pairs(hashes, distance=4)
