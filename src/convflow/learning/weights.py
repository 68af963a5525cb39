"""Files of weights: fetched, checked against their digest, read without executing anything, put in place."""

import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convflow.errors import ModelError
from convflow.files import digest_file
from convflow.learning.bundle import FRACTIONS
from convflow.learning.torch_file import audit
from convflow.manifest import MAX_BYTES

_WHOLE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def fetched(url: str, cache: Path) -> Path:
    """The file behind `url`, kept in `cache`; its name ends with the first digits of its sha256.

    Raises:
        ModelError: it is not there and cannot be fetched, or is not the file its name promises.
    """
    path = cache / url.rpartition("/")[2]
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        print(f"embed: fetching {url} to {path}")
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise ModelError(
                f"{path}: missing, and fetching it failed ({_phrase(error)}); get {url} and put it there"
            ) from None
    if not digest_file(path).startswith(digits):
        raise ModelError(f"{path}: its sha256 does not begin with {digits}; remove it and run again")
    return path


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a state dict.

    Raises:
        ModelError: missing, with another digest, not a state dict of tensors, or with values that are not
            finite.
    """
    if not os.path.isfile(path):
        raise ModelError(f"{path}: missing; put the weights there, or change embed.source")
    if (n_bytes := path.stat().st_size) > MAX_BYTES:
        raise ModelError(f"{path}: {n_bytes:,} bytes, above the limit of {MAX_BYTES:,}; change embed.source")
    if (digest := digest_file(path)) != sha256:
        raise ModelError(f"{path}: its sha256 is {digest}, not {sha256}; get it anew or mend embed.sha256")
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            audit(path)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(f"{path}: not safetensors ({_phrase(error)}); get the file anew") from None
    except Exception as error:  # noqa: BLE001  torch refuses in many ways; nothing was executed
        raise ModelError(f"{path}: refused ({_phrase(error)}); save the network's state_dict()") from None
    if not (isinstance(found, dict) and all(isinstance(value, Tensor) for value in found.values())):
        raise ModelError(f"{path}: holds more than tensors by name; save the network's state_dict()")
    _check_values(found, path, n_bytes)
    return found


def _check_values(weights: dict[str, Tensor], path: Path, n_bytes: int) -> None:
    """See that each tensor is plain, finite, and there: one may claim more numbers than the file holds."""
    claimed = 0
    for name, tensor in weights.items():
        claimed += tensor.numel() * tensor.element_size()
        if not isinstance(name, str) or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ModelError(f"{path}: {name!s:.80} is no plain tensor; save the network's state_dict()")
        if claimed > 2 * n_bytes:  # twice, for weights that two layers share
            raise ModelError(f"{path}: {name:.80} claims more numbers than there are; get the file anew")
        if not (tensor.dtype in FRACTIONS or tensor.dtype in _WHOLE):
            raise ModelError(f"{path}: {name:.80} is {tensor.dtype}; save it as float32")
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path}: {name:.80} holds values that are not finite; get the file anew")


@torch.no_grad()
def fill(net: nn.Module, part: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy into `part` of `net` what `weights` have for it, by the names of `net`.

    What lies outside the part, a classifier of another size, is none of our business.

    Raises:
        ModelError: a tensor of the part is missing or has another shape.
    """
    needed = {id(tensor) for tensor in part.state_dict(keep_vars=True).values()}
    for name, tensor in net.state_dict(keep_vars=True).items():
        if id(tensor) not in needed or name.endswith("num_batches_tracked"):
            continue
        if name not in weights or weights[name].shape != tensor.shape:
            found = tuple(weights[name].shape) if name in weights else "missing"
            raise ModelError(
                f"{path}: {name} is {found}, not {tuple(tensor.shape)}; "
                "set embed.arch to the architecture of these weights"
            )
        tensor.copy_(weights[name])


def _phrase(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
