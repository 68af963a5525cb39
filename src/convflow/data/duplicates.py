"""Pictures that are nearly the same: pairs within a Hamming distance of their hashes, and their families.

A picture without a hash (too flat or too small to have one) is nobody's look-alike.

Shape letters: N hashes, U unique hashes, P pairs.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from convflow.errors import DataError

HASH_BITS = 256
MAX_DISTANCE = 15
# One-band keys narrower than this put too many unlike pictures into one bucket; then two bands must agree.
MIN_KEY_BITS = 21
# Buckets are compared in slices of this many pairs, which bounds the memory.
SLICE = 1 << 18
# Beyond these the set is one heap of look-alikes, and the answer useless: some 150 MB, some 20 s.
MAX_PAIRS = 6_000_000
MAX_COMPARED = 1_000_000_000
MIX = np.uint64(0x9E3779B97F4A7C15)


def near_duplicate_pairs(dhash_hex: Sequence[str], *, distance: int) -> NDArray[np.int64]:
    """Pair up the hashes that differ in at most `distance` bits; exact, and near-linear in N.

    Equal hashes are linked as a star, the first to each other one, not all to all; between unequal hashes
    only the first of each kind is paired. The families are the same as those of all pairs.

    Two hashes that differ in at most d bits agree in at least r of d + r bands of bits (the pigeonhole
    principle; Norouzi et al., Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012).

    Args:
        dhash_hex: N hashes of 64 hexadecimal digits (256 bits), or empty where a picture has none.
        distance: bits, 0..15.

    Returns:
        int64 (P, 2): index pairs i < j, sorted, each once.

    Raises:
        DataError: on a hash that is no 256-bit hexadecimal number, a distance out of range, or a set in
            which nearly every picture resembles every other one (millions of pairs).
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise DataError(f"near-duplicate distance {distance} bits; it must lie in 0..{MAX_DISTANCE}")
    hashed = np.asarray([index for index, text in enumerate(dhash_hex) if text], dtype=np.int64)
    return hashed[_pairs([dhash_hex[index] for index in hashed.tolist()], distance)]


def _pairs(dhash_hex: Sequence[str], distance: int) -> NDArray[np.int64]:
    _, first, inverse = np.unique(_digests(dhash_hex), return_index=True, return_inverse=True)
    first_N = first[inverse]
    copies = np.flatnonzero(first_N != np.arange(len(first_N)))
    star = np.column_stack([first_N[copies], copies])
    if distance == 0 or len(first) < 2:
        return _sorted(star, len(first_N))
    words = _words([dhash_hex[index] for index in first])
    near = first[_pairs_of_unique(words, distance)]
    return _sorted(np.concatenate([star, near]), len(first_N))


