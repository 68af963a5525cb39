"""A network as a contestant: trained from scratch on train, its best epoch and temperature chosen on val."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.data.packed import Packed
from convflow.evaluation.calibration import fit_temperature
from convflow.evaluation.operating_point import tempered
from convflow.files import digest_folder
from convflow.learning.augment import Augment
from convflow.learning.batches import Batches
from convflow.learning.devices import (
    be_deterministic,
    device_name,
    free_memory,
    make_accelerator,
    one_line,
    pick_device,
    pick_precision,
)
from convflow.learning.fitting import Recipe, Trainer
from convflow.learning.fresh import fresh_network
from convflow.nets.registry import Classifier
from convflow.studying.jobs import Answer, Indices, Task

_BATCH = 256
_TORCH = 3 * 2**29  # 1.5 GiB: libraries, optimizer and the feature maps of a batch


class Part(Packed):
    """Some images of a packed folder, in memory."""

    def __init__(self, folder: Path, rows: Indices) -> None:
        """Read the images `rows` of `folder`."""
        super().__init__(folder)
        self.pixels = np.asarray(self.pixels[rows])
        self.labels, self.weights = self.labels[rows], self.weights[rows]


@dataclass(frozen=True)
class _Place:
    """Where to compute, and how exactly."""

    device: str
    precision: str


def answer(task: Task) -> Answer:
    """Train on train, keep the epoch with the lowest loss on val, set the temperature there, answer for test.

    Raises:
        ParamsError: no such architecture, or arguments it does not take.
        TrainingError: the loss is not finite, or the device is missing.
    """
    settings = task.settings
    place = _Place(pick_device(settings["device"], require_gpu=False), "")
    place = _Place(place.device, pick_precision(settings["precision"], place.device))
    if settings["deterministic"]:
        be_deterministic()
    parts = {side: Part(task.packed, rows) for side, rows in task.rows.items()}
    torch.manual_seed(task.seed)
    net = fresh_network(parts["train"], settings)
    trainer = _trainer(net, parts["train"], parts["val"], settings | {"seed": task.seed}, place)
    with one_line():
        progress = trainer.fit(lambda _: None, lambda _: None, None)
    # a fresh one, as a predictor would load it: the trained one still computes in training's precision
    best = fresh_network(parts["train"], settings)
    best.load_state_dict(progress.state["best"])
    prob_val_NK, prob_test_NK = (_ask(best, parts[side].pixels, place.device) for side in ("val", "test"))
    temperature = fit_temperature(parts["val"].labels, prob_val_NK.astype(np.float64))
    notes = {
        "best_epoch": progress.best.epoch,
        "epochs": len(progress.history),
        "precision": place.precision,
        "temperature": temperature.value,
        "val": {"accuracy": progress.best.val_accuracy, "loss": progress.best.val_loss},
    }
    prob_MK = tempered(prob_test_NK.astype(np.float64), temperature.value)
    return Answer(prob_MK.astype(np.float32), notes, device_name(place.device))


def stamp(task: Task) -> dict[str, str]:
    """The packed images and torch; not the device, so a run may go on elsewhere."""
    return {"packed": digest_folder(task.packed), "torch": torch.__version__.partition("+")[0]}


def most_at_once(settings: dict[str, Any]) -> int | None:
    """One on a GPU, unless the user says how many share it; on the CPU as many as find room."""
    return None if pick_device(settings["device"], require_gpu=False) == "cpu" else 1


def memory(task: Task) -> int:
    """Torch, the pictures twice, and the feature maps of a batch."""
    return _TORCH + 2 * (task.packed / "pixels.npy").stat().st_size


def _trainer(net: Classifier, train: Part, val: Part, settings: dict[str, Any], place: _Place) -> Trainer:
    accelerator = make_accelerator(place.device, place.precision)
    room = free_memory(place.device) // 2
    train_batches, val_batches = (
        Batches(part, accelerator.device, resident_bytes=room) for part in (train, val)
    )
    recipe = Recipe(**{field.name: settings[field.name] for field in fields(Recipe)})
    augment = Augment(**settings["augment"])
    return Trainer(net, train_batches, val_batches, recipe, augment, accelerator)


@torch.inference_mode()
def _ask(net: Classifier, pixels: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    net = net.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for start in range(0, len(pixels), _BATCH):
        batch = torch.from_numpy(pixels[start : start + _BATCH]).to(device)
        found.append(net(batch.permute(0, 3, 1, 2)).softmax(dim=1).float().cpu().numpy())
    return np.concatenate(found)
