"""A pretrained network as a contestant, climbed rung by rung on features computed once for all splits.

Nothing of the network itself is trained here; see `convflow.studying.tuned` for that.

Shape letters: N images, M of them in test, K classes.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.data.groups import group_numbers
from convflow.data.packed import Packed
from convflow.errors import DataError
from convflow.files import digest_folder
from convflow.learning.climbing import Climbed, Plan, Side, Stand, climb
from convflow.learning.devices import device_name
from convflow.learning.embedded import Embedded
from convflow.learning.planning import rungs_of, search_of
from convflow.learning.probing import Taught, Widths
from convflow.studying.jobs import Answer, Indices, Task

ALL = "all"  # the side whose features the study keeps: each split picks its rows
_TORCH = 2**30  # bytes: libraries
_COPIES = 16  # of the features under one view, at the most: standardised and turned, in double precision


def answer(task: Task) -> Answer:
    """Climb on train, choose on val, answer for test.

    Raises:
        DataError: no whole folder of features, or train has images of one class only.
        ParamsError: no rung that gives a head, or stages that were not kept.
    """
    features = open_features(task)
    train, val = sides_of(task, features)
    widths = widths_of(features)
    climbed = climb(train, val, widths, plan_of(task, list(widths)), in_time=clock())
    prob_MK = prob_of(climbed.stand, task, features)
    return Answer(prob_MK, notes_of(climbed), device_name("cpu"), seconds_of(climbed))


def stamp(task: Task) -> dict[str, str]:
    """Features, labels and weights, and torch; the pixels count through the features.

    Raises:
        DataError: the features are of other images than those packed.
    """
    open_features(task).check({ALL: digest_folder(task.packed)}, task.features)
    labels = digest_folder(task.packed, skip=frozenset({"pixels.npy", "contract.json"}))
    version = torch.__version__.partition("+")[0]
    return {"features": digest_folder(task.features), "labels": labels, "torch": version}


def most_at_once(settings: dict[str, Any]) -> int | None:
    """As many as there are cores and memory for."""
    return None


def memory(task: Task) -> int:
    """Libraries, and what is made of the features under one view."""
    features = open_features(task).sides[ALL]
    return int(_TORCH + _COPIES * features.nbytes // features.shape[1])


def open_features(task: Task) -> Embedded:
    """The features of all images.

    Raises:
        DataError: a part is missing, or the parts do not agree.
    """
    return Embedded(task.features, made_by="encode")


def widths_of(features: Embedded) -> Widths:
    """How many features each stage has."""
    return dict(zip(features.about.depths, features.about.widths, strict=True))


def sides_of(task: Task, features: Embedded) -> tuple[Side, Side]:
    """Train and val, with their features, pictures and labels; groups where the protocol keeps them together.

    Raises:
        DataError: train has images of one class only.
    """
    packed = Packed(task.packed)
    group_N = group_numbers(task.packed) if task.grouped else None

    def side(rows: Indices) -> Side:
        groups = None if group_N is None else group_N[rows]
        taught = Taught(packed.labels[rows], packed.weights[rows], groups, len(packed.contract.classes))
        return Side(features.sides[ALL], taught, image_NSSC=packed.pixels, row_N=rows)

    train, val = side(task.rows["train"]), side(task.rows["val"])
    if len(np.unique(train.taught.label_N)) < 2:
        raise DataError(f"{task.packed}: images of one class only in train; add some of another")
    return train, val


def plan_of(task: Task, stages: list[int]) -> Plan:
    """Which rungs are tried, and how a head is looked for.

    Raises:
        ParamsError: no rung that gives a head, or stages that were not kept.
    """
    place = f"folds.transfers.{task.name}"
    rungs = rungs_of(task.settings["rungs"], place=place)
    search = search_of(task.settings["probe"], stages, seed=task.seed, place=f"{place}.probe")
    return Plan(rungs, search, task.settings["keep_errors"])


def clock() -> Callable[[], tuple[float, bool]]:
    """Seconds from now on, and that there is always time for another rung: a split ends when it is done."""
    started = time.monotonic()
    return lambda: (time.monotonic() - started, True)


def prob_of(stand: Stand, task: Task, features: Embedded) -> NDArray[np.float32]:
    """Probabilities float32 (M, K) of the test images, from their features alone."""
    nothing = Taught(np.empty(0, np.int64), np.empty(0, np.float32), None, len(stand.probe.bias_K))
    test = Side(features.sides[ALL], nothing, row_N=task.rows["test"])
    found: NDArray[np.float32] = stand.logits(test, widths_of(features)).softmax(dim=1).float().numpy()
    return found


def notes_of(climbed: Climbed) -> dict[str, Any]:
    """What was kept and chosen; no clock, so that equal runs write equal files."""
    stand, standing = climbed.stand, climbed.ladder.standing
    return {
        "rungs": {rung.name: rung.kept for rung in climbed.ladder.rungs},
        "depths": list(stand.probe.depths),
        "c": stand.probe.c,
        "temperature": stand.temperature,
        "val": {"accuracy": standing.accuracy, "loss": standing.loss},
    }


def seconds_of(climbed: Climbed) -> dict[str, float]:
    """Seconds that each rung took."""
    names = [rung.name for rung in climbed.ladder.rungs]
    done = [0.0, *(note.seconds for note in climbed.notes)]
    return {name: after - before for name, before, after in zip(names, done, done[1:], strict=False)}
