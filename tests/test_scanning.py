"""Each file is opened once, and a second time only when it changed; what is measured is true."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from convflow.data import images, measuring, scanning, workers
from convflow.data.duplicates import bits_apart
from convflow.data.layout import read_layout
from convflow.data.measuring import Measured, brightness, difference_hash, measure
from convflow.data.scanning import measure_all, memory_of, summarise, tables
from convflow.data.workers import map_in_processes
from convflow.errors import DataError
from convflow.stages import scan as stage
from convflow.tables import read_table
from made_images import encode, make_tree, picture


def paths_of(root):
    return [item.path for item in read_layout(root).items]


def settle(root):
    """Let all files be old enough for the memory."""
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


@pytest.fixture
def opened(monkeypatch):
    """The names of the files that were read, in order."""
    names = []
    read = measuring.read_bytes

    def counting(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(measuring, "read_bytes", counting)
    return names


def double(number):
    return 2 * number


def die(number):
    if number == 70:
        os._exit(9)
    return number


def refuse(number):
    raise DataError(f"number {number}")


# One file


def test_a_file_is_measured_as_pillow_and_hashlib_see_it(tmp_path):
    made = picture(size=(40, 30))
    data = encode(made, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    (tmp_path / "x.png").write_bytes(data)
    grey = np.asarray(made.transpose(Image.Transpose.ROTATE_270).convert("L"), dtype=float)
    seen = measure(tmp_path / "x.png")
    assert seen[:1] + seen[2:7] == (hashlib.sha256(data).hexdigest(), "PNG", "RGB", 30, 40, len(data))
    assert (seen.brightness_mean, seen.brightness_spread) == pytest.approx(
        (grey.mean(), grey.std()), abs=1e-4
    )
    assert (seen.reason, seen.detail) == ("", "")


def test_the_hash_says_tile_by_tile_which_side_is_brighter():
    ramp = Image.fromarray(np.tile(np.arange(0, 170, 10, dtype=np.uint8), (16, 1)))
    assert difference_hash(ramp) == "f" * 64
    assert difference_hash(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) == "0" * 64


def test_the_hash_hardly_changes_with_quality_size_or_light_and_much_with_the_picture():
    made = picture(1, (200, 150), "L")
    near = [
        made.resize((100, 75), Image.Resampling.BOX),
        made.filter(ImageFilter.GaussianBlur(1)),
        made.point(lambda value: int(value * 0.9 + 5)),
    ]
    assert max(bits_apart(difference_hash(made), difference_hash(other)) for other in near) <= 6
    others = [picture(seed, (200, 150), "L") for seed in range(2, 12)]
    assert min(bits_apart(difference_hash(made), difference_hash(other)) for other in others) > 60


def test_a_flat_picture_has_no_spread():
    assert brightness(Image.new("L", (5, 7), 93)) == (93.0, 0.0)


def test_a_broken_file_gives_a_reason_and_its_size(tmp_path):
    data = encode(picture())[:200]
    (tmp_path / "x.png").write_bytes(data)
    assert measure(tmp_path / "x.png") == Measured(
        bytes=200, reason="truncated", detail="broken or truncated PNG (image file is truncated)"
    )
    assert measure(tmp_path / "gone.png") == Measured(reason="missing", detail="no such file")


# The memory


def test_a_second_scan_opens_only_what_is_new_or_changed(pictures, tmp_path, opened):
    memory = tmp_path / "memory.parquet"
    settle(pictures)
    first = measure_all(pictures, paths_of(pictures), memory)
    assert len(opened) == 8
    opened.clear()
    assert measure_all(pictures, paths_of(pictures), memory) == first
    assert opened == []
    make_tree(pictures, {"cat/9.png": picture(99), "dog/1.png": picture(98)})
    again = measure_all(pictures, paths_of(pictures), memory)
    assert opened == ["9.png", "1.png"]
    assert again == [measure(pictures / path) for path in paths_of(pictures)]


def test_a_file_written_a_moment_ago_is_looked_at_again(pictures, tmp_path, opened):
    settle(pictures)
    now = time.time()
    os.utime(pictures / "cat" / "0.png", (now, now))
    for _ in range(2):
        measure_all(pictures, paths_of(pictures), tmp_path / "memory.parquet")
    assert opened.count("0.png") == 3  # cat's twice, dog's once
    assert opened.count("1.png") == 2


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(pictures, tmp_path, opened):
    settle(pictures)
    measure_all(pictures, paths_of(pictures), tmp_path / "m.parquet")
    opened.clear()
    path = pictures / "cat" / "0.png"
    (path.parent / "new").write_bytes(path.read_bytes())
    os.utime(path.parent / "new", (1e9, 1e9))
    (path.parent / "new").rename(path)
    measure_all(pictures, paths_of(pictures), tmp_path / "m.parquet")
    assert opened == ["0.png"]


def test_what_may_pass_is_not_remembered(pictures, tmp_path, monkeypatch):
    memory = tmp_path / "memory.parquet"
    settle(pictures)
    refused = Measured(reason="unreadable", detail="Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(scanning, "measure", lambda path: refused if path.name == "0.png" else measure(path))
        first = measure_all(pictures, paths_of(pictures), memory)
    assert first[0] == refused
    assert measure_all(pictures, paths_of(pictures), memory)[0].reason == ""


def test_a_broken_file_is_remembered_with_its_reason(tmp_path, opened):
    root = make_tree(tmp_path / "set", {"cat/a.png": encode(picture())[:100], "cat/b.png": picture()})
    settle(root)
    for _ in range(2):
        found = measure_all(root, paths_of(root), tmp_path / "m.parquet")
    assert opened == ["a.png", "b.png"]
    assert [seen.reason for seen in found] == ["truncated", ""]


def damaged(path):
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path):
    path.write_bytes(b"")


def foreign(path):
    path.write_bytes((path.parent / "other.parquet").read_bytes())


@pytest.mark.parametrize("spoil", [damaged, emptied, foreign])
def test_a_spoilt_memory_is_passed_over(pictures, tmp_path, opened, spoil):
    memory = tmp_path / "m.parquet"
    settle(pictures)
    first = measure_all(pictures, paths_of(pictures), memory)
    scanning.write_table(tmp_path / "other.parquet", read_table(memory).drop_columns(["dhash"]))
    opened.clear()
    spoil(memory)
    assert measure_all(pictures, paths_of(pictures), memory) == first
    assert len(opened) == 8


def test_another_decoder_looks_again(pictures, tmp_path, opened, monkeypatch):
    settle(pictures)
    measure_all(pictures, paths_of(pictures), tmp_path / "m.parquet")
    monkeypatch.setitem(scanning._DECODER, "pillow", "99")
    measure_all(pictures, paths_of(pictures), tmp_path / "m.parquet")
    assert len(opened) == 16


@pytest.mark.parametrize("module", [images, measuring])
def test_the_memory_knows_the_code_that_measured(module):
    digest = hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()
    assert scanning._DECODER[module.__name__.rpartition(".")[2]] == digest


def test_each_root_has_its_memory_under_whatever_name_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert memory_of(Path("a"), Path("m")) == memory_of(tmp_path / "b" / ".." / "a", Path("m"))
    assert memory_of(Path("a"), Path("m")) != memory_of(Path("b"), Path("m"))


def test_a_file_that_vanishes_between_listing_and_reading_is_missing(pictures, tmp_path):
    paths = paths_of(pictures)
    (pictures / paths[3]).unlink()
    found = measure_all(pictures, paths, tmp_path / "m.parquet")
    assert [seen.reason for seen in found] == ["", "", "", "missing", "", "", "", ""]


# Workers


@pytest.mark.parametrize("n_items", [0, 1, 127])
def test_few_items_stay_in_this_process(n_items, monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)
    assert list(map_in_processes(lambda number: number + 1, range(n_items))) == list(range(1, n_items + 1))


def test_many_items_come_back_from_workers_in_order(monkeypatch):
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    monkeypatch.setattr(workers, "_BLOCK", 1)  # several blocks
    assert list(map_in_processes(double, range(200))) == list(range(0, 400, 2))


def test_workers_measure_what_this_process_measures(tmp_path, monkeypatch):
    contents = [encode(picture(seed)) for seed in range(5)] + [b"", b"text", encode(picture())[:90]]
    root = make_tree(tmp_path / "set", {f"cat/{n}.png": contents[n % 8] for n in range(150)})
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    paths = paths_of(root)
    assert measure_all(root, paths, tmp_path / "m.parquet") == [measure(root / path) for path in paths]


def test_a_worker_that_dies_is_one_line_with_a_place(monkeypatch):
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    with pytest.raises(DataError, match=r"^\d+: a worker process died near it \(out of memory, or"):
        list(map_in_processes(die, range(140)))


def test_an_error_in_a_worker_comes_home_as_it_is(monkeypatch):
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    with pytest.raises(DataError, match=r"^number 0$"):
        list(map_in_processes(refuse, range(140)))


ORPHANS = """
import os, time
from convflow.data import workers


