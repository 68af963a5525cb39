"""A network on disk: weights as safetensors and a card from which it is rebuilt. Never a pickle."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from convflow.cards import CARD, load_card, save_card, whole_weights
from convflow.errors import ModelError, ParamsError
from convflow.nets.registry import Classifier, build

WEIGHTS = "weights.safetensors"
FRACTIONS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


def save_bundle(folder: Path, weights: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write weights, then the card that vouches for them, into `folder`."""
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    save_card(folder, card, WEIGHTS)


def load_bundle(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild the network of `folder` from its card, weights checked by digest, shape and value.

    Raises:
        ModelError: a file of the folder is missing, too many or altered, the card is wrong, or the weights
            are of another shape or sort, or not finite.
    """
    card = load_card(folder, "network")
    path = whole_weights(folder, card)
    model = _shell(folder, card)
    try:
        weights = load_file(path)
        _check_sorts(weights, model.state_dict())
        # clones: a tensor lies in its file at any address, and sums differ in the last bit with it
        model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path}: does not fit {card['arch']} ({' '.join(str(error).split())[:200]}); train again"
        ) from None
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: {name} holds values that are not finite; train again with a lower train.lr"
            )
    return model.float().eval(), card


def _check_sorts(weights: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """See that each tensor has the numbers the network has there, or others that become float32.

    Raises:
        ValueError: they do not; names and shapes are for torch to compare.
    """
    for name, tensor in weights.items():
        of_net = wanted[name].dtype if name in wanted else tensor.dtype
        if tensor.dtype != of_net and tensor.dtype not in FRACTIONS:
            raise ValueError(f"{name} is {tensor.dtype}, not {of_net}")


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
    except Exception as error:  # noqa: BLE001  a card made to be wrong may fail anywhere
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"{folder / CARD}: arch_args suit no {card['arch']} ({reason}); train again"
        ) from None
