"""The stage `evaluate`, its curves and its summary, on small made-up predictions."""

import argparse
import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from convflow.errors import ConvflowError, DataError, ModelError, ParamsError
from convflow.evaluation import figures
from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.curves import precision_recall_curve, roc_curve
from convflow.evaluation.entrants import enter, measure_all
from convflow.evaluation.plotdata import read_history
from convflow.evaluation.report import describe
from convflow.evaluation.sides import read_predictions
from convflow.evaluation.summary import summary_lines, with_interval
from convflow.tables import write_table
from convflow.verbs import summary as verb
from made_models import EPOCH, evaluate, params, predictions, write_model
from made_project import PARAMS

FILES = [
    "confusion.csv", "confusion.png", "leaderboard.csv", "leaderboard.json", "leaderboard.png",
    "metrics.json", "pr.csv", "reliability.csv", "reliability.png", "reliability_before.csv", "roc.csv",
    "roc_pr.png", "slices.csv", "slices.json", "summary.md", "training_curves.csv", "training_curves.png",
]  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Call it to run the stage on what a model `cnn` said and read metrics.json's entry."""
    monkeypatch.chdir(tmp_path)

    def run(table, classes, **changed):
        write_model(tmp_path, "cnn", table, classes, kind="network")
        return evaluate(tmp_path, **changed)["cnn"]

    return run


