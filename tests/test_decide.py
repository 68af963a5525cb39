"""The verdict: each rule on both sides of its limit, what cannot be judged, and the stage as a whole."""

import json

import numpy as np
import pytest

from convflow.errors import ConvflowError, ParamsError
from convflow.evaluation import deciding
from convflow.params import check_section
from convflow.stages.decide import Params, run
from made_models import evaluate, predictions, write_model

CLASSES = ["bad", "good"]
LABEL = ["bad", "bad", "good", "good"] * 60
ENTRY = {"value": 0.8, "low": 0.7, "high": 0.9}
UNKNOWN = {"value": None, "low": None, "high": None, "reason": "no test image of bad"}
NO_ENDS = {"value": 0.8, "low": None, "high": None}
NOTHING = {
    "require_validation": False, "leak_waiver": None, "floors": {}, "floor_on": "low", "compare": None,
    "min_recall": None, "min_slice_accuracy": None, "max_ece": None, "max_latency_ms": None,
}  # fmt: skip


def params(**changed) -> Params:
    return check_section({**NOTHING, **changed}, Params, place="params.yaml: decide")


@pytest.mark.parametrize(
    ("entry", "limit", "on", "passed"),
    [
        (ENTRY, 0.7, "low", True),
        (ENTRY, 0.701, "low", False),
        (ENTRY, 0.8, "value", True),
        (ENTRY, 0.801, "value", False),
        (NO_ENDS, 0.5, "value", True),
        (NO_ENDS, 0.5, "low", False),
        (UNKNOWN, 0.0, "value", False),
        (None, 0.0, "value", False),
        (ENTRY, None, "low", None),
    ],
)
def test_a_floor(entry, limit, on, passed):
    assert deciding.floor("accuracy", entry, limit, on).passed is passed


def test_a_floor_says_what_it_saw_or_why_it_saw_nothing():
    assert deciding.floor("accuracy", ENTRY, 0.75, "low").sentence == (
        "the lower end of accuracy is 0.700 (value 0.800); wanted at least 0.75"
    )
    sentences = {
        id(entry): deciding.floor("accuracy", entry, 0.5, "low").sentence
        for entry in (NO_ENDS, UNKNOWN, None)
    }
    assert sentences[id(NO_ENDS)].endswith("cannot be judged: there is no interval (one group or image only)")
    assert sentences[id(UNKNOWN)].endswith("cannot be judged: no test image of bad")
    assert sentences[id(None)].endswith("cannot be judged: it was not measured")


def test_recall_has_a_floor_for_every_class_or_for_those_named():
    entries = {"bad": ENTRY, "good": NO_ENDS}
    every = deciding.recalls(entries, 0.75, "value")
    assert [(rule.name, rule.passed) for rule in every] == [("recall of bad", True), ("recall of good", True)]
    assert [rule.name for rule in deciding.recalls(entries, {"bad": 0.9}, "value")] == ["recall of bad"]
    assert [rule.passed for rule in deciding.recalls(entries, None, "value")] == [None]
    with pytest.raises(ParamsError, match=r"decide\.min_recall: 'ugly' is none of the classes bad, good"):
        deciding.recalls(entries, {"ugly": 0.5}, "value")


def board(*rows):
    """A leaderboard of the candidate `cnn` and of (name, kind, value, difference's value, low)."""
    models = [{"name": "cnn", "kind": "network", "candidate": True, "versus": None}]
    models[0]["test"] = {"accuracy": {"value": 0.9}, "log_loss": {"value": 0.3}}
    for name, kind, value, apart, low in rows:
        difference = {"value": apart, "low": low, "high": None if low is None else apart + 0.1}
        turned = {"value": -apart, "low": -apart - 0.1, "high": None if low is None else -low}
        models.append({
            "name": name, "kind": kind, "candidate": False,
            "test": {"accuracy": {"value": value}, "log_loss": {"value": value and 1 - value}},
            "versus": {"difference": {"accuracy": difference, "log_loss": turned}},
        })  # fmt: skip
    return {"candidate": "cnn", "models": models}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
