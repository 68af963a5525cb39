"""Files are whole or absent, and equal content gives equal bytes; tables too."""

import hashlib
import os

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convflow.errors import ConvflowError, DataError
from convflow.files import (
    digest_file,
    digest_folder,
    digest_json,
    dump_json,
    read_json,
    reserve,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from convflow.tables import read_about, read_table, write_table

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def fail_within(place, path):
    with place(path) as partial:
        (partial / "x" if place is whole_folder else partial).write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("place", [whole_file, whole_folder])
def test_what_fails_half_way_leaves_nothing(tmp_path, place):
    with pytest.raises(KeyboardInterrupt):
        fail_within(place, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_fails_half_way_leaves_the_old_file_and_the_old_folder(tmp_path):
    write_text(tmp_path / "file", "old")
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "x").write_text("old")
    for place, name in ((whole_file, "file"), (whole_folder, "folder")):
        with pytest.raises(KeyboardInterrupt):
            fail_within(place, tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "x").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_new_folder_replaces_the_old_one_whole_and_sweeps_what_a_killed_process_left(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("")
    (tmp_path / ".folder.1.partial").mkdir()
    (tmp_path / ".folder.1.partial" / "half").write_text("")
    (tmp_path / ".folders.1.partial").mkdir()
    with whole_folder(tmp_path / "folder") as partial:
        (partial / "new").write_text("")
    assert sorted(os.listdir(tmp_path)) == [".folders.1.partial", "folder"]
    assert os.listdir(tmp_path / "folder") == ["new"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot take room beforehand")
def test_room_is_taken_before_it_is_written_to(tmp_path):
    with (tmp_path / "f").open("w+b") as file:
        reserve(file, 2**20)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 2**20
        with pytest.raises(OSError, match=r"No space left|too large"):
            reserve(file, 2**60)
        reserve(file, 0)


@given(plain)
def test_json_comes_back_as_it_was_and_does_not_depend_on_order(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("j") / "x.json"
    write_json(path, value)
    assert read_json(path) == value
    assert digest_json(value) == digest_file(path)
    if isinstance(value, dict):
        assert dump_json(dict(reversed(value.items()))) == dump_json(value)


def test_json_is_sorted_readable_and_never_nan():
    assert dump_json({"b": 1, "a": "Größe"}) == '{\n "a": "Größe",\n "b": 1\n}\n'
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            dump_json({"a": number})


def test_json_that_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ConvflowError, match=r"x\.json: no such file; run `dvc repro` to make it$"):
        read_json(tmp_path / "x.json")
    for broken in (b"{", b"\xff"):
        (tmp_path / "x.json").write_bytes(broken)
        with pytest.raises(ConvflowError, match=r"x\.json: not JSON \(.*\); remove it and run `dvc repro`$"):
            read_json(tmp_path / "x.json")


def test_a_folder_s_digest_follows_names_and_bytes_but_not_what_is_skipped(tmp_path):
    def digest(**files):
        root = tmp_path / str(len(os.listdir(tmp_path)))
        for name, text in files.items():
            write_text(root / "sub" / name, text)
        return digest_folder(root, skip=frozenset({"clock"}))

    digests = [
        digest(a="1", b="2"),
        digest(b="2", a="1", clock="3"),
        digest(a="2", b="1"),
        digest(a="1", c="2"),
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    expected = "".join(
        f"sub/{n}\0{hashlib.sha256(t.encode()).hexdigest()}\n" for n, t in (("a", "1"), ("b", "2"))
    )
    assert digests[0] == hashlib.sha256(expected.encode()).hexdigest()


# Tables

TABLE = pa.table({"path": ["a", "b"], "n": pa.array([1, None], pa.int32())})


def test_a_table_comes_back_with_its_types_and_what_it_is_about(tmp_path):
    write_table(tmp_path / "t.parquet", TABLE, about={"b": [1], "a": "ä"})
    assert read_table(tmp_path / "t.parquet").equals(TABLE)
    assert read_table(tmp_path / "t.parquet", columns=["n"]).column_names == ["n"]
    assert read_about(tmp_path / "t.parquet") == {"a": "ä", "b": [1]}
    write_table(tmp_path / "plain.parquet", TABLE)
    assert read_about(tmp_path / "plain.parquet") == {}


def test_equal_tables_are_equal_bytes(tmp_path):
    for name, about in (("one", {"a": 1, "b": 2}), ("two", {"b": 2, "a": 1})):
        write_table(tmp_path / name, TABLE, about=about)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("read", [read_table, read_about])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path, read):
    path = tmp_path / "t.parquet"
    with pytest.raises(DataError, match=r"t\.parquet: no such table; run `dvc repro` to make it$"):
        read(path)
    write_table(path, TABLE)
    whole = path.read_bytes()
    for broken in (b"", b"text", whole[:-8]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"t\.parquet: not a readable table \(.*\); remove it and run"):
            read(path)
