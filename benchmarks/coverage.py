"""How often the 95 % intervals hold the truth: made-up test sets drawn from worlds whose truth is known.

    python benchmarks/coverage.py [--simulations 2000] [--draws 500] [--images 656]

A world makes labels and a model's probabilities; its truth is what the metrics come to on two million
images. `plain ECE` is the percentile interval of the ECE as usually computed, for comparison. With 2,000
simulations a share is known to about a point (two standard errors).
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from convflow.evaluation.bootstrap import calibration_interval, interval, resampling
from convflow.evaluation.metrics import Scored, all_metrics

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision")
METRICS += ("log_loss", "brier", "ece")


@dataclass(frozen=True)
class World:
    """Two classes, about a third positive; a model sure `sharpness` times more than it should be.

    With groups, each group has defects more or less often and looks lighter or darker to the model. At
    sharpness 0 all images get `base`, as from a model that looks at none.
    """

    name: str
    sharpness: float
    n_groups: int = 0
    base: float = 0.33

    @property
    def judged(self) -> tuple[str, ...]:
        """The metrics promised to be held in 93 to 97 % of cases, less those that never vary here."""
        return ("accuracy", "balanced_accuracy", "roc_auc", "ece") if self.sharpness else ("accuracy", "ece")

    def sample(self, seed: int, n_images: int) -> tuple[Scored, list[str | None]]:
        """Make a test set; groups get larger with `n_images` only in number, not in size."""
        rng = np.random.default_rng(seed)
        rate_N, shift_N, group_N = np.zeros(n_images), np.zeros(n_images), np.full(n_images, -1)
        if self.n_groups:
            n_groups = self.n_groups if n_images < 100_000 else n_images // 10
            group_N = rng.integers(0, n_groups, n_images)
            rate_N, shift_N = rng.normal(0, 0.7, (2, n_groups))[:, group_N]
        label_N = (rng.random(n_images) < _logistic(-0.8 + rate_N)).astype(np.int64)
        seen_N = rng.normal(1.8 * label_N - 0.9, 1) + 0.4 * shift_N
        prob_N = _logistic(self.sharpness * (1.8 * seen_N - 0.8))
        if not self.sharpness:
            prob_N = np.full(n_images, self.base)
        names = [None if group < 0 else str(group) for group in group_N.tolist()]
        return Scored(label_N, np.c_[1 - prob_N, prob_N]), names

    def truth(self) -> dict[str, float]:
        """What the metrics come to on two million images; a calibrated world's ECE is 0 by construction."""
        found = all_metrics(self.sample(1, 2_000_000)[0])
        true = {name: float(found[name][0]) for name in METRICS}
        if self.sharpness == 1 and not self.n_groups:
            true["ece"] = 0.0
        return true


WORLDS = (
    World("calibrated", 1.0),
    World("a little too sure", 1.3),
    World("far too sure", 2.5),
    World("40 groups", 1.5, n_groups=40),
    World("12 groups", 1.5, n_groups=12),
    World("always as sure", 0.0),
    World("the same, 12 groups", 0.0, n_groups=12),
)


def coverage(world: World, *, n_simulations: int, n_draws: int, n_images: int = 656) -> dict[str, float]:
    """The share of simulated test sets whose interval holds the truth, by metric."""
    true = world.truth()
    hits = dict.fromkeys([*METRICS, "plain ECE"], 0)
    for seed in range(n_simulations):
        case, names = world.sample(1_000 + seed, n_images)
        draws = resampling(names, n_draws=n_draws, seed=seed)
        drawn = draws.draw(lambda count_BN, case=case: all_metrics(case, count_BN))
        seen = all_metrics(case)["calibration_gaps"][0]
        found = {name: interval(drawn[name], draws.n_units) for name in METRICS}
        found["plain ECE"] = found["ece"]
        calibrated = calibration_interval(seen, drawn["calibration_gaps"], draws.n_units)
        found["ece"] = calibrated and calibrated[1]
        for name, ends in found.items():
            target = true["ece" if name == "plain ECE" else name]
            hits[name] += ends is not None and ends.low <= target <= ends.high
    return {name: count / n_simulations for name, count in hits.items()}


def main() -> None:
    """Print a row per world, a column per metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--images", type=int, default=656)
    asked = parser.parse_args()
    columns = [*METRICS, "plain ECE"]
    print(f"coverage of 95 % intervals, {asked.simulations} simulations of {asked.images} images")
    print(f"{'':20}" + "".join(f"{name.replace('_', ' '):>18}" for name in columns))
    for world in WORLDS:
        begun = time.perf_counter()
        found = coverage(world, n_simulations=asked.simulations, n_draws=asked.draws, n_images=asked.images)
        cells = "".join(f"{found[name]:18.1%}" for name in columns)
        print(f"{world.name:20}{cells}   ({time.perf_counter() - begun:.0f} s)", flush=True)


def _logistic(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


if __name__ == "__main__":
    main()