def components(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the families that `pairs` link up; whoever is in no pair is a family of its own.

    Args:
        n: how many members there are.
        pairs: int64 (P, 2), indices in [0, n), in any order.

    Returns:
        int64 (n,): the smallest index of each member's family.
    """
    # Own lines rather than scipy.sparse.csgraph: as fast here, and scipy.sparse costs 0.3 s to import.
    root = np.arange(n, dtype=np.int64)
    while True:
        left, right = root[pairs[:, 0]], root[pairs[:, 1]]
        apart = left != right
        if not apart.any():
            return root
        low, high = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
        np.minimum.at(root, high, low)
        while not np.array_equal(root, shorter := root[root]):
            root = shorter


def bits_apart(one: str, other: str) -> int:
    """How many bits two hexadecimal hashes differ in."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def _digests(dhash_hex: Sequence[str]) -> NDArray[np.bytes_]:
    """The hashes as bytes (N,) that compare fast."""
    try:
        return np.array(dhash_hex, dtype=f"S{HASH_BITS // 4}") if len(dhash_hex) else np.empty(0, "S1")
    except UnicodeEncodeError as error:
        raise DataError(f"hash {error.object!r} is not hexadecimal; run the scan again") from None


def _words(dhash_hex: Sequence[str]) -> NDArray[np.uint64]:
    """The hashes as uint64 (4, U)."""
    for text in dhash_hex:
        if len(text) != HASH_BITS // 4:
            raise DataError(f"hash {text!r} has not 64 hexadecimal digits; run the scan again")
    try:
        raw = bytes.fromhex("".join(dhash_hex))
    except ValueError:
        raise DataError("a perceptual hash is not hexadecimal; run the scan again") from None
    return np.ascontiguousarray(np.frombuffer(raw, dtype=np.uint64).reshape(-1, HASH_BITS // 64).T)


def _pairs_of_unique(words: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """All pairs of hashes within `distance` bits, int64 (P, 2), unordered, each once."""
    n = words.shape[1]
    found = np.empty(0, dtype=np.int64)
    n_compared = 0
    for key in _keys(words, distance):
        order = np.argsort(key, kind="stable")  # stable: within a bucket indices rise
        later = _later_in_bucket(key[order])
        n_compared += int(later.sum())
        _stop_if(n_compared > MAX_COMPARED, distance)
        fresh, n_found = [found], len(found)
        for low, high in _within(words[:, order], later, distance):
            fresh.append(order[low] * n + order[high])
            n_found += len(low)
            _stop_if(n_found > MAX_PAIRS, distance)
        found = np.unique(np.concatenate(fresh))
    return np.column_stack([found // n, found % n])


def _stop_if(too_many: bool, distance: int) -> None:
    if too_many:
        raise DataError(
            f"nearly all pictures look alike to hashes compared within {distance} of 256 bits; "
            f"lower near_duplicate_distance ({distance})"
        )


def _keys(words: NDArray[np.uint64], distance: int) -> Iterator[NDArray[np.uint64]]:
    """Keys uint64 (U,) of which at least one is equal for any two hashes within `distance` bits."""
    agreeing = 1 if HASH_BITS // (distance + 1) >= MIN_KEY_BITS else 2
    bits = np.unpackbits(np.ascontiguousarray(words.T).view(np.uint8), axis=1)
    # Bits of neighbouring pixels go together: dealt out of order, every band has something to tell.
    shuffled = np.random.default_rng(0).permutation(HASH_BITS)
    bands = np.array_split(shuffled, distance + agreeing)
    for chosen in combinations(bands, agreeing):
        places = np.concatenate(chosen)
        key = np.zeros(words.shape[1], dtype=np.uint64)
        for start in range(0, len(places), 64):
            part = np.zeros((len(key), 8), dtype=np.uint8)
            packed = np.packbits(bits[:, places[start : start + 64]], axis=1)
            part[:, : packed.shape[1]] = packed
            # Mixed, not kept apart: a chance collision costs one comparison more, no pair less.
            key = key * MIX ^ part.view(np.uint64)[:, 0]
        yield key


def _later_in_bucket(ordered: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each element of a sorted array: how many equal ones come after it."""
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))
    return np.repeat(ends, np.diff(ends, prepend=0)) - np.arange(len(ordered)) - 1


def _within(
    words: NDArray[np.uint64], later: NDArray[np.int64], distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Compare each hash with the `later` ones that follow it; yield those within `distance`."""
    left = np.flatnonzero(later)
    gap = 1
    while len(left):
        for start in range(0, len(left), SLICE):
            one = left[start : start + SLICE]
            apart = np.zeros(len(one), dtype=np.uint8)  # at most 15 + 64 before it is cut down
            for word in words:
                apart += np.bitwise_count(word[one] ^ word[one + gap])
                near = apart <= distance
                one, apart = one[near], apart[near]
            if len(one):
                yield one, one + gap
        gap += 1
        left = left[later[left] >= gap]


def _sorted(pairs: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Each pair once, lower index first, in rising order."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    code = np.unique(low * n + high)
    return np.column_stack([code // max(n, 1), code % max(n, 1)])
