"""What a model costs: time to fit, size, arithmetic, latency; from its card and the timing folder.

Whatever is missing is None: a clock is no condition for a number.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convflow.errors import ConvflowError
from convflow.files import read_json

BATCHES = ("1", "64")


def efficiency(model: Path, card: Mapping[str, Any], timing: Path) -> dict[str, Any]:
    """Fit seconds, bytes, parameters, FLOPs of one image, and milliseconds per image by batch size.

    Args:
        model: the model's folder; its name names the timing files.
        card: its card.json.
        timing: a folder with fit-NAME.json and predict-NAME.json, or without.
    """
    fit, asked = (_maybe(timing / f"{what}-{model.name}.json") for what in ("fit", "predict"))
    return {
        "fit_device": _text(fit, "device"),
        "fit_seconds": _number(fit, "seconds"),
        "flops": _number(asked, "flops"),
        "latency_ms": {
            batch: {name: _number(asked, "latency_ms", batch, name) for name in ("median", "p95")}
            for batch in BATCHES
        },
        "n_parameters": _number(card, "n_parameters"),
        "predict_device": _text(asked, "device"),
        "size_bytes": _size(model, card),
        "threads": _number(asked, "threads"),
    }


def _size(model: Path, card: Mapping[str, Any]) -> int | None:
    weights = card.get("weights")
    name = weights.get("file") if isinstance(weights, dict) else None
    path = model / str(name)
    return path.stat().st_size if name and path.is_file() else None


def _maybe(path: Path) -> Any:
    try:
        return read_json(path) if path.is_file() else {}
    except ConvflowError:
        return {}


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _number(tree: Any, *keys: str) -> float | int | None:
    found = _at(tree, *keys)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        return None
    return found


def _text(tree: Any, key: str) -> str | None:
    found = _at(tree, key)
    return found if isinstance(found, str) else None