@pytest.mark.parametrize(
    ("apart", "low", "limit", "passed"),
    [
        (0.05, 0.01, 0.0, True),
        (0.05, 0.0, 0.0, False),
        (0.05, -0.01, 0.0, False),
        (0.05, 0.01, 0.05, True),
        (0.05, 0.01, 0.06, False),
        (-0.05, -0.1, 0.0, False),
    ],
)
def test_the_margin_over_the_best_baseline(metric, apart, low, limit, passed):
    found = deciding.margin(board(("svm", "baseline", 0.8, apart, low)), metric, limit)
    assert found.passed is passed
    assert found.value == pytest.approx(apart)
    assert found.sentence.startswith("cnn's lead over svm, the best baseline by ")


def test_the_best_baseline_is_a_baseline_and_the_best():
    rows = [("knn", "baseline", 0.7, 0.2, 0.1), ("svm", "baseline", 0.8, 0.1, -0.1)]
    rows += [("other net", "network", 0.95, -0.05, -0.1), ("odd", "baseline", None, 0.0, None)]
    for metric in ("accuracy", "log_loss"):
        best = deciding.best_baseline(board(*rows), metric)
        assert best is not None
        assert best["name"] == "svm"
    assert deciding.margin(board(*rows), "accuracy", 0.0).passed is False


def test_a_margin_that_cannot_be_judged_fails_with_the_reason():
    alone = deciding.margin(board(), "accuracy", 0.0)
    assert (alone.passed, alone.sentence) == (False, "no baseline among the models to compare accuracy with")
    one_group = deciding.margin(board(("svm", "baseline", 0.8, 0.1, None)), "accuracy", 0.0)
    assert one_group.passed is False
    assert one_group.sentence.endswith("no paired interval")
    assert deciding.margin(board(), None, None).passed is None


def slices(value):
    worst = {"column": "group", "value": "m3", "n": 20, "accuracy": {"value": value, "low": None}}
    return {
        "worst": worst, "worst_by_column": {"group": worst, "lens": None}, "min_images": 20,
        "left_out": {"site": "one value only (here)"},
    }  # fmt: skip


def test_the_worst_slice():
    assert deciding.worst_slices(slices(0.5), 0.5)[0].passed is True
    low = deciding.worst_slices(slices(0.4), 0.5)[0]
    assert low.sentence == (
        "accuracy in the worst slice, group m3 (20 images), is 0.400; wanted at least 0.5"
    )
    assert low.passed is False
    assert deciding.worst_slices(slices(0.4), None)[0].passed is None
    by_column = {"group": 0.4, "lens": 0.1, "site": 0.1, "moon": 0.1}
    found = deciding.worst_slices(slices(0.4), by_column)
    assert [rule.passed for rule in found] == [True, False, False, False]
    assert [rule.sentence.split(": ")[-1] for rule in found[1:]] == [
        "none has 20 images", "one value only (here)", "there is no such column",
    ]  # fmt: skip


def test_calibration_is_judged_without_its_noise():
    entry = {**ENTRY, "debiased": 0.05}
    assert deciding.calibration(entry, 0.05).passed is True
    assert deciding.calibration(entry, 0.04).passed is False
    assert deciding.calibration(entry, None).passed is None
    assert deciding.calibration({**NO_ENDS, "debiased": None}, 0.5).passed is False


def test_latency_has_a_ceiling():
    cost = {"latency_ms": {"1": {"median": 5.0}}, "predict_device": "CPU"}
    assert deciding.latency(cost, 5.0).passed is True
    assert deciding.latency(cost, 4.9).sentence == "one image takes 5 ms on CPU (median); wanted at most 4.9"
    assert deciding.latency(cost, 4.9).passed is False
    assert deciding.latency(cost, None).passed is None
    unknown = deciding.latency({"latency_ms": {"1": {"median": None}}}, 5.0)
    assert (unknown.passed, unknown.sentence) == (
        False, "no latency was measured; run `dvc repro -f predict`",
    )  # fmt: skip


def test_validation_must_have_passed_where_it_is_required():
    assert deciding.validation({"success": True, "worst": "warning"}, required=True).passed is True
    assert deciding.validation({"success": False, "worst": "critical"}, required=True).passed is False
    assert deciding.validation(None, required=True).passed is False
    assert deciding.validation(None, required=False).passed is None


