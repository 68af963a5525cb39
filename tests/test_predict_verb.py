"""convflow predict, with a stand-in for the network."""

import argparse
import csv
import io
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from convflow.errors import DataError
from convflow.files import write_json
from convflow.verbs import predict
from made_project import STAND_IN, write_image, write_model, write_text


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from convflow.data.images import decode

    stand_in = ModuleType("convflow.learning.predictor")
    exec(STAND_IN, stand_in.__dict__)  # noqa: S102
    stand_in.Predictor.decode = lambda self, path: decode(path, size_px=8, channels=1)
    monkeypatch.setitem(sys.modules, "convflow.learning.predictor", stand_in)
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "models/cnn")
    write_image(tmp_path / "in/10.png", 0)
    write_image(tmp_path / "in/9.png", 255)
    write_image(tmp_path / "in/ü b/1.PNG", 51)
    write_text(tmp_path / "in/labels.csv", "path,label\n")
    write_image(tmp_path / "in/.hidden/1.png", 0)
    return tmp_path


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    return predict.run(parser.parse_args(arguments))


def test_a_folder_is_answered_in_natural_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in") == 0
    out, err = capsys.readouterr()
    assert out == (
        "in/9.png      bad one  0.500\nin/10.png     bad one  1.000\nin/ü b/1.PNG  bad one  0.900\n"
    )
    assert err == "model: models/cnn\n"


def test_json_is_one_list(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "BATCH", 2)
    assert run("--json", "in") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in rows] == ["in/9.png", "in/10.png", "in/ü b/1.PNG"]
    assert rows[2] == {
        "path": "in/ü b/1.PNG",
        "label": "bad one",
        "probability": 0.9,
        "probabilities": {"bad one": 0.9, "good": 0.1},
    }


def test_csv_has_a_column_per_class(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--csv", "in/10.png") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["path", "label", "probability", "p_bad one", "p_good"],
        ["in/10.png", "bad one", "1.000000", "1.000000", "0.000000"],
    ]


def test_a_broken_image_costs_one_line_and_the_others_are_answered(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(place / "broken.png", "")
    assert run("broken.png", "in/9.png", "--json") == 2
    out, err = capsys.readouterr()
    assert [row["path"] for row in json.loads(out)] == ["in/9.png"]
    assert err.splitlines() == [
        "model: models/cnn",
        "convflow: broken.png: the file is empty; remove it or put a whole copy in its place",
    ]


def test_only_broken_images_are_an_empty_list(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(place / "broken.png", "")
    assert run("broken.png", "--json") == 2
    assert json.loads(capsys.readouterr().out) == []


def test_a_model_of_the_project_decides_as_its_evaluation_says(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {"criterion": "f1", "positive": "good", "threshold": 0.1}
    write_json(place / "reports/evaluation/metrics.json", {"cnn": {"operating_point": point}})
    assert run("--csv", "in") == 0
    out, err = capsys.readouterr()
    rows = [(row["label"], row["probability"], row["p_good"]) for row in csv.DictReader(io.StringIO(out))]
    assert rows == [
        ("good", "0.500000", "0.500000"),
        ("bad one", "1.000000", "0.000000"),
        ("good", "0.100000", "0.100000"),
    ]
    assert err == "model: models/cnn, 'good' from probability 0.1 on\n"
    shutil.copytree(place / "models/cnn", place / "elsewhere/cnn")
    assert run("--csv", "--model", "elsewhere/cnn", "in/9.png") == 0
    assert ",bad one," in capsys.readouterr().out


def test_a_path_that_is_not_there_stops_everything_before_the_model_is_loaded(place: Path) -> None:
    with pytest.raises(DataError, match=r"nope.png: no such file or folder; check the path"):
        run("in/9.png", "nope.png")


def test_a_folder_without_images_is_named(place: Path) -> None:
    (place / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no image in it; name image files"):
        run("empty")
