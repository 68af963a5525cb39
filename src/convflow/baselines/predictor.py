"""The one way to ask a baseline: uint8 pixels in, probabilities out; and how it is kept on disk."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.baselines.calibrating import Calibration
from convflow.baselines.fitting import Baseline
from convflow.baselines.kinds import KINDS, load_kind
from convflow.baselines.timing import processor
from convflow.cards import CARD, load_card, save_card, whole_weights
from convflow.data.packed import Contract
from convflow.data.workers import cpu_count
from convflow.errors import ModelError

_FEATURES = "convflow.baselines.features"  # loaded where features are looked at: scikit-image takes a while
_PIXELS = 2**23  # of pictures described at a time: bounds the memory
_LIMITS = {"hog_cells": 64, "hog_orientations": 36, "histogram_bins": 256, "raw_px": 128}


class Predictor:
    """A loaded baseline.

    Attributes:
        card: what card.json says.
        contract: how images are decoded for it.
    """

    def __init__(self, folder: Path) -> None:
        """Load the baseline in `folder`.

        Raises:
            ModelError: the folder holds no whole baseline.
        """
        self.card = load_card(folder, "baseline")
        self.contract = Contract(classes=self.card["classes"], **self.card["input"])
        self._spec, self._features = _features(folder, self.card)
        self._baseline = _load(folder, self.card, self._n_features())

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.contract.classes

    def decode(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Decode one image to uint8 (S, S, C), as training saw it."""
        return self.contract.decode(source)

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
        step = max(1, _PIXELS // (self.contract.size_px**2 * self.contract.channels))
        for start in range(0, len(images), step):
            found.append(self._baseline.predict_proba(self._described(images[start : start + step])))
        return np.concatenate(found)

    def flops(self) -> int:
        """Multiply-adds of one answer, counted twice; from the features on, which come before."""
        return 2 * self._baseline.kind.multiply_adds(self._baseline.parts)

    def hardware(self) -> tuple[str, int]:
        """The processor as its maker calls it, and how many of its threads may take part."""
        return processor(), cpu_count()

    def _n_features(self) -> int:
        if self._features is None:
            return 0
        return int(sum(self._features.block_sizes(self._spec, self.contract.channels).values()))

    def _described(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        if self._features is None:
            return np.empty((len(images), 0))
        found: NDArray[np.floating] = self._features.features_of(images, self._spec)
        return found


def load_predictor(folder: Path, device: str = "cpu") -> Predictor:
    """Load the baseline in `folder`; it answers on the processor, whatever the device."""
    return Predictor(folder)


def save_baseline(folder: Path, baseline: Baseline, card: dict[str, Any]) -> None:
    """Write the baseline, then the card that vouches for it, into `folder`."""
    baseline.kind.save(folder / baseline.kind.file_name, baseline.parts)
    calibration = baseline.calibration
    stamp = {
        "kind": "baseline",
        "calibration": {
            "scale": calibration.scale,
            "bias": for_all_classes(baseline, calibration.bias_K),
            "note": calibration.note,
        },
        "n_parameters": baseline.kind.n_parameters(baseline.parts),
    }
    save_card(folder, card | stamp, baseline.kind.file_name)


def for_all_classes(baseline: Baseline, value_P: tuple[float, ...]) -> list[float]:
    """One value for each of K classes; 0 for those without an image in train."""
    value_K = np.zeros(baseline.n_classes)
    value_K[baseline.kind.classes(baseline.parts)] = value_P
    found: list[float] = value_K.tolist()
    return found


def _features(folder: Path, card: dict[str, Any]) -> tuple[Any, Any]:
    """The features that the card asks for and the module that makes them; None where none is looked at."""
    if card["arch"] not in KINDS:
        raise ModelError(f"{folder / CARD}: no baseline {card['arch']!r:.40}; run `dvc repro` to fit anew")
    if not load_kind(card["arch"]).needs_features:
        return None, None
    given = card["features"]
    radii = given.get("lbp_radii")
    if (
        set(given) != {*_LIMITS, "lbp_radii"}
        or not all(type(given[name]) is int and 0 <= given[name] <= most for name, most in _LIMITS.items())
        or not (isinstance(radii, list) and len(radii) <= 8)
        or not all(type(radius) is int and 1 <= radius <= 64 for radius in radii)
    ):
        raise ModelError(f"{folder / CARD}: features is {given!r:.80}; run `dvc checkout` or train again")
    module = importlib.import_module(_FEATURES)
    return module.FeatureSpec(**(given | {"lbp_radii": tuple(radii)})), module


def _load(folder: Path, card: dict[str, Any], n_features: int) -> Baseline:
    kind, n_classes = load_kind(card["arch"]), len(card["classes"])
    parts = kind.load(whole_weights(folder, card), n_features, n_classes)
    scale, bias_K = card["calibration"]["scale"], card["calibration"]["bias"]
    if len(bias_K) != n_classes:
        raise ModelError(f"{folder / CARD}: {len(bias_K)} offsets for {n_classes} classes; train again")
    bias_P = tuple(bias_K[k] for k in kind.classes(parts))
    return Baseline(kind, parts, Calibration(scale, bias_P), n_classes)
