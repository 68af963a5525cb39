"""Files of weights: fetched, checked against their digest, read without executing anything, put in place."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from convflow.errors import ModelError
from convflow.files import digest_file


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
        ModelError: missing, with another digest, or not a state dict of tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: missing; put the weights there, or change embed.source")
    if (digest := digest_file(path)) != sha256:
        raise ModelError(f"{path}: its sha256 is {digest}, not {sha256}; get it anew or mend embed.sha256")
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(f"{path}: not safetensors ({_phrase(error)}); get the file anew") from None
    except Exception as error:  # noqa: BLE001  torch refuses in many ways; nothing was executed
        raise ModelError(f"{path}: refused ({_phrase(error)}); save the network's state_dict()") from None
    if not (isinstance(found, dict) and all(isinstance(value, Tensor) for value in found.values())):
        raise ModelError(f"{path}: holds more than tensors by name; save the network's state_dict()")
    return found


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
