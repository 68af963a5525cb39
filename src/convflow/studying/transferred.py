"""A pretrained network as a contestant, climbed rung by rung on features computed once for all splits.

Shape letters: N images, M of them in test, V views, F features, K classes.
"""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.files import digest_folder
from convflow.learning.climbing import RUNGS, Climbed, Plan, RungName, Side, climb
from convflow.learning.devices import device_name
from convflow.learning.embedded import Embedded
from convflow.learning.probing import Search, Taught, Widths, last_depths
from convflow.studying.groups import group_numbers
from convflow.studying.jobs import Answer, Indices, Task

_ALL = "all"  # the side whose features the study keeps: each split picks its rows
_TORCH = 2**30  # bytes: libraries
_COPIES = 16  # of the features under one view, at the most: standardised and turned, in double precision


def answer(task: Task) -> Answer:
    """Climb on train, choose on val, answer for test.

    Raises:
        DataError: no whole folder of features, or train has images of one class only.
        ParamsError: no rung that gives a head, or stages that were not kept.
    """
    features = Embedded(task.features, made_by="encode")
    feature_NVF, about = features.sides[_ALL], features.about
    widths = dict(zip(about.depths, about.widths, strict=True))
    climbed = _climbed(task, feature_NVF, widths)
    test = Side(np.asarray(feature_NVF[task.rows["test"]]), _untold(climbed))
    prob_MK = climbed.stand.logits(test, widths).softmax(dim=1).numpy()
    return Answer(prob_MK.astype(np.float32), _notes(climbed), device_name("cpu"), _seconds(climbed))


def stamp(task: Task) -> dict[str, str]:
    """Features, labels and weights, and torch; the pixels count through the features.

    Raises:
        DataError: the features are of other images than those packed.
    """
    packed = {_ALL: digest_folder(task.packed)}
    Embedded(task.features, made_by="encode").check(packed, task.features)
    labels = digest_folder(task.packed, skip=frozenset({"pixels.npy", "contract.json"}))
    version = torch.__version__.partition("+")[0]
    return {"features": digest_folder(task.features), "labels": labels, "torch": version}


def most_at_once(settings: dict[str, Any]) -> int | None:
    """As many as there are cores and memory for."""
    return None


def memory(task: Task) -> int:
    """Libraries, the features of a split under all views, and what is made of those under one."""
    features = Embedded(task.features, made_by="encode").sides[_ALL]
    return int(_TORCH + features.nbytes + _COPIES * features.nbytes // features.shape[1])


def _climbed(task: Task, feature_NVF: NDArray[np.float32], widths: Widths) -> Climbed:
    """Fit on train, and keep what helps on val; rungs that train the network itself belong here, too."""
    started = time.monotonic()
    packed = Packed(task.packed)
    group_N = group_numbers(task.packed) if task.grouped else None
    train, val = (
        Side(np.asarray(feature_NVF[rows]), _taught(packed, rows, group_N))
        for rows in (task.rows["train"], task.rows["val"])
    )
    if len(np.unique(train.taught.label_N)) < 2:
        raise DataError(f"{task.packed}: images of one class only in train; add some of another")
    plan = Plan(_rungs(task), _search(task, list(widths)), task.settings["keep_errors"])
    return climb(train, val, widths, plan, in_time=lambda: (time.monotonic() - started, True))


def _taught(packed: Packed, rows: Indices, group_N: Indices | None) -> Taught:
    groups = None if group_N is None else group_N[rows]
    return Taught(packed.labels[rows], packed.weights[rows], groups, len(packed.contract.classes))


def _untold(climbed: Climbed) -> Taught:
    """What a model that answers is told of labels: nothing."""
    nothing = np.empty(0)
    n_classes = len(climbed.stand.probe.bias_K)
    return Taught(nothing.astype(np.int64), nothing.astype(np.float32), None, n_classes)


def _rungs(task: Task) -> tuple[RungName, ...]:
    rungs = tuple(name for name in RUNGS if name in task.settings["rungs"])
    if not set(rungs) & {"probe", "views"}:
        raise ParamsError(
            f"folds.transfers.{task.name}.rungs: {list(rungs)} gives no head; add probe or views"
        )
    return rungs


def _search(task: Task, stages: list[int]) -> Search:
    probe = task.settings["probe"]
    depths = last_depths(stages)
    if probe["depths"] != "auto":
        depths = tuple(tuple(sorted(set(one))) for one in probe["depths"])
    for one in depths:
        if not set(one) <= set(stages):
            raise ParamsError(
                f"folds.transfers.{task.name}.probe.depths: {list(one)} is not among {stages}, "
                "the stages whose features are kept; set it to auto"
            )
    return Search(depths, tuple(sorted(probe["c"])), probe["folds"], task.seed, probe["unsure"])


def _notes(climbed: Climbed) -> dict[str, Any]:
    """What was kept and chosen; no clock, so that equal runs write equal files."""
    stand, standing = climbed.stand, climbed.ladder.standing
    return {
        "rungs": {rung.name: rung.kept for rung in climbed.ladder.rungs},
        "depths": list(stand.probe.depths),
        "c": stand.probe.c,
        "temperature": stand.temperature,
        "val": {"accuracy": standing.accuracy, "loss": standing.loss},
    }


def _seconds(climbed: Climbed) -> dict[str, float]:
    """Seconds that each rung took."""
    names = [rung.name for rung in climbed.ladder.rungs]
    done = [0.0, *(note.seconds for note in climbed.notes)]
    return {name: after - before for name, before, after in zip(names, done, done[1:], strict=False)}
