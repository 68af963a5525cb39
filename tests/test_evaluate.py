"""The stage `evaluate`, its curves and its summary, on small made-up predictions."""

import argparse
import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from convflow.errors import ConvflowError, DataError, ModelError, ParamsError
from convflow.evaluation.curves import precision_recall_curve, roc_curve
from convflow.evaluation.report import evaluate_model
from convflow.evaluation.sides import read_predictions
from convflow.evaluation.summary import summary_lines, with_interval
from convflow.stages.evaluate import Params, run
from convflow.tables import write_table
from convflow.verbs import summary as verb
from made_project import PARAMS

FILES = [
    "confusion.csv", "confusion.png", "metrics.json", "pr.csv", "reliability.csv", "reliability.png",
    "roc.csv", "roc_pr.png", "summary.md", "training_curves.csv", "training_curves.png",
]  # fmt: skip
EPOCH = {
    "epoch": 1,
    "lr": 0.1,
    "train_loss": 0.9,
    "val_loss": 1.0,
    "train_accuracy": 0.5,
    "val_accuracy": 0.4,
}


def params(**changed) -> Params:
    known = {"operating_point": "argmax", "positive": None, "n_draws": 200, "seed": 0}
    return Params.model_validate({**known, **changed})


def predictions(classes, label, *, group=None, weight=None, split=None, seed=0) -> pa.Table:
    rng = np.random.default_rng(seed)
    n_images = len(label)
    index_N = np.array([classes.index(name) for name in label])
    score_NK = rng.random((n_images, len(classes))) + np.eye(len(classes))[index_N]
    prob_NK = (score_NK / score_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    columns = {
        "split": split or ["val", "test"] * (n_images // 2),
        "label": label,
        "group": pa.array(group or [None] * n_images, pa.string()),
        "weight": pa.array(weight or [1.0] * n_images, pa.float64()),
    }
    columns |= {f"p_{name}": prob_NK[:, k] for k, name in enumerate(classes)}
    return pa.table(columns)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a model `cnn`; call it to run the stage on a table and read metrics.json's entry."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "models/cnn"
    model.mkdir(parents=True)
    card = {"arch": "small", "n_parameters": 1_500_000, "best_epoch": 1}
    (model / "card.json").write_text(json.dumps(card))
    (model / "history.jsonl").write_text(json.dumps(EPOCH) + "\n")

    def evaluate(table, classes, **changed):
        path = tmp_path / "predictions/cnn.parquet"
        write_table(path, table, about={"classes": classes, "model": "cnn"})
        run(path, model, tmp_path / "reports/evaluation", params=params(**changed))
        return json.loads((tmp_path / "reports/evaluation/metrics.json").read_text())["cnn"]

    return evaluate


@pytest.fixture
def numbers(tmp_path):
    """Call it for the same entry without files and pictures."""

    def evaluate(table, classes, **changed):
        path = tmp_path / "cnn.parquet"
        write_table(path, table, about={"classes": classes, "model": "cnn"})
        return evaluate_model(read_predictions(path), **params(**changed).model_dump())[0]

    return evaluate


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


def test_the_threshold_does_not_look_at_test(numbers):
    label = ["bad", "bad", "good", "good"] * 10
    table = predictions(["bad", "good"], label)
    first = numbers(table, ["bad", "good"], operating_point="accuracy")["operating_point"]
    sides, labels = table["split"].to_pylist(), table["label"].to_pylist()
    swap = {"bad": "good", "good": "bad"}
    other = [swap[a] if side == "test" else a for a, side in zip(labels, sides, strict=True)]
    turned = table.set_column(1, "label", pa.array(other))
    assert numbers(turned, ["bad", "good"], operating_point="accuracy")["operating_point"] == first


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


def test_a_cut_line_of_history_is_named(project, tmp_path):
    (tmp_path / "models/cnn/history.jsonl").write_text(json.dumps(EPOCH) + '\n{"epoch": 2, "tr')
    with pytest.raises(ModelError, match="line 2 is no whole epoch"):
        project(predictions(["a", "b"], ["a", "a", "b", "b"]), ["a", "b"])


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


def test_the_summary_says_what_how_good_and_where(project, capsys, tmp_path):
    table = predictions(["a", "b"], ["a", "a", "b", "b"] * 8)
    found = project(table, ["a", "b"])
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "data/splits").mkdir(parents=True)
    (tmp_path / "data/splits/leak.json").write_text('{"sentence": "not tripped"}')
    capsys.readouterr()
    assert verb.run(argparse.Namespace(json=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cnn: small, 1.50 M parameters, weights of epoch 1"
    assert lines[1].split() == ["accuracy", *with_interval(found["test"]["accuracy"]).split()]
    assert f"  protocol: {found['protocol']}" in lines
    assert lines[-5:] == [
        "  leak probe: not tripped",
        "  numbers: reports/evaluation/summary.md",
        "  plots: reports/evaluation",
        "  not registered yet; run `dvc repro`",
        "  browse: make ui (http://127.0.0.1:5000)",
    ]
    assert verb.run(argparse.Namespace(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["cnn"] == found


def test_a_summary_needs_neither_card_nor_leak_probe(numbers):
    found = numbers(predictions(["a", "b"], ["a", "a", "b", "b"]), ["a", "b"])
    assert summary_lines({"cnn": found}, {})[0] == "cnn:"


def test_a_summary_before_any_evaluation_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConvflowError, match=r"metrics.json: no such file; run `dvc repro`"):
        verb.run(argparse.Namespace(json=False))
