"""Packed folders and trainings in little, for all tests that need torch."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from convflow.learning.augment import Augment
from convflow.learning.batches import Batches
from convflow.learning.devices import make_accelerator
from convflow.learning.fitting import Recipe, Trainer
from made_folder import write_packed

torch.set_num_threads(1)  # tests share their cores, where torch's waiting threads would stop each other

CPU = torch.device("cpu")
SIDE = 16


def pictures(
    n_images: int, *, n_classes: int = 2, channels: int = 1, seed: int = 0
) -> tuple[NDArray, NDArray]:
    """Noise with one bright stripe whose place is the class: uint8 (N, 16, 16, C), int64 (N,)."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(n_images) % n_classes
    image_NSSC = rng.integers(0, 120, (n_images, SIDE, SIDE, channels))
    width = SIDE // n_classes
    for image, label in zip(image_NSSC, label_N, strict=True):
        image[:, label * width : (label + 1) * width] += 130
    return image_NSSC.astype(np.uint8), label_N


def batches(
    image_NSSC: NDArray, label_N: NDArray, weight_N: NDArray | None = None, *, resident: bool = True
) -> Batches:
    """Batches of arrays, without a folder."""
    weight_N = np.ones(len(label_N)) if weight_N is None else weight_N
    packed = SimpleNamespace(pixels=image_NSSC, labels=label_N, weights=weight_N.astype(np.float32))
    return Batches(packed, CPU, resident_bytes=image_NSSC.nbytes if resident else -1)


def recipe(**changed) -> Recipe:
    """A quick recipe."""
    known = {
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.01,
        "weight_decay": 0.05,
        "schedule": "one_cycle",
        "label_smoothing": 0.0,
        "patience": 0,
        "seed": 3,
    }
    return Recipe(**{**known, **changed})


def trainer(
    model: torch.nn.Module,
    train: Batches,
    val: Batches | None = None,
    *,
    augment: Augment | None = None,
    precision: str = "fp32",
    **changed,
) -> Trainer:
    """A trainer on the CPU; `changed` goes into the recipe."""
    accelerator = make_accelerator("cpu", precision)
    return Trainer(model, train, val or train, recipe(**changed), augment or Augment(), accelerator)


def packed_folder(
    folder: Path, n_images: int, *, classes: list[str], channels: int = 1, seed: int = 0
) -> Path:
    """Write a packed folder as the stage `pack` does."""
    image_NSSC, label_N = pictures(n_images, n_classes=len(classes), channels=channels, seed=seed)
    names = [f"{classes[label]}/{seed}-{n}.png" for n, label in enumerate(label_N)]
    rows = {
        "path": names,
        "sha256": [f"{n:064x}" for n in range(n_images)],
        "mode": ["L"] * n_images,
        "width": pa.array([300] * n_images, pa.int32()),
        "height": pa.array([200] * n_images, pa.int32()),
        "brightness_mean": image_NSSC.mean(axis=(1, 2, 3)),
        "brightness_spread": image_NSSC.std(axis=(1, 2, 3)),
        "label": [classes[label] for label in label_N],
        "group": pa.array([None] * n_images, pa.string()),
        "weight": pa.array([1.0] * n_images, pa.float64()),
        "split": pa.array([None] * n_images, pa.string()),
        "tag_site": pa.array(["north"] * n_images, pa.string()),
        "side": [folder.name] * n_images,
        "why": [""] * n_images,
    }
    strings = {
        name: pa.array(rows[name], pa.string()) for name in ("path", "sha256", "mode", "label", "side")
    }
    strings["why"] = pa.array(rows["why"], pa.string())
    about = {"method": "grouped", "seed": 4}
    return write_packed(folder, image_NSSC, label_N, classes, pa.table(rows | strings), about=about)
