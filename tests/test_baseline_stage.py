"""The stage `baseline` on tiny packed folders: what it leaves, what it says, what it refuses."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convflow.baselines.kinds import KINDS
from convflow.errors import DataError, ParamsError
from convflow.files import digest_file, digest_folder, digest_json, read_json
from convflow.models import load_predictor
from convflow.params import check_section
from convflow.stages import baseline as stage
from convflow.stages import features as features_stage
from made_features import GRIDS, SIDE, made_packed

FEATURES = {
    "hog_cells": 4,
    "hog_orientations": 6,
    "lbp_radii": [1],
    "histogram_bins": 8,
    "raw_px": 0,
}
PARAMS = {
    "kinds": ["majority", "knn"],
    "folds": 3,
    "seed": 0,
    "criterion": "balanced_accuracy",
    "knn": GRIDS["knn"],
    "svm": GRIDS["svm"],
    "logistic": GRIDS["logistic"],
    "device": "cpu",
}
AGAIN = """
import sys
sys.path.insert(0, {tests!r})
from test_baseline_stage import fit_here
for kind in ("knn", "svm", "logistic"):
    fit_here(kind)
"""


def section(**changed) -> stage.Params:
    return check_section({**PARAMS, **changed}, stage.Params, place="params.yaml: baseline")


def fit_here(kind: str, **changed) -> Path:
    """Run the stage in the current folder."""
    model = Path("models") / kind
    paths = [Path(name) for name in ("features", "packed/train", "packed/val")]
    stage.run(*paths, model, Path(f"timing/fit-{kind}.json"), params=section(**changed))
    return model


def describe_here() -> None:
    params = check_section(
        {"packed_px": SIDE, **FEATURES}, features_stage.Params, place="params.yaml: features"
    )
    features_stage.run(Path("packed/train"), Path("packed/val"), Path("features"), params=params)


def pack(label_N, val_label_N, n_classes, **changed) -> None:
    made_packed(Path("packed/train"), label_N, n_classes, **changed)
    made_packed(Path("packed/val"), val_label_N, n_classes, seed=1)
    describe_here()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(folder):
    pack(np.arange(36) % 3, np.arange(12) % 3, 3)
    return folder


def test_a_fit_leaves_a_whole_model_its_timing_and_a_line(project, capsys):
    capsys.readouterr()
    model = fit_here("svm")
    assert sorted(path.name for path in model.iterdir()) == ["card.json", "manifest.txt", "model.skops"]
    card = read_json(model / "card.json")
    search = {
        "grid": GRIDS["svm"], "folds": 3, "seed": 0, "criterion": "balanced_accuracy", "device": "cpu",
    }  # fmt: skip
    calibration, n_parameters = card.pop("calibration"), card.pop("n_parameters")
    candidates, val = card.pop("search"), card.pop("val")
    assert card == {
        "format": 1,
        "kind": "baseline",
        "name": "svm",
        "arch": "svm",
        "chosen": {"c": 1.0, "gamma": 0.3, "weighing": "by sort"},
        "notes": [],
        "classes": ["class 000", "class 001", "class 002"],
        "n_by_class": {"class 000": 12, "class 001": 12, "class 002": 12},
        "input": {"size_px": SIDE, "channels": 1, "fit": "stretch"},
        "features": FEATURES,
        "weights": {"file": "model.skops", "sha256": digest_file(model / "model.skops")},
        "inputs": {
            "features": digest_folder(Path("features")),
            "train": digest_folder(Path("packed/train")),
            "val": digest_folder(Path("packed/val")),
            "params": digest_json(search),
        },
    }
    assert candidates == [
        {"c": c, "gamma": 0.3, "weighing": weighing, "balanced_accuracy": 1.0}
        for weighing in ("by sort", "by feature", "texture")
        for c in (1.0, 10.0)
    ]
    assert (len(calibration["bias"]), calibration["scale"] > 0, calibration["note"]) == (3, True, None)
    assert n_parameters > 1000
    prob_NK = load_predictor(model).predict_proba(np.load("packed/val/pixels.npy"))
    label_N = np.load("packed/val/labels.npy")
    assert val["loss"] == pytest.approx(-np.log(prob_NK[np.arange(12), label_N]).mean(), rel=1e-5)
    assert val["accuracy"] == (prob_NK.argmax(axis=1) == label_N).mean() == 1
    assert capsys.readouterr().out == (
        "baseline: svm; c 1.0, gamma 0.3, weighing by sort; of 6 candidates by cross-validation, "
        f"balanced_accuracy 1.0; val loss {val['loss']:.4f}, accuracy 1.0000\n"
    )
    timing = read_json(Path("timing/fit-svm.json"))
    assert sorted(timing) == [
        "device", "images_per_second", "peak_memory_mib", "python", "requirements_lock", "scikit_learn",
        "seconds",
    ]  # fmt: skip
    assert timing["seconds"] > 0
    assert timing["peak_memory_mib"] > 50


def test_majority_leaves_its_shares_and_no_features(project, capsys):
    capsys.readouterr()
    model = fit_here("majority")
    card = read_json(model / "card.json")
    assert read_json(model / "shares.json") == {"class_P": [0, 1, 2], "share_P": pytest.approx([1 / 3] * 3)}
    assert (card["chosen"], card["search"], card["n_parameters"]) == ({}, [], 3)
    assert card["calibration"] == {"scale": 1.0, "bias": [0, 0, 0], "note": None}
    assert card["val"] == {"loss": pytest.approx(math.log(3), abs=1e-5), "accuracy": pytest.approx(1 / 3)}
    assert capsys.readouterr().out == "baseline: majority; val loss 1.0986, accuracy 0.3333\n"


@pytest.mark.slow
def test_the_same_inputs_leave_the_same_bytes_in_any_process_with_any_threads(project):
    def contents():
        return {path: path.read_bytes() for path in sorted(Path("models").rglob("*.*"))}

    for kind in ("knn", "svm", "logistic"):
        fit_here(kind)
    first = contents()
    assert len(first) == 9
    code = AGAIN.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    assert contents() == first
    fit_here("svm", svm={"c": [3.0], "gamma": [0.1]})
    assert contents() != first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_classes", "train", "val"),
    [
        (2, np.arange(20) % 2, np.arange(8) % 2),
        (10, np.arange(60) % 10, np.arange(20) % 9),  # the last class is missing from val
        (10, np.arange(60) % 9, np.arange(20) % 9),  # the last class is in test alone
        pytest.param(200, np.arange(400) % 200, np.arange(199), marks=pytest.mark.slow),
        (2, np.arange(20) % 2, []),
        (3, [0] * 20 + [1, 2], [0, 1, 2]),
    ],
)
def test_sets_of_all_sizes_are_fitted_without_a_warning(kind, n_classes, train, val):
    pack(train, val, n_classes)
    predictor = load_predictor(fit_here(kind))
    prob_NK = predictor.predict_proba(np.load("packed/train/pixels.npy"))
    assert prob_NK.shape == (len(train), n_classes)
    np.testing.assert_allclose(prob_NK.sum(axis=1), 1, atol=1e-5)
    assert (prob_NK > 0).all()
    if kind != "majority" and n_classes == 10:
        assert (prob_NK.argmax(axis=1) == train).mean() > 0.9


def test_without_val_a_note_says_that_nothing_is_calibrated(capsys):
    pack(np.arange(20) % 2, [], 2)
    capsys.readouterr()
    card = read_json(fit_here("logistic") / "card.json")
    note = "val has no image; probabilities are not calibrated"
    assert card["calibration"] == {"scale": 1.0, "bias": [0, 0], "note": note}
    assert (card["val"], card["notes"]) == ({"loss": None, "accuracy": None}, [note])
    assert capsys.readouterr().out.endswith(f"balanced_accuracy 1.0; {note}\n")


@pytest.mark.parametrize(
    ("method", "together"), [("grouped", True), ("stratified", False), ("column", False)]
)
def test_groups_count_where_the_split_keeps_them_together(method, together, monkeypatch, capsys):
    group = [None if n < 4 else f"g{n // 6}" for n in range(24)]
    pack(np.arange(24) % 2, np.arange(8) % 2, 2, group=group, method=method)
    seen = []
    find = stage.fit_baseline
    monkeypatch.setattr(stage, "fit_baseline", lambda *given: seen.append(given[1].group_N) or find(*given))
    fit_here("knn")
    said = capsys.readouterr().out
    if together:
        assert seen[0].tolist() == [0, 1, 2, 3] + [4] * 2 + [5] * 6 + [6] * 6 + [7] * 6
        assert "by cross-validation by group," in said
    else:
        assert seen == [None]
        assert "by cross-validation," in said


def test_weights_are_taken_from_the_packed_folder():
    pack([0, 0, 1], [0, 1], 2, weight_N=[0.5, 0.5, 3.0])
    model = fit_here("majority")
    assert read_json(model / "shares.json")["share_P"] == [0.25, 0.75]


@pytest.mark.slow
def test_stages_and_baselines_load_no_torch(project):
    fit_here("majority")
    fit_here("svm")
    code = """
