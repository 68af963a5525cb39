"""A baseline as a contestant: settings by cross-validation inside train, probabilities calibrated on val."""

from typing import Any

import numpy as np
import sklearn

from convflow.baselines.fitting import fit_baseline
from convflow.baselines.rows import Rows, Search
from convflow.data.groups import group_numbers
from convflow.data.packed import Packed
from convflow.files import digest_folder, read_json
from convflow.studying.jobs import Answer, Task

_LIBRARIES = 2**29  # bytes
_COPIES = 8  # of the features, at the most: by fold of the search, standardised, and in double precision


def answer(task: Task) -> Answer:
    """Fit on train, calibrate on val, answer for test.

    Raises:
        DataError: train has images of one class only.
        ParamsError: no such baseline.
    """
    everything = _rows(task)
    train, val = (everything.take(task.rows[side]) for side in ("train", "val"))
    settings = task.settings
    search = Search(
        settings.get(task.name, {}),
        folds=settings["folds"],
        seed=task.seed,
        criterion=settings["criterion"],
        device=settings["device"],
    )
    fit = fit_baseline(task.name, train, val, search)
    prob_MK = fit.baseline.predict_proba(np.asarray(everything.feature_NF[task.rows["test"]]))
    return Answer(prob_MK, {"chosen": fit.chosen, "notes": list(fit.notes)}, settings["device"])


def stamp(task: Task) -> dict[str, str]:
    """Features, labels and weights, and scikit-learn; the pixels count through the features."""
    labels = digest_folder(task.packed, skip=frozenset({"pixels.npy", "contract.json"}))
    return {"features": digest_folder(task.features), "labels": labels, "sklearn": sklearn.__version__}


def most_at_once(settings: dict[str, Any]) -> int | None:
    """As many as there are cores and memory for."""
    return None


def memory(task: Task) -> int:
    """Libraries and copies of the features."""
    return int(_LIBRARIES + _COPIES * (task.features / "all.npy").stat().st_size)


def _rows(task: Task) -> Rows:
    packed = Packed(task.packed)
    return Rows(
        np.load(task.features / "all.npy", mmap_mode="r"),
        packed.labels,
        packed.weights.astype(np.float64),
        len(packed.contract.classes),
        dict(read_json(task.features / "features.json")["blocks"]),
        group_numbers(task.packed) if task.grouped else None,
    )