@pytest.fixture
def numbers(tmp_path):
    """Call it for the same entry without files and pictures."""

    def found(table, classes, **changed):
        path = tmp_path / "cnn.parquet"
        write_table(path, table, about={"classes": classes, "model": "cnn"})
        asked = params(**changed)
        said = read_predictions(path)
        one = enter(said, **asked.model_dump(include={"operating_point", "positive", "calibrate"}))
        draws = resampling(said.test.group_N, n_draws=asked.n_draws, seed=asked.seed)
        return describe(one, measure_all([one], draws)[0], draws)

    return found


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_classes_in_groups(project, tmp_path, capsys):
    label = ["bad", "bad", "good", "good"] * 20
    group = [f"m{n // 8}" for n in range(80)]
    table = predictions(["bad", "good"], label, group=group, weight=[1.0, 0.5] * 40)
    found = project(table, ["bad", "good"], operating_point="f1", positive="bad")
    reports = tmp_path / "reports/evaluation"
    assert sorted(path.name for path in reports.iterdir()) == FILES
    assert found["protocol"] == (
        "one split; test n=40 in 10 groups; intervals: 95 % bootstrap over groups, 200 draws, seed 0"
    )
    assert found["operating_point"]["positive"] == "bad"
    assert found["operating_point"]["chosen_on"] == "val"
    rows = rows_of(reports / "confusion.csv")
    right = np.mean([row["actual"] == row["predicted"] for row in rows])
    assert found["test"]["accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    assert found["test"]["weighted_accuracy"]["value"] == pytest.approx(right, abs=1e-6)
    for entry in found["test"].values():
        if "value" in entry:
            assert entry["low"] <= entry["value"] <= entry["high"]
    assert found["majority"]["gain"]["value"] == pytest.approx(
        found["test"]["accuracy"]["value"] - found["majority"]["accuracy"]["value"], abs=2e-6
    )
    assert "evaluate: cnn: accuracy" in capsys.readouterr().out


def test_neither_threshold_nor_temperature_looks_at_test(numbers):
    label = ["bad", "bad", "good", "good"] * 10
    table = predictions(["bad", "good"], label, skill=0.3)
    asked = {"operating_point": "accuracy", "calibrate": "temperature"}
    first = numbers(table, ["bad", "good"], **asked)["operating_point"]
    assert first["temperature"] != 1
    sides, labels = table["split"].to_pylist(), table["label"].to_pylist()
    swap = {"bad": "good", "good": "bad"}
    other = [swap[a] if side == "test" else a for a, side in zip(labels, sides, strict=True)]
    turned = table.set_column(1, "label", pa.array(other))
    assert numbers(turned, ["bad", "good"], **asked)["operating_point"] == first


def test_the_threshold_is_one_of_calibrated_probabilities(numbers):
    table = predictions(["bad", "good"], ["bad", "bad", "good", "good"] * 30, skill=0.3)
    found = numbers(table, ["bad", "good"], operating_point="balanced_accuracy", calibrate="temperature")
    assert found["operating_point"]["temperature"] != 1
    assert found["operating_point"]["threshold"] != 0.5
    assert found["operating_point"]["value_on_val"] == found["val"]["balanced_accuracy"]


def test_the_same_bytes_twice(project, tmp_path):
    table = predictions(["a", "b", "c"], ["a", "b", "c", "a", "b", "c"] * 4)
    reports = tmp_path / "reports/evaluation"
    project(table, ["a", "b", "c"])
    first = {path.name: path.read_bytes() for path in reports.iterdir()}
    project(table, ["a", "b", "c"])
    assert {path.name: path.read_bytes() for path in reports.iterdir()} == first


def test_a_class_absent_from_test_and_one_from_val_are_named(project, tmp_path):
    label = ["a", "b", "a", "b", "c", "c", "b", "a"]
    split = ["val", "val", "test", "test", "test", "test", "val", "test"]
    classes = ["a", "b", "c", "$d_{x"]
    found = project(predictions(classes, label, split=split), classes)
    assert found["absent_classes"] == {"test": ["$d_{x"], "val": ["c", "$d_{x"]}
    assert found["test"]["recall"]["$d_{x"] == {
        "value": None, "low": None, "high": None, "reason": "no test image of $d_{x",
    }  # fmt: skip
    assert found["test"]["roc_auc"]["note"] == "mean over the classes present; absent: $d_{x"
    assert "NaN" not in (tmp_path / "reports/evaluation/metrics.json").read_text()


def test_test_images_of_one_class_give_reasons_and_no_val_gives_no_val_numbers(numbers):
    table = predictions(["a", "b"], ["b"] * 6, split=["test"] * 6)
    found = numbers(table, ["a", "b"])
    assert found["val"] is None
    assert "weighted_accuracy" not in found["test"]  # all weights are 1
    assert found["test"]["roc_auc"]["reason"] == "no test image of a"
    assert found["test"]["roc_auc"]["value"] is None
    assert found["test"]["accuracy"] == {"value": 1.0, "low": pytest.approx(0.540742), "high": 1.0}


def test_many_classes_in_any_script(project):
    classes = sorted([f"class {n}" for n in range(24)] + ["猫"])
    label = [name for name in classes for _ in range(4)]
    found = project(predictions(classes, label), classes)
    assert np.shape(found["confusion"]) == (25, 25)


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (lambda t: t.drop_columns(["p_b"]), DataError, "no column p_b; run `dvc repro -f predict`"),
        (
            lambda t: t.set_column(1, "label", pa.array(["z"] * 4)),
            DataError,
            "label 'z' is none of",
        ),
        (lambda t: t.set_column(0, "split", pa.array(["val"] * 4)), DataError, "no test image"),
    ],
)
def test_a_table_that_is_not_predictions_is_refused(numbers, break_it, error, message):
    with pytest.raises(error, match=message):
        numbers(break_it(predictions(["a", "b"], ["a", "a", "b", "b"])), ["a", "b"])


def test_a_positive_class_that_is_none_is_refused(numbers):
    with pytest.raises(ParamsError, match=r"evaluate\.positive: 'c' is none of the classes a, b"):
        numbers(predictions(["a", "b"], ["a", "a", "b", "b"]), ["a", "b"], positive="c")


