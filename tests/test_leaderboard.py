"""The leaderboard: several models on the same images, what each costs, and refusals in one line."""

import argparse
import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from statsmodels.stats.multitest import multipletests

from convflow.errors import ConvflowError, DataError, ParamsError
from convflow.evaluation.board_text import markdown, short
from convflow.evaluation.metrics import SCALARS
from convflow.evaluation.sides import aligned, read_predictions
from convflow.tables import write_table
from convflow.verbs import summary as verb
from made_models import evaluate, params, predictions, write_model

CLASSES = ["bad", "good"]
LABEL = ["bad", "bad", "good", "good"] * 30
MODELS = ["cnn", "svm", "knn"]
SKILL = {"cnn": 0.6, "svm": 0.4, "knn": 0.2}


def write_models(root, **more) -> None:
    for seed, name in enumerate(MODELS):
        table = predictions(CLASSES, LABEL, seed=seed, skill=SKILL[name], **more)
        write_model(root, name, table, CLASSES, kind="network" if name == "cnn" else "baseline")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which three models were evaluated, in groups."""
    root = tmp_path_factory.mktemp("leaderboard")
    write_models(root, group=[f"m{n // 10}" for n in range(120)])
    evaluate(root, models=MODELS, calibrate="temperature")
    return root


@pytest.fixture
def board(finished):
    return json.loads((finished / "reports/evaluation/leaderboard.json").read_text())


def test_the_best_stands_first_and_everything_has_its_interval(board):
    ranked = [row["test"]["balanced_accuracy"]["value"] for row in board["models"]]
    assert ranked == sorted(ranked, reverse=True)
    assert [row["name"] for row in board["models"] if row["candidate"]] == ["cnn"]
    for row in board["models"]:
        for name in SCALARS:
            entry = row["test"][name]
            assert entry["low"] <= entry["value"] <= entry["high"]
    assert {row["name"]: row["kind"] for row in board["models"]} == {
        "cnn": "network", "svm": "baseline", "knn": "baseline",
    }  # fmt: skip


def test_each_other_model_is_compared_with_the_candidate(board):
    rows = {row["name"]: row for row in board["models"]}
    assert rows["cnn"]["versus"] is None
    for name in ("svm", "knn"):
        for metric, apart in rows[name]["versus"]["difference"].items():
            values = [rows[one]["test"][metric]["value"] for one in ("cnn", name)]
            assert apart["value"] == pytest.approx(values[0] - values[1], abs=2e-6)
            assert apart["low"] <= apart["value"] <= apart["high"] or metric == "ece"
    tests = [rows[name]["versus"]["mcnemar"] for name in ("svm", "knn")]
    judged = multipletests([test["p"] for test in tests], method="holm")[1]
    assert [test["p_holm"] for test in tests] == pytest.approx(judged.tolist(), rel=1e-4)
    assert board["mcnemar"]["pairs"] == 2
    assert "takes images as independent" in board["mcnemar"]["note"]


def test_it_says_what_each_model_costs(board):
    assert board["models"][0]["cost"] == {
        "fit_device": "CPU", "fit_seconds": 12.5, "flops": 2000, "n_parameters": 1_500_000,
        "latency_ms": {"1": {"median": 4.5, "p95": 6.0}, "64": {"median": 1.5, "p95": 2.0}},
        "predict_device": "CPU", "size_bytes": 1000, "threads": 1,
    }  # fmt: skip


def test_the_csv_says_the_same(board, finished):
    with (finished / "reports/evaluation/leaderboard.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row, told in zip(rows, board["models"], strict=True):
        assert row["model"] == told["name"]
        assert float(row["roc_auc_low"]) == told["test"]["roc_auc"]["low"]
        assert float(row["latency_ms_64"]) == 1.5
        p_holm = told["versus"]["mcnemar"]["p_holm"] if told["versus"] else None
        assert (float(row["mcnemar_p_holm"]) if row["mcnemar_p_holm"] else None) == p_holm


def test_the_table_for_a_page(finished, monkeypatch, capsys, board):
    monkeypatch.chdir(finished)
    (finished / "params.yaml").write_text("evaluate: {}")
    assert verb.run(argparse.Namespace(json=False, markdown=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == markdown(board)
    assert [line.count("|") for line in lines[:5]] == [11] * 5
    assert lines[2].startswith("| **cnn (small)** | 0.")
    assert lines[2].endswith("|  |  | 12 s | 4.5 / 1.5 | 1 kB |")
    assert board["protocol"][1:] in lines[6]
    assert "corrected for 2 models by Holm; it takes images as independent" in lines[6]


def test_only_the_leaderboard_knows_a_clock(finished):
    reports = finished / "reports/evaluation"
    before = {path.name: path.read_bytes() for path in reports.iterdir()}
    for path in (finished / "reports/timing").glob("*.json"):
        path.write_text('{"seconds": 99.0, "device": "another", "latency_ms": {"1": {"median": 70.0}}}')
    evaluate(finished, models=MODELS, calibrate="temperature")
    changed = {path.name for path in reports.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {"leaderboard.json", "leaderboard.csv", "leaderboard.png"}


@pytest.mark.parametrize(
    "text",
    [
        '{"latency_ms": {"1": 3}, "seconds": "long"}',
        *(pytest.param(text, marks=pytest.mark.slow) for text in (None, "{cut", "[]")),
    ],
)
def test_timing_that_is_missing_or_partial_is_null(tmp_path, text):
    write_models(tmp_path)
    for path in (tmp_path / "reports/timing").iterdir():
        path.unlink() if text is None else path.write_text(text)
    (tmp_path / "models/svm/weights").unlink()
    evaluate(tmp_path, models=["cnn", "svm"])
    board = json.loads((tmp_path / "reports/evaluation/leaderboard.json").read_text())
    cost = next(row["cost"] for row in board["models"] if row["name"] == "svm")
    nothing = {"median": None, "p95": None}
    assert cost == {
        "fit_device": None, "fit_seconds": None, "flops": None, "n_parameters": 1_500_000,
        "latency_ms": {"1": nothing, "64": nothing}, "predict_device": None, "size_bytes": None,
        "threads": None,
    }  # fmt: skip
    assert any("| - | - / - | - |" in line for line in markdown(board))


def test_a_baseline_may_be_the_candidate(tmp_path):
    write_models(tmp_path)
    evaluate(tmp_path, models=["svm", "knn"], candidate="svm")
    board = json.loads((tmp_path / "reports/evaluation/leaderboard.json").read_text())
    assert board["candidate"] == "svm"
    assert (tmp_path / "reports/evaluation/training_curves.csv").read_text().count("\n") == 1


def test_rows_and_classes_in_another_order_are_the_same_rows(tmp_path):
    lead = predictions(CLASSES, LABEL)
    mixed = lead.take(np.random.default_rng(0).permutation(len(LABEL)))
    write_table(tmp_path / "cnn.parquet", lead, about={"classes": CLASSES, "model": "cnn"})
    write_table(tmp_path / "svm.parquet", mixed, about={"classes": CLASSES[::-1], "model": "svm"})
    one, other = (read_predictions(tmp_path / f"{name}.parquet") for name in ("cnn", "svm"))
    assert other.test.image_N != one.test.image_N
    same = aligned(other, one, tmp_path / "svm.parquet")
    assert same.model == "svm"
    for side in ("val", "test"):
        np.testing.assert_array_equal(getattr(same, side).prob_NK, getattr(one, side).prob_NK)


def other_label(table: pa.Table) -> pa.Table:
    labels = table["label"].to_pylist()
    return table.set_column(1, "label", pa.array(["good" if name == "bad" else "bad" for name in labels]))


@pytest.mark.parametrize(
    ("break_it", "classes", "message"),
    [
        (lambda t: t.slice(4), CLASSES, r"other val images than the candidate's \(58 against 60, .*0\.png\)"),
        (lambda t: pa.concat_tables([t, t.slice(1, 1)]), CLASSES, r"other test images .*\(61 against 60\)"),
        (other_label, CLASSES, r"0\.png is 'good' there and 'bad' for the candidate"),
        (lambda t: t.append_column("p_ugly", t["p_bad"]), [*CLASSES, "ugly"], "but cnn knows bad, good"),
    ],
)
def test_a_model_asked_about_something_else_is_named(tmp_path, break_it, classes, message):
    write_models(tmp_path)
    table = break_it(predictions(CLASSES, LABEL))
    write_table(tmp_path / "predictions/svm.parquet", table, about={"classes": classes, "model": "svm"})
    with pytest.raises(DataError, match=rf"svm\.parquet: .*{message}") as caught:
        evaluate(tmp_path, models=["cnn", "svm"])
    assert "\n" not in str(caught.value)


def test_predictions_that_are_missing_or_anothers_are_named(tmp_path):
    write_models(tmp_path)
    with pytest.raises(DataError, match=r"forest\.parquet: no such table; run `dvc repro`"):
        evaluate(tmp_path, models=["cnn", "forest"])
    (tmp_path / "predictions/knn.parquet").rename(tmp_path / "predictions/svm.parquet")
    with pytest.raises(DataError, match=r"svm\.parquet: holds what 'knn' said"):
        evaluate(tmp_path, models=["cnn", "svm"])
    (tmp_path / "models/cnn/card.json").unlink()
    with pytest.raises(ConvflowError, match=r"models/cnn/card\.json: no such file"):
        evaluate(tmp_path, models=["cnn"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"candidate": "vit"}, r"evaluate\.candidate: 'vit' is none of evaluate\.models \(cnn, svm\)"),
        ({"models": ["cnn", "svm", "svm"]}, r"evaluate\.models: 'svm' stands there twice"),
    ],
)
def test_models_that_cannot_be_are_refused(tmp_path, changed, message):
    with pytest.raises(ParamsError, match=message):
        evaluate(tmp_path, **{"models": ["cnn", "svm"], **changed})


def test_temperature_is_told_with_what_it_did(tmp_path):
    write_models(tmp_path)
    found = evaluate(tmp_path, models=["cnn", "svm"], calibrate="temperature")
    for numbers in found.values():
        told = numbers["calibration"]
        assert told["temperature"] == numbers["operating_point"]["temperature"]
        after = told["test"]["after"]
        assert after["log_loss"] == numbers["test"]["log_loss"]["value"]
        assert after["ece"] == numbers["test"]["ece"]["value"]
    assert found["svm"]["calibration"]["temperature"] < 1  # a mean of noise and truth is never sure enough
    assert found["svm"]["calibration"]["test"]["before"]["log_loss"] > after["log_loss"]


def test_no_calibration_leaves_the_probabilities_alone(tmp_path):
    write_models(tmp_path)
    told = evaluate(tmp_path, models=["cnn"], calibrate="none")["cnn"]["calibration"]
    assert told["temperature"] == 1
    assert told["chosen_on"] is None
    assert told["test"]["before"] == told["test"]["after"]


@pytest.mark.slow
def test_two_hundred_classes_and_some_missing(tmp_path):
    classes = [f"c{n:03}" for n in range(200)]
    label = [name for name in classes[:199] for _ in range(3)]
    split = ["val", "test", "test"] * 199
    split[0] = "test"  # no val image of c000, no test image of c199
    for name in ("cnn", "svm"):
        table = predictions(classes, label, split=split, skill=3.0)
        write_model(tmp_path, name, table, classes, kind="network")
    found = evaluate(tmp_path, models=["cnn", "svm"], calibrate="temperature")["cnn"]
    assert found["absent_classes"] == {"val": ["c000", "c199"], "test": ["c199"]}
    assert found["test"]["balanced_accuracy"]["note"].endswith("absent: c199")


@pytest.mark.parametrize(
    ("number", "text"), [(None, "-"), (0.012, "0.012"), (4_931_192, "4.93 M"), (2.1e8, "210 M"), (3e9, "3 G")]
)
def test_large_numbers_get_a_unit(number, text):
    assert short(number) == text


def test_params_name_what_is_wrong():
    with pytest.raises(ValueError, match="min_slice"):
        params(min_slice=0)
