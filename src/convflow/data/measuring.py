"""Look at one image file, once: identity, shape and brightness, or the reason why it cannot be used."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from convflow.data.images import ImageError, open_image, read_bytes, to_pixels

_HASH_SIDE = 16
# Flatter pictures (in grey levels) have no gradient to hash, smaller ones (in pixels) no 16 x 16 tiles:
# their hashes would be noise, and all alike.
_MIN_SPREAD = 2.0
_MIN_SIDE = 2 * _HASH_SIDE


class Measured(NamedTuple):
    """What is known of one file; `reason` is empty for an image that can be used."""

    sha256: str = ""
    dhash: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    brightness_mean: float = 0.0
    brightness_spread: float = 0.0
    reason: str = ""
    detail: str = ""


def measure(path: Path) -> Measured:
    """Read, hash and decode the file at `path`; a broken file gives a reason, never an exception."""
    data = b""
    try:
        data = read_bytes(path)
        image = open_image(data)
        grey = to_pixels(image, channels=1)
    except ImageError as error:
        return Measured(bytes=len(data), reason=error.reason, detail=error.detail)
    mean, spread = brightness(grey)
    return Measured(
        sha256=hashlib.sha256(data).hexdigest(),
        dhash=difference_hash(grey) if spread >= _MIN_SPREAD and min(grey.size) >= _MIN_SIDE else "",
        format=image.format or "",
        mode=image.mode,
        width=image.width,
        height=image.height,
        bytes=len(data),
        brightness_mean=mean,
        brightness_spread=spread,
    )


def difference_hash(grey: Image.Image) -> str:
    """256-bit difference hash: is each of 16 x 16 tiles brighter than its left neighbour?

    256 bits, because the usual 64 call all pictures of one kind of object alike. 64 hexadecimal digits.
    """
    small = grey.resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    tiles = np.asarray(small)
    return np.packbits(tiles[:, 1:] > tiles[:, :-1]).tobytes().hex()


def brightness(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation of an 8-bit grey image, 0..255, from its histogram."""
    counts = np.asarray(grey.histogram(), dtype=np.float64)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    spread = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
    return round(mean, 4), round(spread, 4)
