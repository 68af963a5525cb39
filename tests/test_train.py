"""The stage `train` on tiny packed folders: what it leaves, what it refuses, and being killed."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from convflow.errors import DataError, ParamsError, TrainingError
from convflow.files import digest_file, digest_folder, digest_json, read_json
from convflow.learning import devices
from convflow.learning.devices import one_line, pick_device, pick_precision
from convflow.learning.predictor import load_predictor
from convflow.params import check_section
from convflow.stages import train as stage
from made_packed import SIDE, packed_folder

CLASSES = ["left", "middle", "right"]
PARAMS = {
    "packed_px": SIDE,
    "arch": "residual",
    "arch_args": {"width": 4, "dropout": 0.2},
    "normalise": "dataset",
    "seed": 0,
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.01,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "label_smoothing": 0.05,
    "patience": 0,
    "augment": {
        "flips": "none", "rotate_degrees": 5.0, "shift": 0.05, "scale": 0.1, "brightness": 10.0,
        "contrast": 0.1,
    },
    "device": "cpu",
    "require_gpu": False,
    "precision": "fp32",
    "deterministic": True,
}  # fmt: skip
OUTPUTS = ("weights.safetensors", "history.jsonl", "card.json", "manifest.txt")

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_train import stage, train_here
save = stage.save_state
def save_and_die(folder, state):
    save(folder, state)
    os.kill(os.getpid(), signal.SIGKILL)
stage.save_state = save_and_die
train_here(epochs=3)
"""


def section(**changed) -> stage.Params:
    return check_section({**PARAMS, **changed}, stage.Params, place="params.yaml: train")


def train_here(model="models/cnn", **changed) -> Path:
    """Run the stage in the current folder."""
    train, val = Path("packed/train"), Path("packed/val")
    stage.run(train, val, Path(model), Path("timing.json"), params=section(**changed))
    return Path(model)