def test_a_tripped_leak_probe_is_waived_with_a_reason_only():
    tripped = {"tripped": True, "sentence": "TRIPPED: brightness"}
    assert deciding.leak_probe(tripped, None).passed is False
    waived = deciding.leak_probe(tripped, "defects are dark")
    assert waived.passed is True
    assert waived.sentence == "the leak probe has tripped (TRIPPED: brightness); waived: defects are dark"
    assert deciding.leak_probe({"tripped": False}, None).passed is True
    assert deciding.leak_probe(None, "whatever").passed is False


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"leak_waiver": {"reason": "  "}}, r"decide\.leak_waiver\.reason: "),
        ({"leak_waiver": True}, r"decide\.leak_waiver"),
        ({"floors": {"ece": 0.5}}, r"decide\.floors"),
        ({"floors": {"accuracy": 1.5}}, r"decide\.floors\.accuracy"),
        ({"compare": {"metric": "ece", "margin": 0.0}}, r"decide\.compare\.metric"),
        ({"compare": {"metric": "accuracy", "margin": -0.1}}, r"decide\.compare\.margin"),
        ({"max_latency_ms": 0}, r"decide\.max_latency_ms"),
        ({"min_recall": {"bad": 2.0}}, r"decide\.min_recall"),
    ],
)
def test_limits_that_cannot_be_are_refused(changed, message):
    with pytest.raises(ParamsError, match=message):
        params(**changed)


@pytest.fixture
def project(tmp_path):
    """Call it with tables by model name to evaluate them and decide; returns verdict.json."""
    reports = tmp_path / "reports"
    (tmp_path / "data/splits").mkdir(parents=True)
    (tmp_path / "data/splits/leak.json").write_text('{"tripped": false, "sentence": "clear"}')
    (reports / "validation").mkdir(parents=True)
    (reports / "validation/result.json").write_text('{"success": true, "worst": null}')

    def decide(tables, **changed):
        for name, table in tables.items():
            write_model(tmp_path, name, table, CLASSES, kind="network" if name == "cnn" else "baseline")
        evaluate(tmp_path, models=list(tables))
        run(
            tmp_path / "data/splits", reports / "validation", reports / "evaluation",
            reports / "verdict.json", reports / "verdict.md", params=params(**changed),
        )  # fmt: skip
        return json.loads((reports / "verdict.json").read_text())

    return decide


ASKED = {
    "require_validation": True, "compare": {"metric": "balanced_accuracy", "margin": 0.05},
    "floors": {"balanced_accuracy": 0.8, "roc_auc": None}, "min_recall": 0.7, "min_slice_accuracy": 0.5,
    "max_ece": 0.4, "max_latency_ms": 10.0,
}  # fmt: skip


def tables(skill, seed=0, label=LABEL):
    groups = [f"m{n // 12}" for n in range(len(label))]
    return {
        name: predictions(CLASSES, label, group=groups, seed=seed + place, skill=one)
        for place, (name, one) in enumerate(skill.items())
    }


def test_a_candidate_that_holds_every_rule_is_accepted(project, tmp_path, capsys):
    found = project(tables({"cnn": 0.8, "svm": 0.3, "knn": 0.1}), **ASKED)
    assert found["accepted"] is True
    assert found["sentence"] == "cnn is accepted: all 9 rules hold"
    assert (found["candidate"], found["best_baseline"]) == ("cnn", "svm")
    assert [rule["name"] for rule in found["rules"]] == [
        "validation", "leak probe", "best baseline", "balanced accuracy", "ROC-AUC", "recall of bad",
        "recall of good", "worst slice", "calibration", "latency",
    ]  # fmt: skip
    assert [rule["name"] for rule in found["rules"] if rule["passed"] is None] == ["ROC-AUC"]
    for rule in found["rules"]:
        assert rule.keys() == {"name", "passed", "value", "limit", "sentence"}
    page = (tmp_path / "reports/verdict.md").read_text()
    assert "cnn is accepted: all 9 rules hold." in page
    assert "| ROC-AUC | not asked |  |  | not asked |" in page
    decided = [line for line in capsys.readouterr().out.splitlines() if line.startswith("decide: ")]
    assert decided == ["decide: cnn is accepted: all 9 rules hold"]


