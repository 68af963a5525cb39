"""The demonstration sets are what their papers say: counts, labels, weights, modules."""

import csv
import importlib.util
import shutil
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from convflow.data import sources
from convflow.data.sources import pseudo_modules, write_digits, write_elpv
from convflow.errors import DataError

# ELPV lists its cells module by module, and these are its runs of one wafer type.
RUNS = (60, 300, 180, 360, 714, 530, 72, 180, 48, 180)
WAFERS = [("mono", "poly")[place % 2] for place, length in enumerate(RUNS) for _ in range(length)]
has_elpv = pytest.mark.skipif(not importlib.util.find_spec("elpv_dataset"), reason="needs elpv-dataset")


@pytest.fixture
def labels(tmp_path, monkeypatch):
    """The labels.csv of ELPV, its 90 MB of images left where they are."""
    monkeypatch.setattr(shutil, "copytree", lambda source, folder: folder.mkdir())
    (tmp_path / "elpv").mkdir()
    assert write_elpv(tmp_path / "elpv") == 2624
    with (tmp_path / "elpv/labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_cells_are_cut_from_modules_of_like_size_and_one_wafer_type():
    names = pseudo_modules(WAFERS)
    sizes = Counter(names)
    assert list(sizes) == [f"module-{number:02d}" for number in range(1, 45)]
    assert (min(sizes.values()), max(sizes.values())) == (48, 72)
    assert len(set(zip(names, WAFERS, strict=True))) == 44
    assert [name for name, _ in groupby(names)] == list(sizes)  # each in one piece


@pytest.mark.parametrize(
    ("wafers", "expected"), [([], 0), (["mono"], 1), (["mono"] * 89, 1), (["mono"] * 91, 2)]
)
def test_short_runs_are_modules_too(wafers, expected):
    assert len(set(pseudo_modules(wafers))) == expected


def test_digits_come_back_from_their_files_as_they_went_in(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (12, 8, 8)).astype(float)
    digits = np.arange(12) % 5
    assert write_digits(tmp_path, images, digits) == 12
    found = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.png")}
    assert sorted(found) == sorted(f"{digit}/{number:04d}.png" for number, digit in enumerate(digits))
    for name, path in found.items():
        number = int(name[2:6])
        assert np.array_equal(np.round(np.asarray(Image.open(path)) * (16 / 255)), images[number])


@has_elpv
def test_elpv_has_its_cells_defects_weights_and_modules(labels):
    assert Counter(row["label"] for row in labels) == {"functional": 1803, "defective": 821}
    stated = Counter((row["defect_probability"], row["label"], row["weight"]) for row in labels)
    assert stated == {
        ("0.00", "functional", "1.0"): 1508,
        ("0.33", "functional", "0.33"): 295,
        ("0.67", "defective", "0.67"): 106,
        ("1.00", "defective", "1.0"): 715,
    }
    assert [len(list(run)) for _, run in groupby(row["wafer"] for row in labels)] == list(RUNS)
    assert len({row["group"] for row in labels}) == 44
    assert labels[0]["path"] == "images/cell0001.png"


def test_without_the_package_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^elpv-dataset: not installed; run `pip install"):
        write_elpv(tmp_path)
