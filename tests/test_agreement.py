"""What was made anew against what was registered: identical, within the tolerance, or different and where."""

from pathlib import Path

import pyarrow as pa
import pytest

from convflow.lineage.agreement import Agreement, agree_numbers, agree_tables
from convflow.tables import read_about, write_table

BASE = {
    "split": ["test"] * 2,
    "path": ["a", "b"],
    "sha256": ["a", "b"],
    "label": ["x", "y"],
    "p_x": [0.5, 0.25],
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Agreement("identical")),
        ({"p_x": [0.5, 0.25 + 1e-6]}, ("within", 1e-6, "b, p_x: 0.25 registered, 0.250001 now")),
        ({"p_x": [0.75, 0.0]}, ("different", 0.25, "a, p_x: 0.5 registered, 0.75 now")),
        ({"label": ["x", "z"]}, ("different", None, "b, label: y registered, z now")),
        ({"path": ["a", "c"]}, ("different", None, "images: test b registered, test c now")),
        ({"p_x": [0.5, None]}, ("different", None, "b, p_x: 0.25 registered, None now")),
        ({"p_x": [0.5, float("nan")]}, ("different", None, "b, p_x: 0.25 registered, nan now")),
        ({"p_y": [0.5, 0.75]}, ("different", None, "columns: p_y")),
    ],
)
def test_predictions_agree_to_the_byte_or_within_the_tolerance_or_not(
    tmp_path: Path, change: dict, expected: Agreement | tuple
) -> None:
    write_table(tmp_path / "a", pa.table(BASE))
    write_table(tmp_path / "b", pa.table({**BASE, **change}))
    found = agree_tables(tmp_path / "a", tmp_path / "b", 1e-4)
    how, largest, where = expected if isinstance(expected, tuple) else ("identical", 0.0, "")
    assert (found.how, found.where) == (how, where)
    assert found.largest == (None if largest is None else pytest.approx(largest))


def test_fewer_images_and_other_bytes_are_told_apart(tmp_path: Path) -> None:
    write_table(tmp_path / "a", pa.table(BASE))
    write_table(tmp_path / "b", pa.table(BASE).slice(0, 1))
    write_table(tmp_path / "c", pa.table(BASE), about={"model": "other"})
    found = agree_tables(tmp_path / "a", tmp_path / "b", 1e-4)
    assert (found.how, found.where) == ("different", "images: 2 registered, 1 now")
    assert agree_tables(tmp_path / "a", tmp_path / "c", 1e-4).line(1e-4) == (
        "within the tolerance of 0.0001: largest difference 0 (no value, but other bytes)"
    )
    assert read_about(tmp_path / "c") == {"model": "other"}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"a": {"b": 1.0, "c": "x"}, "l": [1, 2]}, ("identical", 0.0, "")),
        ({"a": {"b": 1.00001, "c": "x"}, "l": [1, 2]}, ("within", 1e-5, "a/b: 1.0 registered, 1.00001 now")),
        ({"a": {"b": 1.00001, "c": "y"}, "l": [1, 2]}, ("different", None, "a/c: x registered, y now")),
        ({"a": {"b": 2.0, "c": "x"}, "l": [1, 4]}, ("different", 2.0, "a/b: 1.0 registered, 2.0 now")),
        ({"a": {"b": 1.0, "c": "x"}, "l": [1]}, ("different", None, "l/1: 2 registered, nothing now")),
        (None, ("different", None, "a/b: 1.0 registered, nothing now")),
    ],
)
def test_metrics_agree_number_by_number(now: object, expected: tuple) -> None:
    found = agree_numbers({"a": {"b": 1.0, "c": "x"}, "l": [1, 2]}, now, 1e-4)
    assert (found.how, found.where) == (expected[0], expected[2])
    assert found.largest == (None if expected[1] is None else pytest.approx(expected[1]))
