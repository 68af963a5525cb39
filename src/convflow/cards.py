"""card.json: what a model folder says of itself, written last and checked before anything else is read."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convflow.errors import ConvflowError, ModelError
from convflow.files import digest_file, read_json, write_json

CARD = "card.json"
_FORMAT = 1


def save_card(folder: Path, card: dict[str, Any], weights: str) -> None:
    """Write the card that vouches for the file `weights` in `folder`."""
    stamp = {"format": _FORMAT, "weights": {"file": weights, "sha256": digest_file(folder / weights)}}
    write_json(folder / CARD, card | stamp)


def load_card(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a model's card.

    Args:
        folder: of the model.
        kind: network or baseline, where only this one will do.

    Raises:
        ModelError: no card, one of another format, or one that does not describe a model.
    """
    path = folder / CARD
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {CARD}, so no model of convflow; run `dvc repro` or give another folder"
        )
    try:
        card: Any = read_json(path)
    except ConvflowError as error:
        raise ModelError(str(error)) from None
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        found = card.get("format") if isinstance(card, dict) else card
        raise ModelError(f"{path}: format {found!r:.40}, this convflow reads {_FORMAT}; train it anew")
    known = card.get("kind")
    if not isinstance(known, str) or known not in _OF_KIND or (kind or known) != known:
        wanted = kind or " or ".join(_OF_KIND)
        raise ModelError(f"{path}: kind is {known!r:.80}, not {wanted}; run `dvc checkout` or train again")
    for name, is_good in (_RULES | _OF_KIND[known]).items():
        if not is_good(card.get(name)):
            raise ModelError(f"{path}: {name} is {card.get(name)!r:.80}; run `dvc checkout` or train again")
    return card


def whole_weights(folder: Path, card: dict[str, Any]) -> Path:
    """The file that the card vouches for.

    Raises:
        ModelError: it is missing, or not the one.
    """
    path = folder / str(card["weights"]["file"])
    if not path.is_file():
        raise ModelError(f"{path}: missing; run `dvc checkout` or train again")
    if digest_file(path) != card["weights"]["sha256"]:
        raise ModelError(f"{path}: its sha256 is not the one on {CARD}; run `dvc checkout` or train again")
    return path


def _is_input(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"size_px", "channels", "fit"}
        and type(value["size_px"]) is int
        and 8 <= value["size_px"] <= 1024
        and value["channels"] in (1, 3)
        and value["fit"] in ("stretch", "crop", "pad")
    )


def _is_classes(value: Any) -> bool:
    if not (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        return False
    return len(set(value)) == len(value)


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("sha256"), str)
        and isinstance(value.get("file"), str)
        and Path(value["file"]).name == value["file"]
    )


def _is_calibration(value: Any) -> bool:
    if not (isinstance(value, dict) and {"scale", "bias"} <= set(value) and isinstance(value["bias"], list)):
        return False
    numbers = [value["scale"], *value["bias"]]
    return all(type(one) in (int, float) and math.isfinite(one) for one in numbers) and numbers[0] > 0


_RULES: dict[str, Callable[[Any], bool]] = {
    "arch": lambda value: isinstance(value, str),
    "classes": _is_classes,
    "input": _is_input,
    "weights": _is_weights,
}
_OF_KIND: dict[str, dict[str, Callable[[Any], bool]]] = {
    "network": {
        "arch_args": lambda value: isinstance(value, dict),
        "normalise": lambda value: value in ("dataset", "image"),
    },
    "baseline": {
        "calibration": _is_calibration,
        "features": lambda value: isinstance(value, dict),
    },
}