def slow(number):
    print(os.getpid(), flush=True)
    time.sleep(60)


if __name__ == "__main__":
    workers.cpu_count = lambda: 2
    list(workers.map_in_processes(slow, range(200)))
"""


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a dead one whose new parent has not asked for it yet


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    (tmp_path / "orphans.py").write_text(ORPHANS)
    with subprocess.Popen(
        [sys.executable, tmp_path / "orphans.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        found = {int(parent.stdout.readline()) for _ in range(2)}
        assert all(map(is_running, found))
        parent.kill()
        parent.wait()
        end = time.monotonic() + 10
        while any(map(is_running, found)) and time.monotonic() < end:
            time.sleep(0.05)
        left = [pid for pid in found if is_running(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert left == []


# The stage


def test_the_stage_counts_every_file_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = make_tree(
        tmp_path / "set",
        {
            "dog/b.png": picture(1),
            "cat/a.jpg": picture(2),
            "cat/broken.jpg": encode(picture(), "JPEG")[:300],
            "cat/no.png": "words",
            "dog/none.png": b"",
            "above.png": picture(3),
            "cat/notes.txt": "",
        },
    )
    (root / "empty").mkdir()
    stage.run(root, Path("scan"))
    summary = json.loads(Path("scan/summary.json").read_text())
    assert summary == {
        "layout": "folders",
        "files": 7,
        "rows": 2,
        "rejects": 4,
        "ignored": {".txt": 1},
        "classes": {"cat": 1, "dog": 1, "empty": 0},
        "tags": [],
    }
    rows, rejects = (read_table(Path(f"scan/{name}.parquet")).to_pylist() for name in ("rows", "rejects"))
    assert [(row["path"], row["label"], row["group"], row["weight"], row["split"]) for row in rows] == [
        ("cat/a.jpg", "cat", None, 1.0, None),
        ("dog/b.png", "dog", None, 1.0, None),
    ]
    assert [(reject["path"], reject["label"], reject["reason"]) for reject in rejects] == [
        ("above.png", None, "unlabelled"),
        ("cat/broken.jpg", "cat", "truncated"),
        ("cat/no.png", "cat", "not-an-image"),
        ("dog/none.png", "dog", "zero-bytes"),
    ]
    assert capsys.readouterr().out == "scan: 2 images, 4 rejected, 1 other files\n"


def test_the_stage_writes_the_same_bytes_twice_with_and_without_memory(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settle(pictures)
    written = []
    for name in ("one", "two"):
        stage.run(pictures, Path(name))
        written.append({path.name: path.read_bytes() for path in Path(name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"rows.parquet", "rejects.parquet", "summary.json"}


def test_the_stage_says_what_to_do_about_phone_photos(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_tree(pictures, {"cat/a.heic": b"x", "README": "words"})
    stage.run(pictures, Path("scan"))
    assert capsys.readouterr().out == (
        "scan: 8 images, 0 rejected, 2 other files (convert 1 .heic to JPEG or PNG)\n"
    )


def test_tags_become_columns_of_their_own(tmp_path):
    table = "path,label,group,weight,split,wafer\na.png,cat,g,0.5,val,mono\nb.png,dog,,,,\n"
    root = make_tree(tmp_path / "set", {"a.png": picture(1), "b.png": picture(2), "labels.csv": table})
    layout = read_layout(root)
    rows, rejects = tables(layout, measure_all(root, paths_of(root), tmp_path / "m.parquet"))
    assert [list(row.values())[-5:] for row in rows.to_pylist()] == [
        ["cat", "g", 0.5, "val", "mono"],
        ["dog", None, 1.0, None, ""],
    ]
    assert rows.schema.names[:-1] == scanning.ROW_SCHEMA.names
    assert (rows.schema.names[-1], rejects.num_rows) == ("tag_wafer", 0)
    assert summarise(layout, rows, rejects)["tags"] == ["wafer"]


@pytest.mark.parametrize("content", [b"", b"text"])
def test_a_set_without_one_usable_image_still_gives_both_tables(tmp_path, content):
    root = make_tree(tmp_path / "set", {"cat/a.png": content})
    layout = read_layout(root)
    rows, rejects = tables(layout, measure_all(root, paths_of(root), tmp_path / "m.parquet"))
    assert rows.schema == scanning.ROW_SCHEMA
    assert (rows.num_rows, rejects.num_rows) == (0, 1)