def test_a_refused_candidate_ends_the_stage_well_and_a_line_says_each_reason(project, tmp_path, capsys):
    found = project(tables({"cnn": 0.4, "svm": 0.4}), **{**ASKED, "max_latency_ms": 1.0})
    assert found["accepted"] is False
    failed = [rule["name"] for rule in found["rules"] if rule["passed"] is False]
    assert {"best baseline", "balanced accuracy", "latency"} <= set(failed)
    assert found["sentence"] == f"cnn is refused: {len(failed)} of 9 rules fail: {', '.join(failed)}"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("decide: ")]
    assert len(lines) == len(failed) + 1
    assert "| latency | **fails** | 4.5 | 1 |" in (tmp_path / "reports/verdict.md").read_text()


def test_the_same_answers_as_the_baseline_are_refused(project):
    same = tables({"cnn": 0.9})
    found = project({"cnn": same["cnn"], "svm": same["cnn"]}, compare={"metric": "accuracy", "margin": 0.0})
    rule = next(rule for rule in found["rules"] if rule["name"] == "best baseline")
    assert (rule["passed"], rule["value"]) == (False, 0.0)


def test_with_nothing_asked_but_the_leak_probe_it_alone_decides(project, tmp_path):
    found = project(tables({"cnn": 0.1}))
    assert found["sentence"] == "cnn is accepted: the one rule asked holds"
    assert found["best_baseline"] is None
    (tmp_path / "data/splits/leak.json").write_text('{"tripped": true, "sentence": "TRIPPED"}')
    assert project(tables({"cnn": 0.1}))["accepted"] is False
    waived = project(tables({"cnn": 0.1}), leak_waiver={"reason": "known"})
    assert waived["accepted"] is True
    (tmp_path / "data/splits/leak.json").unlink()
    assert project(tables({"cnn": 0.1}), leak_waiver={"reason": "known"})["accepted"] is False


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels_leave_every_model_at_chance_and_the_candidate_refused(project, tmp_path, seed):
    made = tables({"cnn": 0.8, "svm": 0.5, "knn": 0.3}, seed=10 * seed)
    shuffled = np.random.default_rng(seed).permutation(LABEL).tolist()
    made = {
        name: table.set_column(1, "label", predictions(CLASSES, shuffled)["label"])
        for name, table in made.items()
    }
    found = project(made, compare={"metric": "balanced_accuracy", "margin": 0.0}, floors={"roc_auc": 0.6})
    assert found["accepted"] is False
    metrics = json.loads((tmp_path / "reports/evaluation/metrics.json").read_text())
    for numbers in metrics.values():
        for name in ("balanced_accuracy", "roc_auc"):  # 120 images: a standard error of 0.05
            assert numbers["test"][name]["value"] == pytest.approx(0.5, abs=0.14)


def test_without_an_evaluation_the_remedy_is_named(tmp_path):
    with pytest.raises(ConvflowError, match=r"leaderboard\.json: no such file; run `dvc repro`"):
        run(tmp_path, tmp_path, tmp_path, tmp_path / "v.json", tmp_path / "v.md", params=params())


def test_one_group_leaves_nothing_to_judge_by_its_interval(project):
    alone = {
        name: predictions(CLASSES, LABEL, group=["m"] * len(LABEL), seed=place, skill=skill)
        for place, (name, skill) in enumerate({"cnn": 0.9, "svm": 0.1}.items())
    }
    found = project(alone, **ASKED)
    why = {rule["name"]: rule["sentence"] for rule in found["rules"] if rule["passed"] is False}
    assert why["best baseline"].endswith("no paired interval")
    for name in ("balanced accuracy", "recall of bad", "calibration"):
        assert "there is no interval" in why[name]


def test_a_class_without_a_test_image_fails_its_recall(project):
    label = ["bad", "good"] * 20 + ["good", "good"] * 20
    split = ["val", "val"] * 20 + ["test", "test"] * 20
    made = {"cnn": predictions(CLASSES, label, split=split, skill=0.9)}
    found = project(made, min_recall=0.1, floors={"roc_auc": 0.5, "weighted_accuracy": 0.5})
    why = {rule["name"]: rule["sentence"] for rule in found["rules"] if rule["passed"] is False}
    assert why == {
        "ROC-AUC": "the lower end of ROC-AUC cannot be judged: no test image of bad",
        "recall of bad": "the lower end of recall of bad cannot be judged: no test image of bad",
        "weighted accuracy": "the lower end of weighted accuracy cannot be judged: it was not measured",
    }