import sys, numpy as np
from pathlib import Path
import convflow.stages.baseline, convflow.stages.features, convflow.stages.predict
assert "torch" not in sys.modules, "stages"
from convflow.models import load_predictor
load_predictor(Path("models/majority")).predict_proba(np.load("packed/val/pixels.npy"))
assert not {"torch", "sklearn.svm", "skops", "skimage"} & set(sys.modules) - {"skimage"}, "majority"
load_predictor(Path("models/svm")).predict_proba(np.load("packed/val/pixels.npy"))
assert "sklearn.svm" in sys.modules
assert "torch" not in sys.modules, "svm"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_called_after_no_baseline_is_one_line(project):
    with pytest.raises(ParamsError, match=r"^models/forest: no baseline 'forest'; name the folder majority,"):
        fit_here("forest")


def test_features_of_other_images_are_refused(project):
    np.save("features/train.npy", np.load("features/train.npy")[:-1])
    with pytest.raises(
        DataError, match=r"train.npy: not of the images in packed/train; run `dvc repro -f fe"
    ):
        fit_here("knn")
    Path("features/train.npy").unlink()
    with pytest.raises(DataError, match=r"train.npy: not readable \(.*\); run `dvc repro -f features`$"):
        fit_here("knn")
    assert not Path("models").exists()


