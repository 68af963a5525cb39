"""Who trains, who tunes, who tests: by hash, groups and copies together, and no image ever changes sides.

An image's side follows from a hash of what it belongs to, not from its place in a list: so the same images
get the same sides in any order, and new images move no old one. What was decided before is kept even
where a new image ties two old ones together.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convflow.data.duplicates import components, near_duplicate_pairs
from convflow.data.layout import SIDES
from convflow.errors import DataError

EXCLUDED = "excluded"


@dataclass(frozen=True)
class Fractions:
    """Expected shares of val and test, 0..1; train takes the rest."""

    val: float
    test: float

    def side(self, draw: float) -> str:
        """The side of a number drawn evenly from [0, 1)."""
        if draw < self.test:
            return "test"
        return "val" if draw < self.test + self.val else "train"


def draw(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on `seed` and `key` alone."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def families(
    sha256: Sequence[str],
    dhash: Sequence[str],
    group: Sequence[str | None],
    distance: int,
) -> NDArray[np.int64]:
    """Number the families that must stay on one side: same group, same bytes, or nearly the same picture.

    Args:
        sha256: N digests of the files.
        dhash: N difference hashes, 64 hexadecimal digits each, or empty.
        group: N names, or None where an image has no group.
        distance: pictures whose hashes differ in at most this many of 256 bits are nearly the same.

    Returns:
        int64 (N,): the index of the family's first member.
    """
    pairs = [_star(sha256), _star(group)]
    pairs.append(near_duplicate_pairs(dhash, distance=distance))
    return components(len(sha256), np.concatenate(pairs))


def _star(keys: Sequence[str | None]) -> NDArray[np.int64]:
    """Link every element to the first one with its key."""
    first: dict[str, int] = {}
    links = [
        (first[key], index)
        for index, key in enumerate(keys)
        if key is not None and first.setdefault(key, index) != index
    ]
    return np.asarray(links, dtype=np.int64).reshape(-1, 2)


def assign_by_hash(
    family_N: NDArray[np.int64],
    key: Sequence[str],
    fractions: Fractions,
    *,
    seed: int,
    before: Sequence[str | None],
) -> tuple[list[str], list[str]]:
    """Give each family a side: the one its members had before, else the one its hash says.

    Args:
        family_N: as `families` numbers them.
        key: N stable names: the group's where there is one, else the file's digest.
        fractions: expected shares of the sides.
        seed: of this split alone.
        before: N sides from the last split with the same settings, None for new images.

    Returns:
        sides and reasons, N each. A family that holds images with different earlier sides keeps each
        where it was, and its new members are `excluded`, with the reason.
    """
    members = defaultdict(list)
    for index, family in enumerate(family_N):
        members[int(family)].append(index)
    sides, why = [""] * len(key), [""] * len(key)
    for family_members in members.values():
        earlier = sorted({side for index in family_members if (side := before[index])})
        # By name, not by draw: the least of many draws is low, and would send large families to test.
        leader = min(key[index] for index in family_members)
        for index in family_members:
            if len(earlier) < 2:
                sides[index] = earlier[0] if earlier else fractions.side(draw(seed, leader))
            else:
                sides[index] = before[index] or EXCLUDED
                why[index] = "" if before[index] else f"resembles or groups with {' and '.join(earlier)}"
    return sides, why


def assign_by_column(split: Sequence[str | None], paths: Sequence[str]) -> list[str]:
    """Take the sides the owner gave in the column `split`.

    Raises:
        DataError: an image has none.
    """
    missing = [path for path, side in zip(paths, split, strict=True) if side not in SIDES]
    if missing:
        raise DataError(
            f"{missing[0]}: no side in the column 'split' ({len(missing):,} such images); "
            "fill it with train, val or test, or set split.method to grouped or stratified"
        )
    return [str(side) for side in split]


def torn_families(family_N: NDArray[np.int64], sides: Sequence[str]) -> list[list[int]]:
    """Families on more than one side, each as one member of every side it is on."""
    first: dict[int, dict[str, int]] = defaultdict(dict)
    for index, (family, side) in enumerate(zip(family_N.tolist(), sides, strict=True)):
        first[family].setdefault(side, index)
    return [list(found.values()) for found in first.values() if len(found) > 1]


def check_sides(sides: Sequence[str], labels: Sequence[str]) -> None:
    """See that every side is there and that training knows every class.

    Raises:
        DataError: a side without images, or a class that training would never see.
    """
    for side in SIDES:
        if side not in sides:
            raise DataError(
                f"split: no image falls to {side} ({len(sides):,} images in all); "
                f"use another split.seed, a larger split.{side}_fraction or more images"
            )
    taught = {label for label, side in zip(labels, sides, strict=True) if side == "train"}
    for label in sorted(set(labels) - taught):
        raise DataError(
            f"split: class {label!r} has {list(labels).count(label)} images, "
            "none of them in train; use another split.seed, or add images of it from more groups"
        )
