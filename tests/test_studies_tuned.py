"""A pretrained network whose last blocks are trained on: answers from pixels where that helps on val."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from closure import closure
from convflow.data.packed import Packed
from convflow.errors import ParamsError
from convflow.stages import encode, folds
from convflow.studying import transferred, tuned
from made_study import make_study
from test_studies_transferred import ENCODE, params, probe, task

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
TUNE = {
    "method": "lp_ft", "blocks": 2, "epochs": 2, "batch_size": 24, "lr": 0.0003, "decay": 0.8,
    "weight_decay": 0.01, "ema": 0.5, "label_smoothing": 0.0, "runs": 2,
    "augment": {"rotate_degrees": 0.0, "shift": 0.0, "scale": 0.0, "brightness": 0.0, "contrast": 0.0},
    "device": "cpu", "precision": "fp32", "deterministic": True,
}  # fmt: skip
# a head held down so hard that there is something left to gain
SETTINGS = {
    "rungs": ["probe", "tune", "soup", "temperature"],
    "probe": probe(c=[1e-5], depths=[[8]]),
    "tune": TUNE,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = make_study(tmp_path_factory.mktemp("made"))
    encode.run(root / "data/packed/pretrained", root / "data/encoded", params=encode.Params(**ENCODE))
    return root


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_what_helps_on_val_answers_from_the_pixels_of_each_test_image(made, tmp_path):
    one = task(made, **SETTINGS)
    found = tuned.answer(one)
    assert found.notes["rungs"]["tune"]
    assert found.notes["epochs"] == [[2], [2]]
    assert list(found.steps) == SETTINGS["rungs"]
    packed = Packed(one.packed)
    assert (found.prob_MK.dtype, found.prob_MK.shape) == (np.float32, (len(one.rows["test"]), 2))
    assert (found.prob_MK.argmax(axis=1) == packed.labels[one.rows["test"]]).mean() > 0.9
    assert not list(Path(".convflow/tuning").iterdir())
    spoilt = Path(shutil.copytree(one.packed, tmp_path / "packed"))
    labels, pixels = np.load(spoilt / "labels.npy"), np.load(spoilt / "pixels.npy")
    labels[one.rows["test"]] ^= 1
    pixels[one.rows["test"][1:]] = 0
    np.save(spoilt / "labels.npy", labels)
    np.save(spoilt / "pixels.npy", pixels)
    other = tuned.answer(replace(one, packed=spoilt))
    assert other.notes == found.notes
    assert np.allclose(other.prob_MK[0], found.prob_MK[0], atol=1e-6)
    assert not np.allclose(other.prob_MK[1:], found.prob_MK[1:], atol=1e-3)


@pytest.mark.slow
def test_the_same_task_gives_the_same_answers_and_another_seed_others(made):
    one = task(made, **SETTINGS | {"rungs": ["probe", "tune"]})
    prob_MK = tuned.answer(one).prob_MK
    assert np.array_equal(prob_MK, tuned.answer(one).prob_MK)
    assert not np.array_equal(prob_MK, tuned.answer(replace(one, seed=9)).prob_MK)


@pytest.mark.slow
def test_where_tuning_does_not_help_the_frozen_one_answers(made):
    one = task(made, **SETTINGS | {"rungs": ["probe", "tune"], "keep_errors": 1e6})
    found = tuned.answer(one)
    assert found.notes["rungs"] == {"probe": True, "tune": False}
    frozen = transferred.answer(replace(one, settings=one.settings | {"rungs": ["probe"]}))
    assert np.array_equal(found.prob_MK, frozen.prob_MK)


def test_more_blocks_than_there_are_are_refused(made):
    one = task(made, **SETTINGS | {"tune": TUNE | {"blocks": 9}})
    with pytest.raises(
        ParamsError, match=r"folds\.transfers\.frozen\.tune\.blocks: 9 of 9 stages; set it to all"
    ):
        tuned.answer(one)


def test_rungs_pick_the_module_and_want_their_settings():
    whole = task_settings()
    found = folds._contestant("lp_ft", params(transfers={"lp_ft": whole}))
    assert found == ("convflow.studying.tuned", whole)
    without = whole | {"tune": None}
    with pytest.raises(ParamsError, match=r"folds\.transfers\.lp_ft\.tune: null, but a rung wants it"):
        folds._contestant("lp_ft", params(transfers={"lp_ft": without}))


def task_settings():
    return {"keep_errors": 0.0, **SETTINGS}


def test_a_frozen_one_does_not_depend_on_the_code_that_tunes():
    frozen, whole = (closure(f"convflow.studying.{name}") for name in ("transferred", "tuned"))
    assert not {path for path in frozen if "tun" in Path(path).stem}
    assert frozen < whole


def test_memory_is_asked_for_and_a_gpu_is_not_shared(made, monkeypatch):
    one = task(made, **SETTINGS)
    assert tuned.memory(one) > transferred.memory(one)
    assert tuned.stamp(one) == transferred.stamp(one)
    assert tuned.most_at_once(SETTINGS) is None
    monkeypatch.setattr(tuned, "pick_device", lambda wanted, **_: "cuda")
    assert tuned.most_at_once(SETTINGS) == 1
