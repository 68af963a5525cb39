"""Does the exported network answer as the model did, and how fast?

Shape letters: N images, S side, C channels, K classes.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from convflow.errors import ModelError
from convflow.serving.session import OnnxPredictor

TOLERANCE = 1e-4  # of a probability
MOST_POINTS = 0.5  # of accuracy on val, that 8 bits may lose
_STEP = 64
_TURNS, _BUDGET_S = 30, 2.0


def largest_difference(
    predictor: OnnxPredictor,
    images_NSSC: NDArray[np.uint8],
    prob_NK: NDArray[np.float32],
    paths: Sequence[str],
) -> float:
    """Ask about every image; the largest difference of a probability from `prob_NK`.

    Raises:
        ModelError: it is above the tolerance, or another class is the likeliest; names the image.
    """
    worst = 0.0
    for start, got_NK in _asked(predictor, images_NSSC):
        part_NK = prob_NK[start : start + len(got_NK)]
        far_N = np.abs(got_NK - part_NK).max(axis=1)
        # written so that NaN is refused
        is_wrong = ~(far_N <= TOLERANCE) | (got_NK.argmax(axis=1) != part_NK.argmax(axis=1))
        if is_wrong.any():
            at = int(is_wrong.argmax())
            before, after = (predictor.classes[row[at].argmax()] for row in (part_NK, got_NK))
            raise ModelError(
                f"{paths[start + at]}: the exported network answers {after!r}, the predictions say "
                f"{before!r}; probabilities differ by {far_N[at]:.2g}, {TOLERANCE:g} is allowed; nothing was "
                "exported; run `dvc repro --force predict`, or judge another model in evaluate.candidate"
            )
        worst = max(worst, float(far_N.max()))
    return worst


def accuracy(predictor: OnnxPredictor, images_NSSC: NDArray[np.uint8], label_N: NDArray[np.int64]) -> float:
    """Share of the images whose likeliest class is the right one."""
    right = [
        (got.argmax(axis=1) == label_N[at : at + len(got)]).sum()
        for at, got in _asked(predictor, images_NSSC)
    ]
    return float(sum(right) / max(1, len(label_N)))


def milliseconds(predictors: dict[str, OnnxPredictor], image_SSC: NDArray[np.uint8]) -> dict[str, float]:
    """The median time of an answer on one picture; all take turns, so that a busy machine slows all."""
    found: dict[str, list[float]] = {name: [] for name in predictors}
    ends = time.perf_counter() + _BUDGET_S
    for turn in range(_TURNS + 1):
        for name, predictor in predictors.items():
            begun = time.perf_counter()
            predictor.predict_proba(image_SSC[None])
            if turn:  # the first one warms up
                found[name].append(1000 * (time.perf_counter() - begun))
        if turn and time.perf_counter() > ends:
            break
    return {name: round(statistics.median(times), 4) for name, times in found.items()}


def _asked(predictor: OnnxPredictor, images_NSSC: NDArray[np.uint8]) -> Any:
    with tqdm(total=len(images_NSSC), unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for start in range(0, len(images_NSSC), _STEP):
            got_NK = predictor.predict_proba(images_NSSC[start : start + _STEP])
            bar.update(len(got_NK))
            yield start, got_NK
