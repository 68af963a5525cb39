"""The CSV tables that `dvc plots show` draws, and the reading of history.jsonl."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convflow.errors import ModelError
from convflow.evaluation.curves import Curve, mean_curve, rank_curves, reliability
from convflow.evaluation.entrants import Entrant
from convflow.evaluation.metrics import Scored
from convflow.files import whole_file

HISTORY_COLUMNS = ("epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy")


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read one finite line per epoch, in order.

    Raises:
        ModelError: the file is missing, or a line is cut or lacks a number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; run `dvc repro train` to make it") from None
    history = []
    for number, line in enumerate(lines, start=1):
        try:
            epoch = json.loads(line)
            history.append({name: epoch[name] for name in HISTORY_COLUMNS})
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"{path}: line {number} is no whole epoch; run `dvc repro -f train`") from None
    return history


def write_tables(folder: Path, one: Entrant, history: Sequence[dict[str, Any]]) -> None:
    """Write training_curves, confusion (one line per image), roc, pr and reliability as CSV.

    With more than two classes roc and pr hold the mean of the one-vs-rest curves; reliability_before is
    that of the probabilities as the model said them, before the temperature.
    """
    case, classes = one.case, one.found.test.classes
    write_csv(
        folder / "training_curves.csv",
        HISTORY_COLUMNS,
        ([epoch[name] for name in HISTORY_COLUMNS] for epoch in history),
    )
    pairs = zip(case.label_N.tolist(), case.decided.tolist(), strict=True)
    write_csv(
        folder / "confusion.csv",
        ("actual", "predicted"),
        ([classes[actual], classes[predicted]] for actual, predicted in pairs),
    )
    roc, precision = rank_curves(case)
    write_csv(folder / "roc.csv", ("false_positive_rate", "true_positive_rate"), _points(mean_curve(roc)))
    write_csv(folder / "pr.csv", ("recall", "precision"), _points(mean_curve(precision)))
    _write_reliability(folder / "reliability.csv", one.case)
    _write_reliability(folder / "reliability_before.csv", one.raw)


def _write_reliability(path: Path, case: Scored) -> None:
    numbers = (
        [*map(_short, (each.low, each.high, each.confidence, each.accuracy)), each.images]
        for each in reliability(case)
    )
    write_csv(path, ("bin_low", "bin_high", "confidence", "accuracy", "images"), numbers)


def _points(curve: Curve) -> Iterable[list[float]]:
    return ([_short(x), _short(y)] for x, y in zip(curve.x, curve.y, strict=True))


def _short(value: float) -> float:
    return round(float(value), 6)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table whole or not at all; None is an empty cell."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
