"""What reports/evaluation/metrics.json says of one model: plain JSON values, rounded, without NaN.

Shape letters: N images, K classes, B draws, M calibration bins.
"""

import math
from typing import Any

import numpy as np

from convflow.evaluation.bootstrap import (
    Interval,
    Resampling,
    calibration_interval,
    interval,
    share_interval,
)
from convflow.evaluation.entrants import Entrant, Measured, commonest
from convflow.evaluation.metrics import Scored, all_metrics, confusion, log_loss
from convflow.evaluation.operating_point import OperatingPoint
from convflow.evaluation.ranking import Floats
from convflow.evaluation.sides import Predictions, Side

_DIGITS = 6  # far below any interval, far above what another processor's sums may differ by
_SHARES = frozenset({"accuracy", "weighted_accuracy", "majority"})


def describe(one: Entrant, measured: Measured, draws: Resampling) -> dict[str, Any]:
    """All numbers of one model: on val as they are, on test with 95 % intervals from `draws`."""
    val, test = one.found.val, one.found.test
    numbers, majority = _with_intervals(one, measured, draws)
    return {
        "absent_classes": {"val": val.absent(), "test": test.absent()},
        "calibration": _calibration(one, measured, draws),
        "classes": list(test.classes),
        "confusion": confusion(one.case).tolist(),
        "intervals": draws.about(),
        "majority": majority,
        "n": {"val": val.n_images, "test": test.n_images},
        "operating_point": _describe_point(one.point, test.classes, one.positive),
        "protocol": protocol(one.found, draws),
        "test": numbers,
        "val": _plain(val, one.of_val()) if val.n_images else None,
    }


def _with_intervals(
    one: Entrant, measured: Measured, draws: Resampling
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The test metrics, and the comparison with always answering the commonest class."""
    side, seen, drawn = one.found.test, measured.seen, measured.drawn
    numbers: dict[str, Any] = {
        name: entry(
            seen[name][0],
            (share_interval if name in _SHARES else interval)(drawn[name], draws.n_units),
        )
        for name in seen
        if seen[name].ndim == 1
    }
    calibrated = calibration_interval(seen["calibration_gaps"][0], drawn["calibration_gaps"], draws.n_units)
    numbers["ece"] = entry(seen["ece"][0], calibrated and calibrated[1])
    numbers["ece"]["debiased"] = number(calibrated[0]) if calibrated else None
    numbers["recall"] = _recalls(side, seen["recall"][0], drawn["recall"], draws)
    if (side.weight_N == 1).all():
        del numbers["weighted_accuracy"]
    _give_reasons(numbers, side)
    versus = {
        "class": side.classes[commonest(one.found)],
        "accuracy": numbers.pop("majority"),
        "gain": numbers.pop("gain"),
    }
    return numbers, versus


def _calibration(one: Entrant, measured: Measured, draws: Resampling) -> dict[str, Any]:
    """The temperature, and log loss and ECE on test before and after it."""
    return {
        "chosen_on": None if one.point.temperature == 1 else "val",
        "note": one.note,
        "temperature": one.point.temperature,
        "test": {
            "before": _calibrated(one.raw, measured, "raw_calibration_gaps", draws),
            "after": _calibrated(one.case, measured, "calibration_gaps", draws),
        },
    }


def _calibrated(case: Scored, measured: Measured, gaps: str, draws: Resampling) -> dict[str, Any]:
    gap_M = measured.seen[gaps][0]
    found = calibration_interval(gap_M, measured.drawn[gaps], draws.n_units)
    return {
        "ece": number(float(np.abs(gap_M).sum())),
        "ece_debiased": number(found[0]) if found else None,
        "log_loss": number(log_loss(case)[0]),
    }


def _recalls(side: Side, seen_K: Floats, drawn_BK: Floats, draws: Resampling) -> dict[str, Any]:
    entries = {}
    for index, name in enumerate(side.classes):
        n_units = len(np.unique(draws.unit_N[side.label_N == index]))
        entries[name] = entry(seen_K[index], share_interval(drawn_BK[:, index], n_units))
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
    plain: dict[str, Any] = {name: number(value[0]) for name, value in values.items() if value.ndim == 1}
    plain["recall"] = dict(zip(side.classes, map(number, values["recall"][0]), strict=True))
    return plain


def _describe_point(point: OperatingPoint, classes: tuple[str, ...], positive: int) -> dict[str, Any]:
    """The point, and which class ROC-AUC looks for (null: each against the rest)."""
    return {
        "chosen_on": None if point.threshold is None else "val",
        "criterion": point.criterion,
        "positive": classes[positive] if len(classes) == 2 else None,
        "temperature": point.temperature,
        "threshold": None if point.threshold is None else float(point.threshold),  # unrounded: it decides
        "value_on_val": None if point.value is None else number(point.value),
    }


def protocol(found: Predictions, draws: Resampling) -> str:
    """Which split, which images, which intervals: what every figure is to be read with."""
    groups = f" in {draws.n_units} groups" if draws.kind == "groups" else ""
    return (
        f"{found.protocol}; test n={found.test.n_images}{groups}; intervals: 95 % bootstrap "
        f"over {draws.kind}, {draws.n_draws:,} draws, seed {draws.seed}"
    )


def entry(value: float, ends: Interval | None) -> dict[str, Any]:
    """A value with the ends of its interval; null where there is none."""
    return {
        "value": number(value),
        "low": number(ends.low) if ends else None,
        "high": number(ends.high) if ends else None,
    }


def number(value: float) -> float | None:
    """`value` rounded for JSON; None where it is not finite."""
    return round(float(value), _DIGITS) + 0.0 if math.isfinite(value) else None
