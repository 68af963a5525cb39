"""Packed images as training and prediction read them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.data.images import Fit, decode
from convflow.errors import DataError, ModelError
from convflow.files import read_json, write_json


@dataclass(frozen=True)
class Contract:
    """What every image is turned into before a model sees it: uint8 (size_px, size_px, channels)."""

    classes: list[str]
    size_px: int
    channels: int
    fit: Fit

    def decode(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Decode one image as this contract says; see `convflow.data.images.decode`."""
        return decode(source, size_px=self.size_px, channels=self.channels, fit=self.fit)

    def check(self, image_NSSC: NDArray[Any]) -> None:
        """See that pictures are as this contract says.

        Raises:
            ModelError: of another shape or type.
        """
        side, channels = self.size_px, self.channels
        if image_NSSC.dtype != np.uint8 or image_NSSC.shape[1:] != (side, side, channels):
            raise ModelError(
                f"images: {image_NSSC.dtype} {image_NSSC.shape}; this model takes uint8 "
                f"(N, {side}, {side}, {channels})"
            )


def write_contract(path: Path, contract: Contract) -> None:
    """Write `contract` as JSON."""
    write_json(path, asdict(contract))


def packed_as(contract: Contract, side: Path) -> Path:
    """The folder below `side`, as data/packed/test, whose pictures are what `contract` says.

    Raises:
        DataError: there is none.
    """
    folder = side / str(contract.size_px)
    if not folder.is_dir():
        raise DataError(
            f"{side}: no pictures of {contract.size_px} px; add {contract.size_px} to pack.sizes_px"
        )
    if Contract(**read_json(folder / "contract.json")) != contract:
        raise DataError(f"{folder}: packed otherwise than the model was trained on; run `dvc repro`")
    return folder


class Packed:
    """One side as training and prediction see it.

    Attributes:
        pixels: uint8 (N, S, S, C), memory-mapped.
        labels: int64 (N,), indices into the contract's classes.
        weights: float32 (N,), above 0.
        contract: what every image was turned into.
    """

    def __init__(self, folder: Path) -> None:
        """Open a packed folder.

        Raises:
            DataError: a part is missing, or the parts do not agree in N.
        """
        self.folder = folder
        try:
            self.contract = Contract(**read_json(folder / "contract.json"))
            self.pixels: NDArray[np.uint8] = np.load(folder / "pixels.npy", mmap_mode="r")
            self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
            self.weights: NDArray[np.float32] = np.load(folder / "weights.npy")
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise DataError(
                f"{folder}: not a whole packed folder ({error}); run `dvc repro -f pack`"
            ) from None
        side, n_channels = self.contract.size_px, self.contract.channels
        if self.pixels.dtype != np.uint8 or self.pixels.shape[1:] != (side, side, n_channels):
            raise DataError(f"{folder}: pixels are not as contract.json says; run `dvc repro -f pack`")
        if not len(self.pixels) == len(self.labels) == len(self.weights):
            raise DataError(f"{folder}: pixels, labels and weights differ in number; run `dvc repro -f pack`")

    def need_images(self) -> None:
        """See that there are some.

        Raises:
            DataError: there are none.
        """
        if not len(self.pixels):
            raise DataError(f"{self.folder}: no images; add some, or give this side a larger share in split:")

    def in_card(self) -> dict[str, Any]:
        """What the card of a model trained on these pictures says of them."""
        contract = {name: value for name, value in asdict(self.contract).items() if name != "classes"}
        return {"classes": self.contract.classes, "n_by_class": self.n_by_class(), "input": contract}

    def channel_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each channel, in grey levels 0..255: two float32 (C,)."""
        counts = np.zeros((self.contract.channels, 256))
        for start in range(0, len(self.pixels), 256):  # in blocks: the whole may not fit in memory
            block = self.pixels[start : start + 256].reshape(-1, self.contract.channels)
            for channel in range(self.contract.channels):
                counts[channel] += np.bincount(block[:, channel], minlength=256)
        share = counts / counts.sum(axis=1, keepdims=True)
        levels = np.arange(256)
        mean = share @ levels
        variance = (share * (levels - mean[:, None]) ** 2).sum(axis=1)
        return mean.astype(np.float32), np.maximum(np.sqrt(variance), 1.0).astype(np.float32)

    def n_by_class(self) -> dict[str, int]:
        """How many images each class has on this side."""
        counts = np.bincount(self.labels, minlength=len(self.contract.classes))
        return dict(zip(self.contract.classes, counts.tolist(), strict=True))


def open_sides(train: Path, val: Path) -> dict[str, Packed]:
    """Open `train` and `val`, by these names.

    Raises:
        DataError: one is not whole, or they are not packed alike.
    """
    sides = {"train": Packed(train), "val": Packed(val)}
    if sides["train"].contract != sides["val"].contract:
        raise DataError(f"{val}: packed otherwise than {train}; run `dvc repro -f pack`")
    return sides
