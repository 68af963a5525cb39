"""A pretrained network as a contestant, its last blocks trained on: the rungs tune and soup.

Shape letters: M images in test, K classes.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convflow.data.packed import Packed
from convflow.errors import ParamsError
from convflow.learning.activations import Pictures
from convflow.learning.assembling import ask, assemble
from convflow.learning.augment import Augment
from convflow.learning.climbing import Stand, climb
from convflow.learning.devices import be_deterministic, device_name, one_line, pick_device
from convflow.learning.embedded import About, Embedded
from convflow.learning.embedding import Mode
from convflow.learning.pretrained import open_pretrained
from convflow.learning.tuner import Place, Tuner
from convflow.learning.tuning import Tuning, training_precision
from convflow.nets.backbones import Trunk
from convflow.studying import transferred
from convflow.studying.jobs import Answer, Task

WORK = Path(".convflow/tuning")
_MAPS = 2**30  # bytes: the feature maps and gradients of a batch, and the weights


def answer(task: Task) -> Answer:
    """Climb on train, choose on val, answer for test: from pixels where trained weights were kept.

    Raises:
        DataError: no whole folder of features, or train has images of one class only.
        ModelError: the pretrained weights are missing or altered.
        ParamsError: no rung that gives a head, stages that were not kept, or more blocks than there are.
        TrainingError: the loss is not finite, or the device is missing.
    """
    features = transferred.open_features(task)
    about = features.about
    trunk = open_pretrained(about.source, about.wanted()).trunk
    sides = transferred.sides_of(task, features)
    place = _place(task, about)
    tuner = Tuner(trunk, sides, _tuning(task, len(trunk.stages)), place)
    widths = transferred.widths_of(features)
    plan = transferred.plan_of(task, list(widths))
    with one_line(_section(task)):
        climbed = climb(*sides, widths, plan, in_time=transferred.clock(), tuner=tuner)
        prob_MK = _asked(climbed.stand, task, features, trunk, place.device)
    epochs = [[len(run) for run in note.epochs] for note in climbed.notes if note.epochs]
    notes = transferred.notes_of(climbed) | {"epochs": epochs, "precision": place.precision}
    return Answer(prob_MK, notes, device_name(place.device), transferred.seconds_of(climbed))


def stamp(task: Task) -> dict[str, str]:
    """As of a frozen one: features are bound to the pixels and to the weights they came from.

    Raises:
        DataError: the features are of other images than those packed.
    """
    return transferred.stamp(task)


def most_at_once(settings: dict[str, Any]) -> int | None:
    """One on a GPU, unless the user says how many share it; on the CPU as many as find room."""
    return None if pick_device(settings["tune"]["device"], require_gpu=False) == "cpu" else 1


def memory(task: Task) -> int:
    """As of a frozen one, and a batch."""
    return transferred.memory(task) + _MAPS


def _section(task: Task) -> str:
    return f"folds.transfers.{task.name}.tune"


def _place(task: Task, about: About) -> Place:
    wanted = task.settings["tune"]
    device = pick_device(wanted["device"], require_gpu=False, place=_section(task))
    precision = training_precision(wanted["precision"], device, place=_section(task))
    if wanted["deterministic"]:
        be_deterministic()
    return Place(device, precision, cast("Mode", about.mode), about.views, WORK)


def _tuning(task: Task, n_stages: int) -> Tuning:
    settings = task.settings["tune"]
    blocks = None if settings["blocks"] == "all" else settings["blocks"]
    if blocks is not None and blocks >= n_stages:
        raise ParamsError(
            f"{_section(task)}.blocks: {blocks} of {n_stages} stages; set it to all, or to less"
        )
    known = {field.name: settings[field.name] for field in fields(Tuning) if field.name in settings}
    own = {"augment": Augment(**settings["augment"]), "unsure": task.settings["probe"]["unsure"]}
    return Tuning(**known | own | {"blocks": blocks, "seed": task.seed})


def _asked(stand: Stand, task: Task, features: Embedded, trunk: Trunk, device: str) -> NDArray[np.float32]:
    """Probabilities float32 (M, K) of the test images."""
    if stand.tuned is None:
        return transferred.prob_of(stand, task, features)
    packed = Packed(task.packed)
    network = assemble(trunk, stand, packed.contract.channels, features.about.views)
    return ask(network, Pictures(packed.pixels, task.rows["test"]), device)