def contents(model: Path) -> dict[str, bytes]:
    return {name: (model / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A current folder with packed train (25 images: one is left over) and val (9)."""
    monkeypatch.chdir(tmp_path)
    packed_folder(tmp_path / "packed/train", 25, classes=CLASSES)
    packed_folder(tmp_path / "packed/val", 9, classes=CLASSES, seed=1)
    yield tmp_path
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What a run of three epochs leaves when nothing happens to it."""
    root = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        packed_folder(root / "packed/train", 25, classes=CLASSES)
        packed_folder(root / "packed/val", 9, classes=CLASSES, seed=1)
        yield contents(train_here(epochs=3))
        torch.use_deterministic_algorithms(False)


def test_a_training_leaves_a_whole_model_its_history_and_its_timing(project, capsys):
    model = train_here()
    assert sorted(path.name for path in model.iterdir()) == sorted(OUTPUTS)
    lines = [json.loads(line) for line in (model / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    names = ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    assert all(list(line) == names for line in lines)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    best = min(lines, key=lambda line: line["val_loss"])
    assert read_json(model / "card.json") == {
        "format": 1,
        "kind": "network",
        "name": "cnn",
        "arch": "residual",
        "arch_args": {"width": 4, "dropout": 0.2},
        "normalise": "dataset",
        "classes": CLASSES,
        "n_by_class": {"left": 9, "middle": 8, "right": 8},
        "input": {"size_px": SIDE, "channels": 1, "fit": "stretch"},
        "weights": {"file": "weights.safetensors", "sha256": digest_file(model / "weights.safetensors")},
        "best_epoch": best["epoch"],
        "epochs": 2,
        "n_parameters": sum(p.numel() for p in load_predictor(model)._model.parameters()),
        "val": {"loss": best["val_loss"], "accuracy": best["val_accuracy"]},
        "precision": "fp32",
        "inputs": {
            "train": digest_folder(Path("packed/train")),
            "val": digest_folder(Path("packed/val")),
            "params": digest_json(section().model_dump()),
        },
    }
    timing = read_json(Path("timing.json"))
    assert sorted(timing) == [
        "device", "images_per_second", "peak_memory_mib", "python", "requirements_lock", "seconds", "torch",
    ]  # fmt: skip
    assert timing["seconds"] > 0
    assert timing["images_per_second"] > 0
    assert timing["peak_memory_mib"] > 50
    live = Path(".convflow/live/cnn")
    assert (live / "history.jsonl").read_bytes() == (model / "history.jsonl").read_bytes()
    assert [path.name for path in live.iterdir()] == ["history.jsonl"]  # the checkpoint is gone
    said = capsys.readouterr().out
    assert said.startswith("train: residual on ")
    assert f"best of 2 epochs is {best['epoch']}: val loss {best['val_loss']:.4f}" in said


def test_the_weights_kept_score_on_val_what_the_card_says():
    model = train_here(epochs=4, lr=0.05)
    prob_NK = load_predictor(model).predict_proba(np.load("packed/val/pixels.npy"))
    label_N = np.load("packed/val/labels.npy")
    card = read_json(model / "card.json")
    loss = -np.log(prob_NK[np.arange(len(label_N)), label_N]).mean()
    assert loss == pytest.approx(card["val"]["loss"], rel=1e-4)
    assert (prob_NK.argmax(1) == label_N).mean() == pytest.approx(card["val"]["accuracy"])


def test_normalisation_is_taken_from_the_training_pixels():
    model = load_predictor(train_here(epochs=1))._model
    pixels = np.load("packed/train/pixels.npy").astype(float)
    assert model.mean.item() == pytest.approx(pixels.mean(), rel=1e-5)
    assert model.std.item() == pytest.approx(pixels.std(), rel=1e-5)


def test_two_trainings_from_scratch_leave_the_same_bytes(unbroken, project):
    assert contents(train_here(epochs=3)) == unbroken
    assert contents(train_here(epochs=3)) == unbroken
    assert contents(train_here(epochs=3, seed=1)) != unbroken


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_training_interrupted_after_an_epoch_goes_on_and_ends_the_same(
    unbroken, monkeypatch, capsys, after
):
    _interrupt(monkeypatch, after, epochs=3)
    assert not Path("models").exists()
    live = Path(".convflow/live/cnn/history.jsonl").read_bytes()
    assert live == b"".join(unbroken["history.jsonl"].splitlines(keepends=True)[:after])
    assert contents(train_here(epochs=3)) == unbroken
    assert f"train: going on after epoch {after}\n" in capsys.readouterr().out
    assert [path.name for path in Path(".convflow/live/cnn").iterdir()] == ["history.jsonl"]


def _interrupt(monkeypatch, after, **changed):
    write_text = stage.write_text

    def write_and_stop(path, text):
        write_text(path, text)
        if path.name == "history.jsonl" and len(text.splitlines()) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_text", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_here(**changed)


@pytest.mark.slow
def test_a_training_killed_after_its_checkpoint_goes_on_and_ends_the_same(unbroken, project):
    code = KILLED.format(tests=str(Path(__file__).parent))
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(project.rglob("state.pt"))
    assert not Path("models").exists()
    assert contents(train_here(epochs=3)) == unbroken


def test_a_half_written_checkpoint_is_not_taken_for_whole(unbroken, monkeypatch, capsys):
    _interrupt(monkeypatch, 2, epochs=3)
    (checkpoint,) = Path(".convflow/live/cnn").glob("*/state.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    (checkpoint.parent / ".state.pt.1.partial").write_bytes(b"half")
    assert contents(train_here(epochs=3)) == unbroken
    assert "going on" not in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"lr": 0.02}, {"augment": {**PARAMS["augment"], "shift": 0.1}}])
def test_a_checkpoint_of_other_params_is_not_used(monkeypatch, capsys, changed):
    _interrupt(monkeypatch, 1)
    train_here(**changed)
    assert "going on" not in capsys.readouterr().out
    assert not list(Path(".convflow").rglob("state.pt"))


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_checkpoint_of_other_images_is_not_used(monkeypatch, capsys, side):
    _interrupt(monkeypatch, 1)
    weights = np.load(f"packed/{side}/weights.npy")
    weights[0] = 0.5
    np.save(f"packed/{side}/weights.npy", weights)
    train_here()
    assert "going on" not in capsys.readouterr().out


def test_from_disk_the_same_model_comes_out_as_from_memory(unbroken, monkeypatch):
    monkeypatch.setattr(stage, "free_memory", lambda device: 0)
    assert contents(train_here(epochs=3)) == unbroken


def test_memory_is_shared_between_the_sides_and_not_counted_twice(monkeypatch):
    train_bytes = 25 * SIDE * SIDE
    monkeypatch.setattr(stage, "free_memory", lambda device: 2 * train_bytes + 10)
    kept = []
    fit = stage._fit
    monkeypatch.setattr(stage, "_fit", lambda t, *rest: kept.append((t.train, t.val)) or fit(t, *rest))
    train_here(epochs=1)
    assert [(train.resident, val.resident) for train, val in kept] == [(True, False)]


def test_bf16_says_so_on_the_card():
    model = train_here(epochs=1, precision="bf16")
    assert read_json(model / "card.json")["precision"] == "bf16"


def test_no_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"^train.device: no 'cuda' here; set it to auto or cpu$"):
        train_here(device="cuda")
    for device in ("auto", "cpu"):
        with pytest.raises(
            TrainingError, match=r"^train.require_gpu: true, but .*; set it to false to train on"
        ):
            train_here(device=device, require_gpu=True)
    with pytest.raises(
        TrainingError, match=r"^train.precision: fp16 needs a GPU; set it to auto, bf16 or fp32$"
    ):
        train_here(precision="fp16")
    assert not Path("models").exists()


def test_the_best_device_there_is_is_taken_and_its_precision_fits(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert pick_device("auto", require_gpu=True) == "cuda"
    assert pick_device("cpu", require_gpu=False) == "cpu"
    assert pick_precision("auto", "cuda") == "fp16"
    assert pick_precision("auto", "mps") == "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto", require_gpu=True) == "mps"
    for has, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(devices, "_cpu_has_bf16", lambda has=has: has)
        assert pick_precision("auto", "cpu") == precision
    assert pick_precision("fp32", "cuda") == "fp32"


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "train.batch_size: the GPU's memory is full; lower it",
        ),
        (
            RuntimeError("x_cuda does not have a deterministic implementation, but you set it. You can"),
            "train.deterministic: true, but x_cuda does not .* but you set it; set it to false$",
        ),
    ],
)
def test_what_the_gpu_refuses_is_one_line(error, match):
    with pytest.raises(TrainingError, match=match), one_line():
        raise error
    with pytest.raises(RuntimeError, match="shape"), one_line():
        raise RuntimeError("shape")


