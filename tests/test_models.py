"""Any model, one contract: the right room answers, one line describes it, and answers are timed."""

import subprocess
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from convflow import models
from convflow.baselines.fitting import fit_baseline
from convflow.baselines.predictor import save_baseline
from convflow.baselines.rows import Search
from convflow.errors import ModelError
from convflow.files import read_json, write_json
from convflow.learning.bundle import save_bundle
from convflow.manifest import save_manifest
from convflow.models import describe, load_predictor, measure
from convflow.nets.registry import build
from made_features import SIDE, made_rows

CONTRACT = {"size_px": SIDE, "channels": 1, "fit": "stretch"}
CLASSES = ["a", "b"]


@pytest.fixture
def majority(tmp_path):
    rows = made_rows([0, 1, 1], 2)
    card = {"arch": "majority", "classes": CLASSES, "features": {}, "input": CONTRACT, "chosen": {}}
    save_baseline(tmp_path, fit_baseline("majority", rows, rows, Search({})).baseline, card)
    return tmp_path


@pytest.fixture
def network(tmp_path):
    card = {
        "kind": "network", "arch": "residual", "arch_args": {"width": 4}, "normalise": "dataset",
        "classes": CLASSES, "input": CONTRACT,
    }  # fmt: skip
    save_bundle(tmp_path, build("residual", 2, 1, SIDE, {"width": 4}).state_dict(), card)
    return tmp_path


def test_a_baseline_is_answered_for_by_baselines(majority):
    predictor = load_predictor(majority)
    assert type(predictor).__module__ == "convflow.baselines.predictor"
    found = predictor.predict_proba(np.zeros((2, SIDE, SIDE, 1), np.uint8))
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]] * 2, atol=1e-6)


def test_a_network_is_answered_for_by_learning(network):
    predictor = load_predictor(network)
    assert type(predictor).__module__ == "convflow.learning.predictor"
    assert predictor.predict_proba(np.zeros((2, SIDE, SIDE, 1), np.uint8)).shape == (2, 2)


def test_both_hold_to_the_contract():
    wanted = {name for name in vars(models.Predictor) if not name.startswith("_")}
    assert wanted == {"classes", "decode", "predict_proba", "flops", "hardware"}
    for room in ("baselines", "learning"):
        assert wanted <= set(dir(import_module(f"convflow.{room}.predictor").Predictor)), room


def test_no_model_is_one_line(tmp_path, majority):
    with pytest.raises(ModelError, match=r"no card.json, so no model of convflow"):
        load_predictor(tmp_path / "none")
    write_json(majority / "card.json", read_json(majority / "card.json") | {"kind": "oracle"})
    save_manifest(majority)
    with pytest.raises(ModelError, match=r"kind is 'oracle', not network or baseline; run `dvc checkout`"):
        load_predictor(majority)


def test_loading_a_baseline_imports_no_torch(majority):
    code = f"""
import sys
from pathlib import Path
from convflow.models import load_predictor
load_predictor(Path({str(majority)!r}))
assert not {{"torch", "sklearn", "skops", "skimage"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("card", "line"),
    [
        (
            {"kind": "network", "arch": "residual", "n_parameters": 12_345, "best_epoch": 7},
            "residual, 12,345 weights, 16x16 px, epoch 7",
        ),
        (
            {
                "kind": "network",
                "arch": "transfer",
                "n_parameters": 12_345,
                "best_epoch": 1,
                "backbone": {"source": "weights/low"},
                "chosen_rung": "probe",
            },
            "on weights/low, 12,345 weights, 16x16 px, rung probe",
        ),
        (
            {"kind": "baseline", "arch": "svm", "n_parameters": 12_345, "chosen": {"c": 3.0, "gamma": 0.1}},
            "svm, c 3.0, gamma 0.1, 12,345 numbers, 16x16 px",
        ),
        (
            {"kind": "baseline", "arch": "majority", "n_parameters": 3, "chosen": {}},
            "majority, 3 numbers, 16x16 px",
        ),
    ],
)
def test_a_model_is_described_in_one_line(card, line):
    assert describe(card | {"input": CONTRACT}) == line


class Asked:
    """A predictor that takes two milliseconds an image by its own clock."""

    def __init__(self):
        self.now, self.seen = 0.0, []

    def predict_proba(self, images):
        self.seen.append(images.copy())
        self.now += 0.002 * len(images)

    def flops(self):
        return None

    def hardware(self):
        return "abacus", 2


def test_answers_are_timed_after_a_warm_up_and_within_the_budget(monkeypatch):
    asked = Asked()
    monkeypatch.setattr(models, "time", SimpleNamespace(perf_counter=lambda: asked.now))
    images = np.arange(5, dtype=np.uint8)[:, None, None, None]
    assert measure(asked, images) == {
        "device": "abacus",
        "flops": None,
        "threads": 2,
        "latency_ms": {"1": {"median": 2.0, "p95": 2.0}, "64": {"median": 2.0, "p95": 2.0}},
        "images_per_s": 500.0,
    }
    sizes = [len(images) for images in asked.seen]
    assert sizes.count(1) == 1 + 50
    assert 2 <= sizes.count(64) <= 1 + 7
    assert asked.now < 2
    assert asked.seen[-1].ravel().tolist() == [n % 5 for n in range(64)]


def test_a_slow_model_is_timed_once(monkeypatch):
    asked = Asked()
    monkeypatch.setattr(models, "time", SimpleNamespace(perf_counter=lambda: 1000 * asked.now))
    found = measure(asked, np.zeros((2, 4, 4, 1), np.uint8))
    assert [len(images) for images in asked.seen] == [1, 1, 64, 64]
    assert found["latency_ms"]["1"]["median"] == pytest.approx(2000)


def test_without_images_nothing_is_timed():
    asked = Asked()
    assert measure(asked, np.zeros((0, 4, 4, 1), np.uint8)) == {
        "device": "abacus", "flops": None, "threads": 2, "latency_ms": None, "images_per_s": None,
    }  # fmt: skip
    assert asked.seen == []
