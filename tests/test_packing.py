"""Packed pixels are the decoder's, in the members' order, and a folder is whole or absent."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from convflow.data import workers
from convflow.data.images import decode
from convflow.data.packed import Contract, Packed, write_contract
from convflow.data.packing import channels_for, write_pixels
from convflow.errors import DataError
from convflow.stages import pack as stage
from convflow.tables import read_table, write_table
from made_images import encode, make_tree, picture

SIDES = ("train", "val", "test")


def members(root, folder, sides, **columns):
    """Write members for all images below `root`, one per side given."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    n = len(paths)
    table = {
        "path": paths,
        "label": [path.partition("/")[0] for path in paths],
        "mode": columns.get("mode", ["RGB"] * n),
        "weight": np.linspace(0.1, 1, n),
        "side": sides,
    }
    write_table(folder / "members.parquet", pa.table(table), about={"seed": 1})
    return table


def pack(root, tmp_path, side_px=12, **changes):
    params = stage.Params(**{"sizes_px": [12, 16], "channels": "auto", "fit": "stretch"} | changes)
    folders = [tmp_path / "packed" / side / str(side_px) for side in SIDES]
    stage.run(root, tmp_path / "splits", *folders, params=params)
    return folders


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_each_side_holds_what_the_decoder_gives_in_the_members_order(pictures, tmp_path, fit):
    table = members(
        pictures, tmp_path / "splits", ["train", "val", "test", "excluded", "test", "train", "val", "train"]
    )
    for side, folder in zip(SIDES, pack(pictures, tmp_path, fit=fit), strict=True):
        places = [place for place, found in enumerate(table["side"]) if found == side]
        packed = Packed(folder)
        assert packed.contract == Contract(["cat", "dog"], 12, 3, fit)
        assert isinstance(packed.pixels, np.memmap)
        for place, pixels in zip(places, packed.pixels, strict=True):
            assert (pixels == decode(pictures / table["path"][place], size_px=12, channels=3, fit=fit)).all()
            assert (pixels == packed.contract.decode((pictures / table["path"][place]).read_bytes())).all()
        assert packed.labels.tolist() == [["cat", "dog"].index(table["label"][place]) for place in places]
        assert packed.weights.tolist() == table["weight"][places].astype(np.float32).tolist()
        assert (packed.labels.dtype, packed.weights.dtype) == (np.int64, np.float32)
        assert read_table(folder / "rows.parquet")["path"].to_pylist() == [table["path"][p] for p in places]


@pytest.mark.parametrize(
    ("modes", "channels"),
    [
        (["L", "1", "I;16", "I;16B", "I", "LA"], 1),
        (["L", "RGB"], 3),
        (["P"], 3),
        (["CMYK"], 3),
        (["RGBA"], 3),
    ],
)
def test_channels_follow_from_the_modes_in_the_files(modes, channels):
    assert channels_for(modes) == channels


def test_channels_are_chosen_over_all_sides_but_not_by_the_excluded(pictures, tmp_path):
    sides = ["train", "val", "test", "excluded", "train", "val", "test", "train"]
    modes = ["L", "L", "L", "RGB", "L", "L", "L", "L"]
    members(pictures, tmp_path / "splits", sides, mode=modes)
    assert {Packed(folder).contract.channels for folder in pack(pictures, tmp_path)} == {1}
    members(pictures, tmp_path / "splits", sides, mode=[*modes[:7], "RGB"])
    assert {Packed(folder).contract.channels for folder in pack(pictures, tmp_path)} == {3}
    assert {Packed(folder).contract.channels for folder in pack(pictures, tmp_path, channels=1)} == {1}


def test_workers_write_the_same_bytes_as_one_process(tmp_path, monkeypatch):
    root = make_tree(tmp_path / "set", {f"{n}.png": picture(n % 7) for n in range(140)})
    files = [root / f"{n}.png" for n in range(140)]
    written = []
    for n_processes in (1, 2):
        monkeypatch.setattr(workers, "cpu_count", lambda n=n_processes: n)
        write_pixels(tmp_path / f"{n_processes}.npy", files, Contract([], 8, 3, "stretch"))
        written.append((tmp_path / f"{n_processes}.npy").read_bytes())
    assert written[0] == written[1]
    assert np.load(tmp_path / "1.npy").shape == (140, 8, 8, 3)


def test_a_file_that_broke_since_the_scan_is_named_and_leaves_no_folder(pictures, tmp_path, monkeypatch):
    members(pictures, tmp_path / "splits", ["train", "val", "test", "train"] * 2)
    broken = pictures / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(
        DataError, match=rf"^{broken}: broken or truncated PNG \(.*\); remove it or put a whole copy"
    ):
        pack(pictures, tmp_path)
    assert list((tmp_path / "packed").rglob("*.npy")) == []


