"""Whether what was made anew is what was registered: identical, within the tolerance, or different."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from convflow.files import digest_file
from convflow.tables import read_table

How = Literal["identical", "within", "different"]


@dataclass(frozen=True)
class Agreement:
    """How two results agree.

    Args:
        how: identical; within: no number differs by more than the tolerance; different.
        largest: the largest difference of two numbers; None where none could be taken.
        where: the place of it, or the first difference of another kind; empty where all is identical.
    """

    how: How
    largest: float | None = 0.0
    where: str = ""

    def line(self, tolerance: float) -> str:
        """In words."""
        if self.how == "identical":
            return "identical"
        if self.how == "within":
            return (
                f"within the tolerance of {tolerance:g}: largest difference {self.largest:.2g} ({self.where})"
            )
        if self.largest is None:
            return f"different: {self.where}"
        return f"different: {self.where} (largest difference {self.largest:.2g}, tolerance {tolerance:g})"


def agree_tables(registered: Path, anew: Path, tolerance: float) -> Agreement:
    """Two tables of predictions: byte for byte, else value by value.

    Raises:
        DataError: one is no table.
    """
    if digest_file(registered) == digest_file(anew):
        return Agreement("identical")
    before, after = read_table(registered), read_table(anew)
    if before.column_names != after.column_names:
        strange = sorted(set(before.column_names) ^ set(after.column_names))
        return Agreement("different", None, f"columns: {', '.join(strange) or 'in another order'}")
    images = [_images(table) for table in (before, after)]
    if images[0] != images[1]:
        return Agreement("different", None, _first_image(*images))
    found = Agreement("within", 0.0, "no value, but other bytes")
    for name in before.column_names:
        found = _worse(found, _agree_columns(name, before, after, tolerance))
    return found


def agree_numbers(registered: Any, anew: Any, tolerance: float) -> Agreement:
    """Two trees of JSON values."""
    before, after = dict(_leaves(registered)), dict(_leaves(anew))
    found = Agreement("identical")
    for name in [*before, *(name for name in after if name not in before)]:
        if before.get(name, _NOTHING) != after.get(name, _NOTHING):
            found = _worse(found, _agree_values(name, before, after, tolerance))
    return found


_NOTHING = "nothing"


def _agree_values(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float
) -> Agreement:
    ours, theirs = before.get(name, _NOTHING), after.get(name, _NOTHING)
    text = f"{name}: {ours} registered, {theirs} now"
    if not (_is_number(ours) and _is_number(theirs)):
        return Agreement("different", None, text)
    apart = abs(ours - theirs)
    return Agreement("within" if apart <= tolerance else "different", apart, text)


def _agree_columns(name: str, before: pa.Table, after: pa.Table, tolerance: float) -> Agreement:
    ours, theirs = before[name].to_pylist(), after[name].to_pylist()
    at = next((row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), None)
    if at is None:
        return Agreement("identical")
    if not pa.types.is_floating(before[name].type) or None in ours or None in theirs:
        return Agreement("different", None, _cell(before, at, name, ours[at], theirs[at]))
    apart_N = np.abs(np.array(ours, np.float64) - np.array(theirs, np.float64))
    worst = int(apart_N.argmax())
    if not apart_N[worst] <= tolerance:
        first = int(np.flatnonzero(~(apart_N <= tolerance))[0])
        largest = float(apart_N[worst]) if np.isfinite(apart_N[worst]) else None
        return Agreement("different", largest, _cell(before, first, name, ours[first], theirs[first]))
    return Agreement("within", float(apart_N[worst]), _cell(before, worst, name, ours[worst], theirs[worst]))


def _worse(one: Agreement, other: Agreement) -> Agreement:
    """The first that is different names the place; the largest difference is that of all."""
    both = [found.largest for found in (one, other) if found.largest is not None]
    if "different" in (one.how, other.how):
        first = one if one.how == "different" else other
        return first if first.largest is None else Agreement("different", max(both), first.where)
    if other.how == "identical" or (one.largest or 0) > (other.largest or 0):
        return one
    return other


def _images(table: pa.Table) -> list[tuple[Any, ...]]:
    names = [name for name in ("split", "path", "sha256") if name in table.column_names]
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _first_image(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> str:
    for ours, theirs in zip(before, after, strict=False):
        if ours != theirs:
            return f"images: {' '.join(map(str, ours[:2]))} registered, {' '.join(map(str, theirs[:2]))} now"
    return f"images: {len(before):,} registered, {len(after):,} now"


def _cell(table: pa.Table, row: int, name: str, ours: Any, theirs: Any) -> str:
    return f"{table['path'][row].as_py()}, {name}: {ours} registered, {theirs} now"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}/{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}/{place}")
    else:
        yield path, value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
