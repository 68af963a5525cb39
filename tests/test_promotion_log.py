"""The log of promotions: chained, so that no byte changes unseen; torn by a kill, mended by the next act."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convflow.errors import TrackingError
from convflow.registry.promotion_log import FIRST, Act, append, champions, check_head, read_log

ALL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def act(n: int, version: str = "1", previous: str | None = None, action: str = "promote") -> Act:
    at = f"2026-01-01T00:00:{n:02}+00:00"
    return Act(at, action, "cells", version, previous, "änn", False, f'why "{n}"\n', f"{n:064x}")


def three(path: Path) -> bytes:
    for n in range(3):
        append(path, act(n, str(n + 1), str(n) if n else None))
    return path.read_bytes()


def test_acts_come_back_as_they_were_told(tmp_path):
    path = tmp_path / "log"
    assert read_log(path) == []
    three(path)
    entries = read_log(path)
    assert [(entry.number, entry.version, entry.previous, entry.by) for entry in entries] == [
        (1, "1", None, "änn"),
        (2, "2", "1", "änn"),
        (3, "3", "2", "änn"),
    ]
    assert [entry.before for entry in entries] == [FIRST, entries[0].hash, entries[1].hash]
    assert path.read_bytes().count(b"\n") == 3


def test_an_act_is_written_once(tmp_path):
    path = tmp_path / "log"
    data = three(path)
    assert append(path, act(1, "2", "1")) == read_log(path)[1]
    assert path.read_bytes() == data


@ALL
@given(at=st.integers(0), byte=st.integers(0, 255))
def test_any_changed_byte_is_found(tmp_path, at, byte):
    path = tmp_path / "log"
    data = path.read_bytes() if path.exists() else three(path)
    at %= len(data)
    if data[at] == byte:
        byte ^= 1
    other = tmp_path / "changed"
    other.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
    with pytest.raises(TrackingError, match=r"changed:[123]: this line"):
        read_log(other)


def test_the_end_of_a_line_is_no_byte_to_change_unseen(tmp_path):
    data = three(tmp_path / "log")
    for byte in range(256):
        if byte != ord("\n"):
            (tmp_path / "changed").write_bytes(data[:-1] + bytes([byte]))
            with pytest.raises(TrackingError, match=r"changed:3: this line is not as it was written"):
                read_log(tmp_path / "changed")


@pytest.mark.parametrize(
    ("order", "line"), [([0, 2], 2), ([1, 2], 1), ([0, 2, 1], 2), ([0, 0, 1], 2), ([0, 1, 1, 2], 3)]
)
def test_lines_left_out_moved_or_put_in_are_found(tmp_path, order, line):
    lines = three(tmp_path / "log").splitlines(keepends=True)
    (tmp_path / "log").write_bytes(b"".join(lines[n] for n in order))
    with pytest.raises(TrackingError, match=rf"log:{line}: this line does not follow the one before it"):
        read_log(tmp_path / "log")


@ALL
@given(kept=st.integers(0))
def test_a_torn_last_line_is_mended_by_the_next_act(tmp_path, kept):
    whole_log, path = tmp_path / "whole", tmp_path / "log"
    data = whole_log.read_bytes() if whole_log.exists() else three(whole_log)
    begun = data.rindex(b"\n", 0, len(data) - 1) + 1
    kept = begun + kept % (len(data) - begun)
    path.write_bytes(data[:kept])
    whole = kept == len(data) - 1  # only the newline is missing
    assert len(read_log(path)) == 2 + whole
    append(path, act(2, "3", "2"))
    assert path.read_bytes() == data


def test_an_end_that_was_cut_off_is_seen_by_the_tag(tmp_path):
    path = tmp_path / "log"
    data = three(path)
    entries = read_log(path)
    check_head(path, entries, None)
    check_head(path, entries, entries[-1].hash)
    check_head(path, entries, entries[0].hash)  # another model's act, or a tag that was not yet set
    path.write_bytes(b"".join(data.splitlines(keepends=True)[:2]))
    with pytest.raises(TrackingError, match=r"is missing, it ends with line 2; pull or restore"):
        check_head(path, read_log(path), entries[-1].hash)
    with pytest.raises(TrackingError, match=r"is missing, it is empty or not there; pull or restore"):
        check_head(path, [], entries[-1].hash)


@pytest.mark.parametrize(
    ("acts", "line"),
    [
        ([], []),
        (["+1"], ["1"]),
        (["+1", "+2", "+3"], ["1", "2", "3"]),
        (["+1", "+2", "+3", "-2"], ["1", "2"]),
        (["+1", "+2", "+3", "-2", "-1"], ["1"]),  # further back, not to and fro
        (["+1", "+2", "-1", "+3"], ["1", "3"]),
        (["+1", "+2", "+1"], ["1", "2", "1"]),
        (["+1", "+2", "+1", "-2"], ["1", "2"]),
        (["+1", "+2", "hand 5", "-2"], ["1", "2"]),  # the alias had been moved past the log
    ],
)
def test_the_line_of_champions_is_that_of_the_acts(tmp_path, acts, line):
    path, champion = tmp_path / "log", None
    for n, text in enumerate(acts):
        if text.startswith("hand"):
            champion = text.split()[1]
            continue
        append(path, act(n, text[1:], champion, "promote" if text[0] == "+" else "rollback"))
        champion = text[1:]
    assert champions(read_log(path), "cells") == line
    assert champions(read_log(path), "other") == []
