"""From nested results to the flat names and values MLflow takes."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convflow.errors import TrackingError
from convflow.registry.store import redact

MAX_NAME = 250
MAX_PARAM = 6000
_LONGEST_LIST = 20  # longer ones are curves: files for plots, not figures for a table


def flat_params(tree: dict[str, Any]) -> dict[str, str]:
    """Nested parameters as `section.key` -> text; lists as JSON, addresses without passwords."""
    flat: dict[str, str] = {}
    for path, value in _leaves(tree, lists=False):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        flat[_name(path, ".", taken=flat)] = redact(text)[:MAX_PARAM]
    return flat


def flat_metrics(tree: Any) -> dict[str, float]:
    """The finite numbers of a nested result as `part/part/name` -> value; nothing else."""
    flat: dict[str, float] = {}
    for path, value in _leaves(tree, lists=True):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            flat[_name(path, "/", taken=flat)] = float(value)
    return flat


def read_history(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The epochs of a history.jsonl, each with its number and its finite figures.

    Raises:
        TrackingError: a line that is no epoch.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    epochs = []
    for number, line in enumerate(lines, start=1):
        try:
            epochs.append(parse_epoch(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TrackingError(
                f"{path}:{number}: not an epoch ({line[:40]!r}); run `dvc repro --force train`"
            ) from None
    return epochs


def parse_epoch(line: str) -> tuple[int, dict[str, float]]:
    """One line of history.jsonl as its epoch and its figures.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the line is no epoch.
    """
    row = json.loads(line)
    epoch = int(row.pop("epoch"))
    return epoch, flat_metrics(row)


def _leaves(value: Any, *, lists: bool, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, lists=lists, path=(*path, str(key)))
    elif lists and isinstance(value, list):
        for index, inner in enumerate(value if len(value) <= _LONGEST_LIST else []):
            yield from _leaves(inner, lists=True, path=(*path, str(index)))
    else:
        yield path, value


def _name(path: tuple[str, ...], separator: str, *, taken: dict[str, Any]) -> str:
    """A name MLflow admits (letters, digits, `_-.: /`), unlike any that is `taken`."""
    parts = [re.sub(r"[^\w\-.: ]", "_", part).strip() for part in path]
    # MLflow reads names as paths: an empty part or one of dots alone would be refused.
    clean = separator.join(part if part.strip(".") else "_" for part in parts)[: MAX_NAME - 5] or "_"
    name, number = clean, 2
    while name in taken:
        name, number = f"{clean}_{number}", number + 1
    return name
