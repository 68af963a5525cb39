"""The tables of a study: what is in them, what they are made from, and what they say in words."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as judge

from convflow.errors import DataError
from convflow.stages import folds, standing
from convflow.studying.page import leak_sentence
from convflow.studying.scores import METRICS, decide, score
from convflow.studying.standings import Played
from convflow.tables import read_about, read_table, write_table
from made_study import make_study

PARAMS = {
    "protocols": ["P1", "P2"],
    "models": ["majority", "made"],
    "reference": "majority",
    "positive": "bad",
    "slices": ["wafer"],
    "published": [
        {
            "name": "Somebody's", "protocol": "P1", "like": "made", "accuracy": 0.5, "roc_auc": None,
            "n_test": 60, "source": "A paper",
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with the answers of two models to all splits."""
    root = make_study(tmp_path_factory.mktemp("study"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(
            folds, "_contestant", lambda name, params: ("made_contestant", {"flat": name == "majority"})
        )
        patch.setattr(folds, "work_off", lambda do, jobs, n: ((job, do(job)) for job in jobs))
        patch.setenv("OMP_NUM_THREADS", "1")
        for protocol in ("P1", "P2"):
            for model in ("majority", "made"):
                folds.run(
                    Path(f"data/splits/{protocol}.parquet"), Path("data/features"),
                    Path("data/packed/networks"), Path("data/encoded"), Path("data/packed/pretrained"),
                    Path(f"folds/{protocol}/{model}"), Path("timing/x.json"),
                    params=folds.Params.model_construct(processes=1, seed=0, transfers={}),
                )  # fmt: skip
    return root


@pytest.fixture
def found(study, monkeypatch):
    """The table as JSON."""
    monkeypatch.chdir(study)
    stand()
    return json.loads(Path("results/table.json").read_text())


def stand(**changed):
    params = standing.Params(**(PARAMS | changed))
    standing.run(Path("data/splits"), Path("folds"), Path("results"), params=params)


def line(lines, **wanted):
    (found,) = [one for one in lines if wanted.items() <= one.items()]
    return found


def accuracies(protocol, model):
    """Accuracy of each split, straight from the answers."""
    found = []
    for path in sorted(Path(f"folds/{protocol}/{model}").iterdir()):
        table = read_table(path).to_pydict()
        said = np.where(np.asarray(table["p_bad"]) > 0.5, "bad", "good")
        found.append(np.mean(said == np.asarray(table["label"])))
    return np.asarray(found)


def test_means_spreads_and_intervals_are_those_of_the_answers(found):
    value_J = accuracies("P2", "made")
    told = line(found["standings"], protocol="P2", model="made", slice="all", metric="accuracy")
    train, val, test = (
        np.mean([row["side"] == side for row in read_table(Path("data/splits/P2.parquet")).to_pylist()])
        for side in ("train", "val", "test")
    )
    reach = stats.t.ppf(0.975, 5) * value_J.std(ddof=1) * math.sqrt(1 / 6 + test / (train + val))
    assert (told["n"], told["mean"]) == (6, pytest.approx(value_J.mean(), rel=1e-5))
    assert told["sd"] == pytest.approx(value_J.std(ddof=1), rel=1e-5)
    assert (told["low"], told["high"]) == pytest.approx(
        (value_J.mean() - reach, value_J.mean() + reach), rel=1e-5
    )


def test_every_model_metric_and_slice_is_there(found):
    for protocol in ("P1", "P2"):
        for model in PARAMS["models"]:
            for part in ("all", "wafer=mono", "wafer=poly"):
                for metric in METRICS:
                    line(found["standings"], protocol=protocol, model=model, slice=part, metric=metric)
    assert {one["model"] for one in found["tests"]} == {"made"}


@pytest.mark.parametrize("protocol", ["P1", "P2"])
def test_the_test_against_the_reference_is_paired(found, protocol):
    difference_J = accuracies(protocol, "made") - accuracies(protocol, "majority")
    told = line(found["tests"], protocol=protocol, metric="accuracy")
    error = difference_J.std(ddof=1) * math.sqrt(1 / 6 + found["protocols"][protocol]["test_to_train"])
    assert told["difference"] == pytest.approx(difference_J.mean(), rel=1e-5)
    assert told["t"] == pytest.approx(difference_J.mean() / error, rel=1e-5)
    assert told["p"] == pytest.approx(2 * stats.t.sf(abs(told["t"]), 5), rel=1e-4)
    assert told["p_holm"] == told["p"]


def test_the_gap_and_the_probe_stand_side_by_side(found):
    gap = line(found["gaps"], model="made")
    assert gap["protocols"] == ["P1", "P2"]
    means = [accuracies(protocol, "made").mean() for protocol in ("P1", "P2")]
    assert gap["difference"] == pytest.approx(means[0] - means[1], abs=1e-5)
    first, second = (line(found["leaks"], protocol=name, probe="file order") for name in ("P1", "P2"))
    assert first["gain"]["mean"] > second["gain"]["mean"] + 0.2  # modules run together in the file
    assert found["sentence"].startswith(
        "File order alone (which files lie next to it), without a look at any"
    )
    assert f"{100 * first['accuracy']['mean']:.1f} %" in found["sentence"]


def test_the_published_figure_stands_beside_ours(found):
    (told,) = found["published"]
    value_J = accuracies("P1", "made")
    assert told["ours_is"] == "above"
    assert told["ours"]["mean"] == pytest.approx(value_J.mean(), rel=1e-5)
    assert told["splits_that_reach_it"] == int((value_J >= 0.5).sum())
    ends = stats.binomtest(30, 60).proportion_ci(0.95, method="exact")
    assert (told["low"], told["high"]) == pytest.approx((ends.low, ends.high), rel=1e-5)


@pytest.mark.parametrize(("accuracy", "place"), [(0.99, "below"), (None, "within")])
def test_a_published_figure_may_lie_above_or_inside(study, monkeypatch, accuracy, place):
    monkeypatch.chdir(study)
    accuracy = accuracy or float(accuracies("P1", "made").mean())
    stand(published=[PARAMS["published"][0] | {"accuracy": accuracy}])
    (told,) = json.loads(Path("results/table.json").read_text())["published"]
    assert told["ours_is"] == place


def test_page_csv_and_picture_tell_the_same(found):
    page = Path("results/table.md").read_text()
    told = line(found["standings"], protocol="P1", model="made", slice="all", metric="accuracy")
    shown = f"{100 * told['mean']:.1f} [{100 * told['low']:.1f}, {100 * told['high']:.1f}]"
    assert f"| made | {shown} |" in page
    assert "### P1: 6 splits, each image by itself, stratified by label and wafer" in page
    assert "### P2: 6 splits, groups kept together, 3-fold, dealt 2 times (train" in page
    assert "*Somebody's*, one split | 50.00" in page
    assert found["sentence"] in page
    rows = list(csv.DictReader(io.StringIO(Path("results/table.csv").read_text())))
    assert len(rows) == len(found["standings"]) == 2 * 2 * 3 * len(METRICS)
    assert float(rows[0]["mean"]) == found["standings"][0]["mean"]
    assert Path("results/plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_same_answers_give_the_same_bytes(found):
    before = {path.name: path.read_bytes() for path in Path("results").iterdir()}
    stand()
    assert {path.name: path.read_bytes() for path in Path("results").iterdir()} == before


def test_missing_answers_are_told_with_the_command_that_makes_them(study, monkeypatch):
    monkeypatch.chdir(study)
    remedy = r"no answers yet; run `dvc repro dvc.yaml:folds@P1-cnn`$"
    with pytest.raises(DataError, match=rf"^folds/P1/cnn/00-0\.parquet: {remedy}"):
        stand(models=["majority", "cnn"])


def test_answers_about_other_images_are_refused(study, monkeypatch):
    monkeypatch.chdir(study)
    path = Path("folds/P1/made/01-0.parquet")
    whole = path.read_bytes()
    write_table(path, read_table(path).slice(1), about=read_about(path))
    with pytest.raises(DataError, match=r"01-0\.parquet: not about the test images of its split; remove it"):
        stand()
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reference": "cnn"}, r"^standing\.reference: 'cnn' is none of the models \(majority, made\)$"),
        ({"positive": "broken"}, r"^standing\.positive: no class 'broken'; there are bad, good$"),
        ({"slices": ["colour"]}, r"^standing\.slices: no column 'colour'; there are wafer$"),
        ({"protocols": ["P3"]}, r"^data/splits/P3\.parquet: no such table"),
    ],
)
def test_what_is_asked_for_and_not_there_is_told_in_one_line(study, monkeypatch, changed, said):
    monkeypatch.chdir(study)
    with pytest.raises(DataError, match=said):
        stand(**changed)


def test_figures_of_a_split_are_scikit_learns():
    rng = np.random.default_rng(0)
    label_N = rng.integers(0, 2, 300)
    bad_N = np.clip(0.5 + 0.3 * (label_N == 0) - 0.15 + rng.normal(0, 0.3, 300), 0.01, 0.99)
    found = score(label_N, np.column_stack([bad_N, 1 - bad_N]), 0, {})["all"]
    said_N, is_bad_N = np.where(bad_N > 0.5, 0, 1), label_N == 0
    assert found == pytest.approx(
        {
            "accuracy": judge.accuracy_score(label_N, said_N),
            "balanced_accuracy": judge.balanced_accuracy_score(label_N, said_N),
            "roc_auc": judge.roc_auc_score(is_bad_N, bad_N),
            "macro_f1": judge.f1_score(label_N, said_N, average="macro"),
            "average_precision": judge.average_precision_score(is_bad_N, bad_N),
            "log_loss": judge.log_loss(label_N, np.column_stack([bad_N, 1 - bad_N])),
        }
    )


def test_half_is_not_above_half_and_slices_count_their_own_images_only():
    prob_NK = np.asarray([[0.5, 0.5], [0.6, 0.4], [0.2, 0.8]])
    assert decide(prob_NK, 0).tolist() == [1, 0, 1]
    assert decide(prob_NK, 1).tolist() == [0, 0, 1]
    assert decide(np.asarray([[0.2, 0.45, 0.35]]), 0).tolist() == [1]
    found = score(np.asarray([1, 1, 1]), prob_NK, 0, {"site": ["a", "a", None]})
    assert (found["all"]["accuracy"], found["site=a"]["accuracy"]) == (pytest.approx(2 / 3), 0.5)
    assert math.isnan(found["all"]["roc_auc"])
    assert list(found) == ["all", "site=a"]


def test_a_probe_that_finds_nothing_explains_nothing():
    def probe(protocol, gain):
        return {
            "protocol": protocol, "probe": "file order", "sees": "its place",
            "accuracy": {"mean": 0.7}, "gain": {"mean": gain}, "majority": {"mean": 0.5},
        }  # fmt: skip

    gaps = [{"model": "svm", "difference": 0.04}, {"model": "knn", "difference": 0.06}]
    told = leak_sentence(probe("P1", 0.4), probe("P2", -0.1), gaps)
    assert told.endswith("and the accuracy of those that learn differs by +4.0 to +6.0 points.")
    told = leak_sentence(probe("P1", 0.1), probe("P2", 0.05), gaps)
    assert told.endswith("50.0 % and 50.0 %. This does not explain the gap.")


def test_no_interval_ends_outside_what_its_figure_can_be():
    scores = [{"all": {"accuracy": value, "log_loss": 3 * value}} for value in (0.98, 0.2)]
    played = Played("P1", {}, [(60, 10, 30)] * 2, {"made": scores})
    found = played.summary("made", "all", "accuracy")
    assert (found.low, found.high) == (0, 1)
    loss = played.summary("made", "all", "log_loss")
    assert loss.low == 0
    assert loss.high > 3
