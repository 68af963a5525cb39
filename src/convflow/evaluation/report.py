"""What reports/evaluation/metrics.json says of one model: plain JSON values, rounded, without NaN.

Shape letters: N images, K classes, B draws.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from convflow.errors import ParamsError
from convflow.evaluation.bootstrap import (
    Interval,
    Resampling,
    calibration_interval,
    interval,
    resampling,
    share_interval,
)
from convflow.evaluation.metrics import (
    Scored,
    accuracy,
    all_metrics,
    confusion,
    weighted_accuracy,
)
from convflow.evaluation.operating_point import OperatingPoint, choose_operating_point
from convflow.evaluation.ranking import Floats
from convflow.evaluation.sides import Predictions, Side

_DIGITS = 6  # far below any interval, far above what another processor's sums may differ by


def positive_index(classes: tuple[str, ...], positive: str | None) -> int:
    """The index of the class that a two-class task looks for; by default the last.

    Raises:
        ParamsError: there is no such class.
    """
    if positive is None:
        return len(classes) - 1
    if positive not in classes:
        raise ParamsError(
            f"params.yaml: evaluate.positive: {positive!r} is none of the classes "
            f"{', '.join(classes)}; name one of them, or null for the last"
        )
    return classes.index(positive)


def evaluate_model(
    found: Predictions, *, operating_point: str, positive: str | None, n_draws: int, seed: int
) -> tuple[dict[str, Any], Scored]:
    """All numbers of one model, on val as they are, on test with 95 % intervals; and the scored test images.

    Args:
        found: what the model said of val and test.
        operating_point: the criterion of `choose_operating_point`, which sees val alone.
        positive: the class that a two-class task looks for, None for the last.
        n_draws: bootstrap draws, some thousands.
        seed: of these draws alone.

    Raises:
        ParamsError: `positive` is no class, or a threshold is asked for more than two.
        DataError: val cannot choose a threshold.
    """
    wanted = positive_index(found.test.classes, positive)
    val, test = found.val, found.test
    point = choose_operating_point(val.label_N, val.prob_NK, criterion=operating_point, positive=wanted)
    case = _score(test, point, wanted)
    draws = resampling(test.group_N, n_draws=n_draws, seed=seed)
    numbers, versus = _with_intervals(found, case, draws)
    return {
        "absent_classes": {"val": val.absent(), "test": test.absent()},
        "classes": list(test.classes),
        "confusion": confusion(case).tolist(),
        "intervals": draws.about(),
        "majority": versus,
        "n": {"val": val.n_images, "test": test.n_images},
        "operating_point": _describe_point(point, test.classes, wanted),
        "protocol": _protocol(found, draws),
        "test": numbers,
        "val": _plain(val, _score(val, point, wanted)) if val.n_images else None,
    }, case


def _score(side: Side, point: OperatingPoint, positive: int) -> Scored:
    return Scored(side.label_N, side.prob_NK, point.decide(side.prob_NK), positive)


def _with_intervals(
    found: Predictions, case: Scored, draws: Resampling
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The test metrics, and the comparison with always answering the commonest class."""
    side = found.test
    common = _commonest(found)
    majority = Scored(side.label_N, side.prob_NK, np.full(side.n_images, common), case.positive)

    def measure(count_BN: Floats | None) -> Mapping[str, Floats]:
        base_B = accuracy(majority, count_BN)
        one = all_metrics(case, count_BN)
        return {
            **one,
            "weighted_accuracy": weighted_accuracy(case, side.weight_N, count_BN),
            "majority": base_B,
            "gain": one["accuracy"] - base_B,
        }

    seen, drawn = measure(None), draws.draw(measure)
    share = {"accuracy", "weighted_accuracy", "majority"}
    numbers: dict[str, Any] = {
        name: _entry(
            seen[name][0],
            (share_interval if name in share else interval)(drawn[name], draws.n_units),
        )
        for name in seen
        if seen[name].ndim == 1
    }
    calibrated = calibration_interval(seen["calibration_gaps"][0], drawn["calibration_gaps"], draws.n_units)
    numbers["ece"] = _entry(seen["ece"][0], calibrated and calibrated[1])
    numbers["ece"]["debiased"] = _number(calibrated[0]) if calibrated else None
    numbers["recall"] = _recalls(side, seen["recall"][0], drawn["recall"], draws)
    if (side.weight_N == 1).all():
        del numbers["weighted_accuracy"]
    _give_reasons(numbers, side)
    versus = {
        "class": side.classes[common],
        "accuracy": numbers.pop("majority"),
        "gain": numbers.pop("gain"),
    }
    return numbers, versus


def _recalls(side: Side, seen_K: Floats, drawn_BK: Floats, draws: Resampling) -> dict[str, Any]:
    entries = {}
    for index, name in enumerate(side.classes):
        n_units = len(np.unique(draws.unit_N[side.label_N == index]))
        entries[name] = _entry(seen_K[index], share_interval(drawn_BK[:, index], n_units))
        if n_units == 0:
            entries[name]["reason"] = f"no test image of {name}"
    return entries


def _give_reasons(numbers: dict[str, Any], side: Side) -> None:
    absent = ", ".join(side.absent())
    for name in ("roc_auc", "average_precision"):
        if numbers[name]["value"] is None:
            numbers[name]["reason"] = f"no test image of {absent}"
        elif absent and len(side.classes) > 2:
            numbers[name]["note"] = f"mean over the classes present; absent: {absent}"
    if absent and len(side.classes) > 1:
        note = f"mean over the classes present; absent: {absent}"
        numbers["balanced_accuracy"]["note"] = numbers["macro_f1"]["note"] = note


def _plain(side: Side, case: Scored) -> dict[str, Any]:
    """Values without intervals: val has chosen the epoch, so an interval would promise too much."""
    values = all_metrics(case)
    plain: dict[str, Any] = {name: _number(value[0]) for name, value in values.items() if value.ndim == 1}
    plain["recall"] = dict(zip(side.classes, map(_number, values["recall"][0]), strict=True))
    return plain


def _describe_point(point: OperatingPoint, classes: tuple[str, ...], positive: int) -> dict[str, Any]:
    """The point, and which class ROC-AUC looks for (null: each against the rest)."""
    return {
        "chosen_on": None if point.threshold is None else "val",
        "criterion": point.criterion,
        "positive": classes[positive] if len(classes) == 2 else None,
        "threshold": None if point.threshold is None else float(point.threshold),  # unrounded: it decides
        "value_on_val": None if point.value is None else _number(point.value),
    }


def _protocol(found: Predictions, draws: Resampling) -> str:
    groups = f" in {draws.n_units} groups" if draws.kind == "groups" else ""
    return (
        f"{found.protocol}; test n={found.test.n_images}{groups}; intervals: 95 % bootstrap "
        f"over {draws.kind}, {draws.n_draws:,} draws, seed {draws.seed}"
    )


def _commonest(found: Predictions) -> int:
    """The commonest class of training; where the table does not say it, of val, then of test."""
    if found.commonest in found.test.classes:
        return found.test.classes.index(found.commonest)
    label_N = found.val.label_N if found.val.n_images else found.test.label_N
    return int(np.bincount(label_N).argmax())


def _entry(value: float, ends: Interval | None) -> dict[str, Any]:
    return {
        "value": _number(value),
        "low": _number(ends.low) if ends else None,
        "high": _number(ends.high) if ends else None,
    }


def _number(value: float) -> float | None:
    return round(float(value), _DIGITS) + 0.0 if math.isfinite(value) else None
