"""The one way to ask a model: uint8 pixels in, probabilities out."""

import importlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convflow.data.packed import Contract
from convflow.learning.bundle import load_bundle

_COUNTING = "convflow.learning.counting"  # loaded when it is asked: it takes a while
_PIXELS = 256 * 128 * 128  # of a batch: bounds the memory whatever the pictures' size


class Predictor:
    """A loaded network.

    Attributes:
        card: what card.json says.
        contract: how images are decoded for it.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """Load the model in `folder`.

        Raises:
            ModelError: the folder holds no whole model.
        """
        model, self.card = load_bundle(folder)
        self.contract = Contract(classes=self.card["classes"], **self.card["input"])
        self.device = torch.device(device)
        self._model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.contract.classes

    def decode(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Decode one image to uint8 (S, S, C), as training saw it."""
        return self.contract.decode(source)

    @torch.inference_mode()
    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of each class.

        Args:
            images: uint8 (N, S, S, C), 0..255.

        Returns:
            float32 (N, K), rows sum to 1.

        Raises:
            ModelError: another shape or type than the model was trained on.
        """
        self.contract.check(images)
        found = [np.empty((0, len(self.classes)), np.float32)]
        step = max(1, _PIXELS // self.contract.size_px**2)
        for start in range(0, len(images), step):
            batch = torch.from_numpy(np.array(images[start : start + step])).to(self.device)
            found.append(self._model(batch.permute(0, 3, 1, 2)).softmax(dim=1).float().cpu().numpy())
        return np.concatenate(found)

    def flops(self) -> int | None:
        """Multiply-adds of one answer, counted twice; None where torch cannot count them."""
        side, channels = self.contract.size_px, self.contract.channels
        image_1CSS = torch.zeros((1, channels, side, side), dtype=torch.uint8, device=self.device)
        found: int | None = importlib.import_module(_COUNTING).count_flops(self._model, image_1CSS)
        return found

    def hardware(self) -> tuple[str, int]:
        """The device as its maker calls it, and how many of the processor's threads may take part."""
        found: tuple[str, int] = importlib.import_module(_COUNTING).hardware(self.device)
        return found


def load_predictor(folder: Path, device: str = "cpu") -> Predictor:
    """Load the model in `folder`; see `Predictor`."""
    return Predictor(folder, device)
