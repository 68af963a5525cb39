"""A model on disk: weights as safetensors and a card from which the network is rebuilt. Never a pickle."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from convflow.errors import ModelError
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
        ModelError: no card, or one of another format.
    """
    if not (folder / CARD).is_file():
        raise ModelError(
            f"{folder}: no {CARD}, so no model of convflow; run `dvc repro` or give another folder"
        )
    card: dict[str, Any] = read_json(folder / CARD)
    if card.get("format") != _FORMAT:
        raise ModelError(
            f"{folder / CARD}: format {card.get('format')!r}, this convflow reads {_FORMAT}; train it anew"
        )
    return card


def load_bundle(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild the network of `folder` from its card, weights checked by digest, shape and value.

    Raises:
        ModelError: weights missing, altered, of another shape, or not finite.
    """
    card = load_card(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{path}: missing; run `dvc checkout` or train again")
    if digest_file(path) != card["weights"]["sha256"]:
        raise ModelError(f"{path}: its sha256 is not the one on {CARD}; run `dvc checkout` or train again")
    contract = card["input"]
    model = build(
        card["arch"], len(card["classes"]), contract["channels"], contract["size_px"], card["arch_args"]
    )
    try:
        weights = load_file(path)
        model.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path}: does not fit {card['arch']} ({' '.join(str(error).split())[:200]})"
        ) from None
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: {name} holds values that are not finite; train again with a lower train.lr"
            )
    return model.eval(), card
