"""Networks and baselines as contestants: made from train and val alone, the same each time."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.evaluation.calibration import fit_temperature
from convflow.evaluation.operating_point import tempered
from convflow.stages import folds
from convflow.studying import classical, networks
from convflow.studying.jobs import Task
from convflow.studying.splits import splits_in
from convflow.tables import read_table
from made_study import make_study

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
NETWORK = {
    "arch": "residual", "arch_args": {"width": 8}, "normalise": "dataset", "epochs": 4, "batch_size": 32,
    "lr": 0.01, "weight_decay": 0.05, "schedule": "one_cycle", "label_smoothing": 0.0, "patience": 0,
    "augment": {
        "flips": "none", "rotate_degrees": 0.0, "shift": 0.0, "scale": 0.0, "brightness": 0.0,
        "contrast": 0.0,
    },
    "device": "cpu", "precision": "fp32", "deterministic": True,
}  # fmt: skip
BASELINES = {
    "folds": 3,
    "criterion": "balanced_accuracy",
    "device": "cpu",
    "knn": {"neighbours": [5, 15]},
    "svm": {"c": [1.0], "gamma": [1.0]},
    "logistic": {"c": [1.0]},
}
KINDS = ["majority", "knn", "svm", "logistic"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("made"))


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    yield
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def task(made, name, *, number=0, protocol="P1", **changed):
    _, splits = splits_in(read_table(made / f"data/splits/{protocol}.parquet"))
    rows = {side: splits[number].rows(side) for side in ("train", "val", "test")}
    settings = (NETWORK if name == "cnn" else BASELINES) | changed
    packed, features = made / "data/packed/networks", made / "data/features"
    return Task(packed, features, rows, settings, number, name, protocol == "P2")


def copy_of(folder, other):
    return Path(shutil.copytree(folder, other))


def ask(one):
    return (networks if one.name == "cnn" else classical).answer(one)


@pytest.mark.parametrize("name", ["cnn", *KINDS[1:]])
@pytest.mark.parametrize("protocol", ["P1", "P2"])
def test_a_contestant_learns_what_there_is_to_learn(made, name, protocol):
    one = task(made, name, protocol=protocol)
    prob_MK = ask(one).prob_MK
    label_M = Packed(one.packed).labels[one.rows["test"]]
    assert prob_MK.dtype == np.float32
    assert prob_MK.shape == (len(label_M), 2)
    assert np.allclose(prob_MK.sum(axis=1), 1, atol=1e-5)
    assert (prob_MK.argmax(axis=1) == label_M).mean() > (0.9 if name == "cnn" else 0.65)


def test_the_majority_gives_everyone_the_shares_of_train(made):
    one = task(made, "majority")
    label_N = Packed(one.packed).labels[one.rows["train"]]
    assert np.allclose(ask(one).prob_MK, np.bincount(label_N) / len(label_N), atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "svm"])
def test_labels_of_test_images_do_not_count(made, name, tmp_path):
    one = task(made, name)
    spoilt = copy_of(one.packed, tmp_path / "packed")
    labels = np.load(spoilt / "labels.npy")
    labels[one.rows["test"]] = 1 - labels[one.rows["test"]]
    np.save(spoilt / "labels.npy", labels)
    assert np.array_equal(ask(one).prob_MK, ask(replace(one, packed=spoilt)).prob_MK)


@pytest.mark.parametrize("name", ["cnn", "knn"])
def test_the_same_task_gives_the_same_answers_and_another_seed_others(made, name):
    one = task(made, name)
    assert np.array_equal(ask(one).prob_MK, ask(one).prob_MK)
    if name == "cnn":
        assert not np.array_equal(ask(one).prob_MK, ask(replace(one, seed=1)).prob_MK)


def test_a_network_is_its_best_epoch_on_val_at_the_temperature_best_there(made, tmp_path):
    one = task(made, "cnn", epochs=6, lr=0.05)
    labels = np.load(one.packed / "labels.npy")
    labels[one.rows["val"][:4]] ^= 1  # so that not all of val can be told rightly
    packed = copy_of(one.packed, tmp_path / "packed")
    np.save(packed / "labels.npy", labels)
    # asked about val itself
    found = networks.answer(replace(one, packed=packed, rows=one.rows | {"test": one.rows["val"]}))
    label_M = labels[one.rows["val"]]
    assert found.notes["epochs"] == 6
    assert found.notes["temperature"] != 1
    assert (found.prob_MK.argmax(axis=1) == label_M).mean() == pytest.approx(found.notes["val"]["accuracy"])
    cold_MK = tempered(found.prob_MK, 1 / found.notes["temperature"])
    loss = -np.log(cold_MK[np.arange(len(label_M)), label_M]).mean()
    assert loss == pytest.approx(found.notes["val"]["loss"], rel=1e-3)
    assert fit_temperature(label_M, found.prob_MK).value == pytest.approx(1, abs=0.01)


def test_keys_follow_the_inputs_that_count(made, tmp_path):
    one = task(made, "svm")
    copy = copy_of(one.packed, tmp_path / "packed")
    other = replace(one, packed=copy)
    assert classical.stamp(other) == classical.stamp(one)
    (copy / "pixels.npy").write_bytes(b"other pixels")
    assert classical.stamp(other) == classical.stamp(one)  # they count through the features
    assert networks.stamp(other) != networks.stamp(one)
    np.save(copy / "labels.npy", np.zeros(3))
    assert classical.stamp(other) != classical.stamp(one)


def test_a_search_keeps_groups_together_only_where_the_protocol_does(made):
    assert classical._rows(task(made, "svm")).group_N is None
    group_N = classical._rows(task(made, "svm", protocol="P2")).group_N
    assert (group_N == np.arange(240) // 10).all()


def test_memory_is_asked_for_and_the_cpu_may_be_shared(made):
    assert classical.memory(task(made, "svm")) > 2**29
    assert networks.memory(task(made, "cnn")) > 2**30
    assert classical.most_at_once(BASELINES) is networks.most_at_once(NETWORK) is None


def test_names_pick_the_contestant(made):
    params = folds.Params(processes=1, seed=0, baselines=BASELINES, networks={"big": NETWORK}, transfers={})
    assert folds._contestant("big", params) == ("convflow.studying.networks", NETWORK)
    assert folds._contestant("svm", params) == ("convflow.studying.classical", BASELINES)


def test_what_cannot_be_fitted_is_told_in_one_line(made):
    with pytest.raises(ParamsError, match="no baseline 'forest'; choose from majority, knn, svm, logistic"):
        ask(task(made, "forest"))
    with pytest.raises(ParamsError, match=r"train\.arch: no architecture 'lenet'"):
        ask(task(made, "cnn", arch="lenet"))
    one = task(made, "svm")
    label_N = Packed(one.packed).labels
    rows = one.rows | {"train": np.flatnonzero(label_N == 1)}
    with pytest.raises(DataError, match="images of one class only"):
        ask(replace(one, rows=rows))
