"""Rungs of fine-tuning, each kept only where it helps on val.

A rung helps when its log loss on val is lower than that of what stands, by more than `errors` standard errors
of the difference, taken image by image (or group by group, where the split keeps groups together).

Shape letters: N images of val, K classes, G groups.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Rung:
    """What became of one rung.

    Attributes:
        name: probe, views, ...
        loss: log loss on val, nats.
        accuracy: on val, 0..1.
        gain: by how much the loss is lower than that of the last rung kept; None for the first.
        error: standard error of the gain; None for the first.
        kept: whether the model stands on it.
        why: the same in words.
    """

    name: str
    loss: float
    accuracy: float
    gain: float | None
    error: float | None
    kept: bool
    why: str


class Ladder:
    """The rungs tried so far, and the answers on val that the next one has to better."""

    def __init__(self, label_N: Indices, group_N: Indices | None, *, errors: float) -> None:
        """Stand on the ground: the first rung offered is kept."""
        self.rungs: list[Rung] = []
        self._label_N, self._group_N, self._errors = label_N, group_N, errors
        self._loss_N: Floats | None = None

    def offer(self, name: str, log_prob_NK: Floats) -> bool:
        """Compare a rung's answers on val with those of the last one kept; say whether it is kept.

        Args:
            name: of the rung.
            log_prob_NK: logarithms of its probabilities.
        """
        loss_N = -log_prob_NK[np.arange(len(self._label_N)), self._label_N]
        accuracy = float((log_prob_NK.argmax(axis=1) == self._label_N).mean())
        gain = error = None
        kept, why = True, "the first"
        if self._loss_N is not None:
            gain, error = paired_gain(self._loss_N - loss_N, self._group_N)
            kept = gain > self._errors * error
            why = f"val log loss {_sign(gain)} by {abs(gain):.4f}, standard error {error:.4f}"
        if kept:
            self._loss_N = loss_N
        self.rungs.append(Rung(name, float(loss_N.mean()), accuracy, gain, error, kept, why))
        return kept

    @property
    def standing(self) -> Rung:
        """The last rung kept."""
        return next(rung for rung in reversed(self.rungs) if rung.kept)

    def as_json(self) -> list[dict[str, Any]]:
        """All rungs, in the order they were tried."""
        return [asdict(rung) for rung in self.rungs]


def paired_gain(gain_N: Floats, group_N: Indices | None) -> tuple[float, float]:
    """Mean of paired differences and its standard error; images of a group count as one draw.

    Args:
        gain_N: one difference per image.
        group_N: groups that were drawn whole; None: each image by itself. One group alone tells no error.
    """
    mean = float(gain_N.mean())
    unit_N = np.arange(len(gain_N)) if group_N is None else np.unique(group_N, return_inverse=True)[1]
    sum_G = np.bincount(unit_N, gain_N - mean)
    n_units = len(sum_G)
    if n_units < 2:
        return mean, 0.0
    return mean, float(np.sqrt((sum_G**2).sum() * n_units / (n_units - 1)) / len(gain_N))


def _sign(gain: float) -> str:
    return "lower" if gain > 0 else "higher"