def test_a_side_without_images_is_named(project):
    packed_folder(project / "packed/none", 0, classes=CLASSES)
    for train, val in (("none", "val"), ("train", "none")):
        with pytest.raises(DataError, match=r"packed/none: no images; add some"):
            stage.run(
                Path("packed", train), Path("packed", val), Path("m"), Path("timing.json"), params=section()
            )


def test_sides_packed_differently_are_refused(project):
    packed_folder(project / "packed/colour", 3, classes=CLASSES, channels=3)
    with pytest.raises(
        DataError, match=r"packed/colour: packed otherwise than packed/train; run `dvc repro -f"
    ):
        stage.run(Path("packed/train"), Path("packed/colour"), Path("m"), Path("t"), params=section())


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"lr": math.inf}, "lr"),
        ({"lr": 0.0}, "lr"),
        ({"weight_decay": math.inf}, "weight_decay"),
        ({"arch_args": {"width": math.nan}}, "arch_args.width"),
        ({"arch_args": {"width": [32]}}, "arch_args.width"),
        ({"seed": -1}, "seed"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"augment": {**PARAMS["augment"], "flips": "all"}}, "augment.flips"),
        ({"augment": {**PARAMS["augment"], "tilt": 1}}, "augment.tilt"),
    ],
)
def test_a_param_out_of_range_is_named(changed, place):
    with pytest.raises(ParamsError, match=rf"params.yaml: train.{place}"):
        section(**changed)


def test_a_loss_that_is_not_finite_leaves_no_model():
    with pytest.raises(TrainingError, match="not finite in epoch"):
        train_here(lr=1e30)
    assert not Path("models").exists()
