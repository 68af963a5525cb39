"""convflow predict, with a stand-in for the network."""

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from convflow.errors import DataError, ParamsError
from convflow.files import write_json
from convflow.serving import runtimes
from convflow.verbs import predict
from made_project import STAND_IN, write_image, write_model, write_text


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from convflow.data.images import decode

    stand_in = ModuleType("convflow.models")
    exec(STAND_IN, stand_in.__dict__)  # noqa: S102
    stand_in.Predictor.decode = lambda self, path: decode(path, size_px=8, channels=1)
    monkeypatch.setattr(runtimes, "load_predictor", stand_in.load_predictor)
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
        "error": None,
    }


def test_csv_has_a_column_per_class(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--csv", "in/10.png") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["path", "label", "probability", "p_bad one", "p_good", "error"],
        ["in/10.png", "bad one", "1.000000", "1.000000", "0.000000", ""],
    ]


NO_FILE = "no such file or folder; check the path"
EMPTY = "the file is empty; remove it or put a whole copy in its place"
NO_IMAGE = "no image in it; name image files, or a folder that holds some"


@pytest.fixture
def troubled(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of which the second, the third and the last have no answer."""
    monkeypatch.setattr(predict, "BATCH", 2)
    write_text(place / "broken.png", "")
    (place / "nothing").mkdir()
    return ["in/9.png", "broken.png", "nope.png", "in/10.png", "nothing"]


def test_what_has_no_answer_costs_one_line_and_the_others_are_answered(
    troubled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*troubled) == 2
    out, err = capsys.readouterr()
    assert out == "in/9.png    bad one  0.500\nin/10.png   bad one  1.000\n"
    assert err.splitlines() == [
        "model: models/cnn",
        f"convflow: broken.png: {EMPTY}",
        f"convflow: nope.png: {NO_FILE}",
        f"convflow: nothing: {NO_IMAGE}",
    ]


def test_json_has_an_object_for_what_has_no_answer_too(
    troubled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", *troubled) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in rows] == troubled
    assert [row["error"] for row in rows] == [None, EMPTY, NO_FILE, None, NO_IMAGE]
    assert [row["label"] for row in rows] == ["bad one", None, None, "bad one", None]
    assert rows[1] == dict.fromkeys(rows[0]) | {"path": "broken.png", "error": EMPTY}


def test_csv_has_a_line_for_what_has_no_answer_too(
    troubled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--csv", *troubled) == 2
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert {len(row) for row in rows} == {6}
    assert rows[2:4] == [["broken.png", "", "", "", "", EMPTY], ["nope.png", "", "", "", "", NO_FILE]]


def test_the_schema_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    out = capsys.readouterr().out
    for name in ("path", "label", "probability", "probabilities", "error"):
        assert f"\n  {name} " in out
    assert "exit status: 0" in out


def test_probabilities_are_calibrated_before_they_are_shown_and_decided_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = {"criterion": "f1", "positive": "good", "threshold": 0.24, "temperature": 2.0}
    write_json(place / "reports/evaluation/metrics.json", {"cnn": {"operating_point": point}})
    assert run("--json", "in/ü b/1.PNG") == 0
    (row,) = json.loads(capsys.readouterr().out)
    # the square roots of 0.9 and 0.1 stand to each other as 3 to 1
    assert row["probabilities"] == {"bad one": 0.75, "good": 0.25}
    assert (row["label"], row["probability"]) == ("good", 0.25)


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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nope.png", "in/labels"], r"^nope.png: no such file or folder; check the path$"),
        (["empty"], r"^empty: no image in it; name image files, or a folder that holds some$"),
    ],
)
def test_nothing_to_answer_stops_before_the_model_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    (place / "empty").mkdir()
    monkeypatch.setattr(predict, "open_predictor", None)
    with pytest.raises(DataError, match=message):
        run(*names)


def test_an_empty_name_is_not_the_folder_we_are_in(place: Path) -> None:
    with pytest.raises(ParamsError, match=r"^an image's name is empty; name a file or a folder"):
        run("in/9.png", "")


def test_outside_a_project_the_remedy_is_to_go_there_or_to_name_a_model(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place / "in")
    with pytest.raises(
        ParamsError, match=r"^params.yaml: no such file; .* project's folder, or give --model"
    ):
        run("9.png")
    assert run("9.png", "--model", "../models/cnn") == 0


def test_a_baseline_is_asked_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, convflow.verbs.predict, convflow.baselines.predictor\n"
        "assert not sys.modules.keys() & {'torch', 'mlflow'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