def test_sides_that_do_not_fit_are_refused():
    pack([0, 1], [0, 1], 2)
    made_packed(Path("packed/colour"), [0, 1], 2, channels=3)
    made_packed(Path("packed/none"), [], 2)
    for train, val, match in (
        ("train", "colour", r"^packed/colour: packed otherwise than packed/train; run `dvc repro -f pack`$"),
        ("none", "val", r"^packed/none: no images; add some, or give this side a larger share in split:$"),
    ):
        with pytest.raises(DataError, match=match):
            stage.run(
                Path("features"), Path("packed", train), Path("packed", val), Path("majority"), Path("t"),
                params=section(),
            )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"kinds": []}, "kinds"),
        ({"kinds": ["forest"]}, "kinds.0"),
        ({"folds": 1}, "folds"),
        ({"seed": -1}, "seed"),
        ({"criterion": "luck"}, "criterion"),
        ({"knn": {"neighbours": []}}, "knn.neighbours"),
        ({"knn": {"neighbours": [0]}}, "knn.neighbours.0"),
        ({"svm": {"c": [0.0], "gamma": [1.0]}}, "svm.c.0"),
        ({"svm": {"c": [1.0], "gamma": [math.inf]}}, "svm.gamma.0"),
        ({"logistic": {"c": [1.0], "l1": True}}, "logistic.l1"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_a_param_out_of_range_is_named(changed, place):
    with pytest.raises(ParamsError, match=rf"params.yaml: baseline.{place}"):
        section(**changed)