def test_a_size_that_is_no_longer_asked_for_is_swept_away_and_nothing_else(pictures, tmp_path):
    members(pictures, tmp_path / "splits", ["train", "val", "test", "train"] * 2)
    pack(pictures, tmp_path, 16)
    (tmp_path / "packed/train/20").mkdir()  # not ours
    pack(pictures, tmp_path, sizes_px=[12])
    assert sorted(path.name for path in (tmp_path / "packed/train").iterdir()) == ["12", "20"]
    assert [path.name for path in (tmp_path / "packed/test").iterdir()] == ["12"]


def test_the_same_file_is_named_when_workers_find_it(tmp_path, monkeypatch):
    root = make_tree(
        tmp_path / "set", {f"{n}.png": encode(picture(n % 5)) for n in range(140)} | {"135.png": b""}
    )
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    with pytest.raises(DataError, match=r"135\.png: the file is empty; remove it"):
        write_pixels(
            tmp_path / "x.npy", [root / f"{n}.png" for n in range(140)], Contract([], 8, 1, "stretch")
        )


def test_a_stop_in_the_middle_leaves_the_old_folder_or_none(pictures, tmp_path, monkeypatch):
    members(pictures, tmp_path / "splits", ["train", "val", "test", "train"] * 2)
    folders = pack(pictures, tmp_path)
    before = [(folder / "pixels.npy").read_bytes() for folder in folders]
    monkeypatch.setattr(stage, "write_contract", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack(pictures, tmp_path, 16)
    assert [(folder / "pixels.npy").read_bytes() for folder in folders] == before
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == sorted(SIDES)


def test_the_same_input_gives_the_same_bytes(pictures, tmp_path):
    members(pictures, tmp_path / "splits", ["train", "val", "test", "train"] * 2)
    written = []
    for _ in range(2):
        files = sorted(path for folder in pack(pictures, tmp_path) for path in folder.iterdir())
        written.append([path.read_bytes() for path in files])
    assert len(written[0]) == 15
    assert written[0] == written[1]


# Reading it back


@pytest.fixture
def folder(tmp_path):
    """A packed folder of three pictures, 4 x 4, RGB."""
    path = tmp_path / "train"
    path.mkdir()
    np.save(path / "pixels.npy", np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3))
    np.save(path / "labels.npy", np.zeros(3, dtype=np.int64))
    np.save(path / "weights.npy", np.ones(3, dtype=np.float32))
    write_contract(path / "contract.json", Contract(["a"], 4, 3, "stretch"))
    return path


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def overwrite(path):
    path.write_text("[1]")


@pytest.mark.parametrize("name", ["pixels.npy", "labels.npy", "weights.npy", "contract.json"])
@pytest.mark.parametrize("spoil", [cut, empty, overwrite, Path.unlink])
def test_a_spoilt_part_is_one_line(folder, name, spoil):
    Packed(folder)
    spoil(folder / name)
    if name == "contract.json" and spoil is cut:
        spoil(folder / name)  # the first byte cut was only the line's end
    with pytest.raises(Exception, match=rf"^{folder}.*run `dvc repro.*`") as caught:
        Packed(folder)
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_belong_together_are_refused(folder):
    np.save(folder / "labels.npy", np.zeros(2, dtype=np.int64))
    with pytest.raises(DataError, match="pixels, labels and weights differ in number"):
        Packed(folder)
    write_contract(folder / "contract.json", Contract(["a"], 5, 3, "stretch"))
    with pytest.raises(DataError, match=r"pixels are not as contract.json says; run `dvc repro -f pack`$"):
        Packed(folder)


def test_channel_statistics_are_those_of_all_pixels(tmp_path, folder):
    rng = np.random.default_rng(0)
    image_NSSC = rng.integers(0, 256, (600, 4, 4, 3), dtype=np.uint8)
    image_NSSC[..., 2] = 7
    np.save(folder / "pixels.npy", image_NSSC)
    np.save(folder / "labels.npy", np.zeros(600, dtype=np.int64))
    np.save(folder / "weights.npy", np.ones(600, dtype=np.float32))
    mean, spread = Packed(folder).channel_statistics()
    assert mean == pytest.approx(image_NSSC.mean(axis=(0, 1, 2)), rel=1e-5)
    assert spread[:2] == pytest.approx(image_NSSC.std(axis=(0, 1, 2))[:2], rel=1e-5)
    assert spread[2] == 1  # a flat channel must not be divided by zero


def test_the_contract_in_the_folder_is_plain_json(folder):
    assert json.loads((folder / "contract.json").read_text()) == {
        "classes": ["a"],
        "size_px": 4,
        "channels": 3,
        "fit": "stretch",
    }


@pytest.mark.parametrize(
    "wrong", [{"sizes_px": [7]}, {"sizes_px": [1025]}, {"sizes_px": []}, {"channels": 2}, {"fit": "squash"}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        stage.Params(**{"sizes_px": [12], "channels": "auto", "fit": "stretch"} | wrong)
