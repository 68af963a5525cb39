"""The one way to ask a model."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from convflow.data.images import decode
from convflow.errors import DataError, ModelError
from convflow.learning import predictor as module
from convflow.learning.bundle import save_bundle
from convflow.learning.predictor import load_predictor
from convflow.nets.registry import build
from made_packed import SIDE, pictures

CLASSES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return build("residual", 3, 3, SIDE, {"width": 4}).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("cnn")
    card = {
        "kind": "network",
        "arch": "residual",
        "arch_args": {"width": 4},
        "normalise": "dataset",
        "classes": CLASSES,
        "input": {"size_px": SIDE, "channels": 3, "fit": "crop"},
        "n_parameters": 12_345,
        "best_epoch": 7,
    }
    save_bundle(path, model.state_dict(), card)
    return path


def test_probabilities_are_the_softmax_of_the_network_in_the_order_of_its_classes(model, folder):
    images, _ = pictures(7, n_classes=3, channels=3)
    predictor = load_predictor(folder)
    found = predictor.predict_proba(images)
    expected = model(torch.from_numpy(images).permute(0, 3, 1, 2)).softmax(1).detach().numpy()
    assert (found.dtype, found.shape) == (np.float32, (7, 3))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert predictor.classes == CLASSES


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_how_many_are_asked_at_once_changes_nothing(folder, monkeypatch, at_once):
    images, _ = pictures(7, n_classes=3, channels=3)
    predictor = load_predictor(folder)
    whole = predictor.predict_proba(images)
    monkeypatch.setattr(module, "_PIXELS", at_once * SIDE**2)
    np.testing.assert_allclose(predictor.predict_proba(images), whole, atol=1e-6)
    monkeypatch.setattr(module, "_PIXELS", 1)  # a picture larger than a whole batch may be is asked alone
    np.testing.assert_allclose(predictor.predict_proba(images), whole, atol=1e-6)


def test_asking_nothing_answers_nothing(folder):
    found = load_predictor(folder).predict_proba(np.empty((0, SIDE, SIDE, 3), np.uint8))
    assert (found.dtype, found.shape) == (np.float32, (0, 3))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, SIDE, SIDE, 3), np.float32),
        np.zeros((2, SIDE, SIDE, 1), np.uint8),
        np.zeros((2, 3, SIDE, SIDE), np.uint8),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((2, SIDE + 1, SIDE, 3), np.uint8),
    ],
)
def test_another_shape_or_type_is_named_beside_what_is_taken(folder, images):
    with pytest.raises(ModelError, match=r"^images: .*; this model takes uint8 \(N, 16, 16, 3\)$") as caught:
        load_predictor(folder).predict_proba(images)
    assert f"{images.dtype} {images.shape}" in str(caught.value)


def test_read_only_arrays_on_disk_are_taken(folder, tmp_path):
    images, _ = pictures(5, n_classes=3, channels=3)
    np.save(tmp_path / "pixels.npy", images)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    predictor = load_predictor(folder)
    assert np.array_equal(predictor.predict_proba(mapped), predictor.predict_proba(images))
    assert np.array_equal(predictor.predict_proba(images[::-1]), predictor.predict_proba(images)[::-1])


def test_images_are_decoded_as_for_training(folder, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    predictor = load_predictor(folder)
    expected = decode(tmp_path / "a.png", size_px=SIDE, channels=3, fit="crop")
    assert np.array_equal(predictor.decode(tmp_path / "a.png"), expected)
    assert np.array_equal(predictor.decode((tmp_path / "a.png").read_bytes()), expected)
    assert predictor.predict_proba(expected[None]).shape == (1, 3)
    stream = io.BytesIO()
    Image.fromarray(expected).save(stream, format="PNG")
    with pytest.raises(DataError):
        predictor.decode(stream.getvalue()[:60])


@pytest.mark.parametrize("channels", [1, 3])
def test_multiply_adds_are_counted_as_those_of_the_layers(tmp_path, channels):
    model = build("residual", 2, channels, SIDE, {"width": 4}).eval()
    found = []

    def count(layer, inputs, output):
        if isinstance(layer, torch.nn.Conv2d):
            found.append(2 * output.numel() * layer.weight[0].numel())
        elif isinstance(layer, torch.nn.Linear):
            found.append(2 * layer.weight.numel())

    hooks = [layer.register_forward_hook(count) for layer in model.modules()]
    model(torch.zeros((1, channels, SIDE, SIDE), dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    card = {
        "kind": "network", "arch": "residual", "arch_args": {"width": 4}, "normalise": "dataset",
        "classes": ["a", "b"], "input": {"size_px": SIDE, "channels": channels, "fit": "crop"},
    }  # fmt: skip
    save_bundle(tmp_path, model.state_dict(), card)
    assert load_predictor(tmp_path).flops() == sum(found) > 10_000


def test_the_device_and_its_threads_are_named(folder):
    name, threads = load_predictor(folder).hardware()
    assert name
    assert threads == torch.get_num_threads()


@pytest.mark.slow
def test_a_predictor_loads_nothing_that_answering_does_not_need(folder):
    code = f"""
import sys
from pathlib import Path
from convflow.learning.predictor import load_predictor
load_predictor(Path({str(folder)!r}))
assert not {{"accelerate", "torch.utils.flop_counter", "sklearn", "skops"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
