"""A pretrained network as a contestant, its last blocks trained on: the rungs tune and soup.

Shape letters: M images in test, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.data.packed import Packed
from convflow.learning.activations import Pictures
from convflow.learning.assembling import ask, assemble
from convflow.learning.climbing import Stand, climb
from convflow.learning.devices import device_name, one_line, pick_device
from convflow.learning.embedded import Embedded
from convflow.learning.pretrained import open_pretrained
from convflow.learning.tuner import Tuner
from convflow.learning.tuning_plan import check_blocks, place_of, tuning_of
from convflow.nets.backbones import Trunk
from convflow.studying import transferred
from convflow.studying.jobs import Answer, Task

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
    section, tune = f"folds.transfers.{task.name}.tune", task.settings["tune"]
    place = place_of(tune, about, place=section)
    tuning = tuning_of(tune, unsure=task.settings["probe"]["unsure"], seed=task.seed)
    check_blocks(tuning, len(trunk.stages), place=section)
    tuner = Tuner(trunk, sides, tuning, place)
    widths = transferred.widths_of(features)
    plan = transferred.plan_of(task, list(widths))
    with one_line(section):
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


def _asked(stand: Stand, task: Task, features: Embedded, trunk: Trunk, device: str) -> NDArray[np.float32]:
    """Probabilities float32 (M, K) of the test images."""
    if stand.tuned is None:
        return transferred.prob_of(stand, task, features)
    packed = Packed(task.packed)
    network = assemble(trunk, stand, packed.contract.channels, features.about.views)
    return ask(network, Pictures(packed.pixels, task.rows["test"]), device)