def test_a_cut_line_of_history_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps(EPOCH) + '\n{"epoch": 2, "tr')
    with pytest.raises(ModelError, match="line 2 is no whole epoch"):
        read_history(path)


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    inside_N, score_N = rng.random(60) < 0.4, np.round(rng.random(60), 1 + seed % 2)
    roc = roc_curve(inside_N, score_N)
    x, y, _ = reference.roc_curve(inside_N, score_N, drop_intermediate=False)
    assert len(roc.x) <= len(x)
    assert reference.auc(roc.x, roc.y) == pytest.approx(reference.auc(x, y))
    assert set(zip(roc.x, roc.y, strict=True)) <= set(zip(x, y, strict=True))
    found = precision_recall_curve(inside_N, score_N)
    precision, recall, _ = reference.precision_recall_curve(inside_N, score_N)
    np.testing.assert_allclose(found.x[1:], recall[-2::-1])
    np.testing.assert_allclose(found.y[1:], precision[-2::-1])


def test_curves_of_rungs_are_called_by_their_names():
    line = {"train_loss": 0.1, "train_accuracy": 1.0, "val_loss": 0.2, "val_accuracy": 0.9}
    history = [{"epoch": n, "rung": name, **line} for n, name in enumerate(("probe", "temperature"), start=1)]
    axes = figures._training(history, 2).axes[0]
    assert (axes.get_xlabel(), axes.texts[0].get_text()) == ("rung", "kept: temperature")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["probe", "temperature"]


def test_the_summary_says_what_how_good_and_where(project, capsys, tmp_path):
    table = predictions(["a", "b"], ["a", "a", "b", "b"] * 8)
    found = project(table, ["a", "b"])
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "reports/verdict.json").write_text('{"sentence": "cnn is refused"}')
    (tmp_path / "data/splits").mkdir(parents=True)
    (tmp_path / "data/splits/leak.json").write_text('{"sentence": "not tripped"}')
    capsys.readouterr()
    assert verb.run(argparse.Namespace(json=False, markdown=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cnn: small, 1.50 M parameters, weights of epoch 1"
    card = {
        "arch": "transfer",
        "backbone": {"source": "weights/low"},
        "chosen_rung": "views",
        "best_epoch": 2,
    }
    (tmp_path / "models/cnn/card.json").write_text(json.dumps(card))
    assert verb.run(argparse.Namespace(json=False, markdown=False)) == 0
    assert capsys.readouterr().out.startswith("cnn: on weights/low, rung views\n")
    assert lines[1].split() == ["accuracy", *with_interval(found["test"]["accuracy"]).split()]
    assert f"  protocol: {found['protocol']}" in lines
    assert lines[-8:] == [
        "  leak probe: not tripped",
        "  leaderboard by balanced accuracy (candidate: cnn; p: McNemar's, after Holm):",
        f"    cnn  {with_interval(found['test']['balanced_accuracy'])}",
        "  verdict: cnn is refused",
        "  numbers: reports/evaluation/summary.md",
        "  plots: reports/evaluation",
        "  not registered yet; run `dvc repro`",
        "  browse: make ui (http://127.0.0.1:5000)",
    ]
    assert verb.run(argparse.Namespace(json=True, markdown=False)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["cnn"] == found
    assert told["leaderboard"]["candidate"] == "cnn"
    assert told["verdict"] == {"sentence": "cnn is refused"}


def test_a_summary_needs_neither_card_nor_leak_probe(numbers):
    found = numbers(predictions(["a", "b"], ["a", "a", "b", "b"]), ["a", "b"])
    assert summary_lines("cnn", found)[0] == "cnn:"


def test_a_summary_after_a_stopped_validation_says_that_its_figures_are_old(project, capsys, tmp_path):
    project(predictions(["a", "b"], ["a", "a", "b", "b"] * 8), ["a", "b"])
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "reports/validation").mkdir(parents=True)
    for success in (True, False):
        (tmp_path / "reports/validation/result.json").write_text(json.dumps({"success": success}))
        assert verb.run(argparse.Namespace(json=False, markdown=False)) == 0
        assert ("validation stopped the last run" in capsys.readouterr().err) is not success


def test_a_summary_outside_a_project_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConvflowError, match="run convflow from the project's folder"):
        verb.run(argparse.Namespace(json=False, markdown=False))


def test_a_summary_before_any_evaluation_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    with pytest.raises(ConvflowError, match=r"metrics.json: no such file; run `dvc repro`"):
        verb.run(argparse.Namespace(json=False, markdown=False))
