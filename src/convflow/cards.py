"""card.json: what a model folder says of itself, checked before any weights are read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convflow.errors import ConvflowError, ModelError
from convflow.files import digest_file, dump_json, read_json, write_json
from convflow.manifest import open_manifest, save_manifest

CARD = "card.json"
_FORMAT = 1
_MOST_BYTES = 32 * 2**20
_HUGE = 1e300


def save_card(folder: Path, card: dict[str, Any], weights: str) -> None:
    """Write the card that vouches for the file `weights`, then the manifest of all that lies in `folder`.

    Whatever else belongs to the model is written before.
    """
    stamp = {"format": _FORMAT, "weights": {"file": weights, "sha256": digest_file(folder / weights)}}
    write_json(folder / CARD, card | stamp)
    save_manifest(folder)


def load_card(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a model's card, after the names and sizes of all files were compared with the manifest.

    Args:
        folder: of the model.
        kind: network or baseline, where only this one will do.

    Raises:
        ModelError: no card, one of another format, or one that does not describe a model; no manifest, a
            damaged one, or a file that is missing, too many, or of another size.
    """
    path = folder / CARD
    if not os.path.isfile(path):
        raise ModelError(
            f"{folder}: no {CARD}, so no model of convflow; run `dvc repro` or give another folder"
        )
    manifest = open_manifest(folder)
    if manifest.entries[CARD].n_bytes > _MOST_BYTES:
        raise ModelError(f"{path}: larger than {_MOST_BYTES:,} bytes; run `dvc checkout` or train again")
    manifest.check(CARD)
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
    try:
        dump_json(card)
    except ValueError:
        raise ModelError(f"{path}: holds a number that is none; run `dvc checkout` or train again") from None
    return card


def whole_weights(folder: Path, card: dict[str, Any]) -> Path:
    """The file that the card vouches for, after every file of the folder was compared with the manifest.

    Raises:
        ModelError: one is missing, too many, or not the one listed.
    """
    manifest = open_manifest(folder)
    name = str(card["weights"]["file"])
    path = folder / name
    if name not in manifest.entries:
        raise ModelError(f"{path}: missing; run `dvc checkout` or train again")
    digest = manifest.digest(name)
    if digest != card["weights"]["sha256"]:
        raise ModelError(f"{path}: its sha256 is not the one on {CARD}; run `dvc checkout` or train again")
    manifest.check_all({name: digest})
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
    return all(type(one) in (int, float) and abs(one) < _HUGE for one in numbers) and numbers[0] > 0


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
