"""Any model, one contract: what is asked of networks and baselines alike, and how fast they answer."""

import importlib
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convflow.cards import load_card
from convflow.data.packed import Contract

_MODULES = {"network": "convflow.learning.predictor", "baseline": "convflow.baselines.predictor"}
_BATCHES = (1, 64)
_BUDGET_S = 0.8  # for each of them
_REPEATS = 50


class Predictor(Protocol):
    """A loaded model.

    Attributes:
        card: what card.json says.
        contract: how images are decoded for it.
    """

    card: dict[str, Any]
    contract: Contract

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""

    def decode(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Decode one image to uint8 (S, S, C), as training saw it."""

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 (N, K) of images uint8 (N, S, S, C)."""

    def flops(self) -> int | None:
        """Multiply-adds of one answer, counted twice; None where they cannot be counted."""

    def hardware(self) -> tuple[str, int]:
        """The device as its maker calls it, and how many of the processor's threads may take part."""


def load_predictor(folder: Path, device: str = "cpu") -> Predictor:
    """Load the model in `folder`, whatever its kind; torch is imported only for a network.

    Args:
        folder: with card.json.
        device: where a network computes, as torch calls it; a baseline answers on the processor.

    Raises:
        ModelError: the folder holds no whole model.
    """
    module = importlib.import_module(_MODULES[load_card(folder)["kind"]])
    predictor: Predictor = module.load_predictor(folder, device)
    return predictor


def describe(card: dict[str, Any]) -> str:
    """One line on a model for people."""
    side, n_numbers = card["input"]["size_px"], card["n_parameters"]
    if card["kind"] == "network":
        made, at = card["arch"], f"epoch {card['best_epoch']}"
        if "backbone" in card:
            made, at = f"on {card['backbone']['source']}", f"rung {card['chosen_rung']}"
        return f"{made}, {n_numbers:,} weights, {side}x{side} px, {at}"
    settings = "".join(f", {name} {value}" for name, value in card["chosen"].items())
    return f"{card['arch']}{settings}, {n_numbers:,} numbers, {side}x{side} px"


def measure(predictor: Predictor, images_NSSC: NDArray[np.uint8]) -> dict[str, Any]:
    """How long answers take, alone and in batches of 64, after a warm-up; in two seconds, or once.

    Args:
        predictor: any model.
        images_NSSC: some images as it takes them; fewer than 64 are repeated.

    Returns:
        device, threads, flops of one image; latency_ms by batch size, the median and the 95th percentile in
        ms per image; images_per_s in batches of 64. Without images latency_ms and images_per_s are None.
    """
    device, threads = predictor.hardware()
    found: dict[str, Any] = {"device": device, "flops": predictor.flops(), "threads": threads}
    if not len(images_NSSC):
        return found | {"images_per_s": None, "latency_ms": None}
    latency_ms = {}
    for n_images in _BATCHES:
        batch = np.array(images_NSSC[np.arange(n_images) % len(images_NSSC)])
        each_ms = [1000 * seconds / n_images for seconds in _repeat(predictor, batch)]
        median, p95 = np.percentile(each_ms, [50, 95])
        latency_ms[str(n_images)] = {"median": round(float(median), 4), "p95": round(float(p95), 4)}
    images_per_s = round(1000 / max(latency_ms[str(_BATCHES[-1])]["median"], 1e-4), 1)
    return found | {"images_per_s": images_per_s, "latency_ms": latency_ms}


def _repeat(predictor: Predictor, batch: NDArray[np.uint8]) -> list[float]:
    """Seconds of each answer, after one that warms up; as many as fit into the budget, 50 at most."""
    ends = time.perf_counter() + _BUDGET_S
    predictor.predict_proba(batch)
    seconds: list[float] = []
    while not seconds or (len(seconds) < _REPEATS and time.perf_counter() < ends):
        begun = time.perf_counter()
        predictor.predict_proba(batch)
        seconds.append(time.perf_counter() - begun)
    return seconds
