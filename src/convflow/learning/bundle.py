"""A model on disk: weights as safetensors and a card from which the network is rebuilt. Never a pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from convflow.errors import ConvflowError, ModelError, ParamsError
from convflow.files import digest_file, read_json, write_json
from convflow.nets.registry import Classifier, build

CARD = "card.json"
WEIGHTS = "weights.safetensors"
_FORMAT = 1


def save_bundle(folder: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write weights, then the card that vouches for them, into `folder`."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    stamp = {"format": _FORMAT, "weights": {"file": WEIGHTS, "sha256": digest_file(folder / WEIGHTS)}}
    write_json(folder / CARD, card | stamp)


def load_card(folder: Path) -> dict[str, Any]:
    """Read a model's card.

    Raises:
        ModelError: no card, one of another format, or one that does not describe a network.
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
    for name, is_good in _CARD_RULES.items():
        if not is_good(card.get(name)):
            raise ModelError(f"{path}: {name} is {card.get(name)!r:.80}; run `dvc checkout` or train again")
    return card


def load_bundle(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild the network of `folder` from its card, weights checked by digest, shape and value.

    Raises:
        ModelError: the card is wrong, or the weights are missing, altered, of another shape, or not finite.
    """
    card = load_card(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{path}: missing; run `dvc checkout` or train again")
    if digest_file(path) != card["weights"]["sha256"]:
        raise ModelError(f"{path}: its sha256 is not the one on {CARD}; run `dvc checkout` or train again")
    model = _shell(folder, card)
    try:
        weights = load_file(path)
        # clones: a tensor lies in its file at any address, and sums differ in the last bit with it
        model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path}: does not fit {card['arch']} ({' '.join(str(error).split())[:200]}); train again"
        ) from None
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: {name} holds values that are not finite; train again with a lower train.lr"
            )
    return model.float().eval(), card


def _shell(folder: Path, card: dict[str, Any]) -> Classifier:
    """The network without memory for its weights: a card that asks for too much costs nothing."""
    contract = card["input"]
    try:
        with torch.device("meta"):
            return build(
                card["arch"],
                len(card["classes"]),
                contract["channels"],
                contract["size_px"],
                card["arch_args"],
                card["normalise"],
            )
    except ParamsError as error:
        raise ModelError(f"{folder / CARD}: {error}") from None


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


_CARD_RULES: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: value == "network",
    "arch": lambda value: isinstance(value, str),
    "arch_args": lambda value: isinstance(value, dict),
    "normalise": lambda value: value in ("dataset", "image"),
    "classes": _is_classes,
    "input": _is_input,
    "weights": lambda value: isinstance(value, dict) and isinstance(value.get("sha256"), str),
}
