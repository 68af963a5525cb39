"""How often a candidate that is no better than the baselines is refused, by simulation.

    python benchmarks/decide.py [--simulations 1000] [--draws 400] [--images 656]

Candidate and baselines are drawn from one population: equal in the long run, better or worse on any one
test set by luck alone. They find the same images hard, and in the worlds with groups each has groups that
suit it. Printed: how often `decide` refuses the candidate over the best baseline, and how often the paired
interval of a difference holds the truth, which is 0.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.deciding import margin
from convflow.evaluation.entrants import enter, measure_all
from convflow.evaluation.leaderboard import leaderboard
from convflow.evaluation.metrics import SCALARS
from convflow.evaluation.report import entry
from convflow.evaluation.sides import Predictions, Side

CLASSES = ("functional", "defective")


@dataclass(frozen=True)
class World:
    """Two classes, about a third defective; a candidate and `n_baselines` of the same skill.

    `shared` is the part of the models' errors that they have in common; groups differ in how often they
    are defective and, by `suits`, in how well a model does on them.
    """

    name: str
    n_baselines: int = 1
    n_groups: int = 0
    shared: float = 0.7
    suits: float = 0.5

    def sample(self, seed: int, n_images: int) -> list[Predictions]:
        """What each model says of one test set; the first is the candidate."""
        rng = np.random.default_rng(seed)
        n_models = 1 + self.n_baselines
        group_N = rng.integers(0, max(self.n_groups, 1), n_images)
        rate_N, bias_MN = np.zeros(n_images), np.zeros((n_models, n_images))
        if self.n_groups:
            rate_N = rng.normal(0, 0.7, self.n_groups)[group_N]
            bias_MN = self.suits * rng.normal(0, 1, (n_models, self.n_groups))[:, group_N]
        label_N = (rng.random(n_images) < _logistic(-0.8 + rate_N)).astype(np.int64)
        common_N, own_MN = rng.normal(0, 1, n_images), rng.normal(0, 1, (n_models, n_images))
        noise_MN = self.shared**0.5 * common_N + (1 - self.shared) ** 0.5 * own_MN
        prob_MN = _logistic(1.8 * (1.8 * label_N - 0.9 + noise_MN + bias_MN) - 0.8)
        groups = [str(group) for group in group_N.tolist()] if self.n_groups else [None] * n_images
        nothing = _side(np.empty(0), label_N[:0], [])
        return [
            Predictions(str(place), "simulated", nothing, _side(prob_N, label_N, groups))
            for place, prob_N in enumerate(prob_MN)
        ]


WORLDS = (
    World("one baseline"),
    World("four baselines", n_baselines=4),
    World("one, 40 groups", n_groups=40),
    World("one, 11 groups", n_groups=11),
    World("four, 11 groups", n_baselines=4, n_groups=11),
)


def judge(world: World, *, n_simulations: int, n_draws: int, n_images: int = 656) -> dict[str, float]:
    """The share of simulated candidates refused over the best baseline, and the coverage of 0 by metric."""
    hits = dict.fromkeys(["refused", *SCALARS], 0)
    for seed in range(n_simulations):
        found = world.sample(1_000 + seed, n_images)
        entrants = [enter(one, operating_point="argmax", positive=None) for one in found]
        draws = resampling(found[0].test.group_N, n_draws=n_draws, seed=seed)
        measured = measure_all(entrants, draws)
        facts = {
            one.name: {
                "kind": "baseline",
                "test": {name: entry(each.seen[name][0], None) for name in SCALARS},
            }
            for one, each in zip(entrants, measured, strict=True)
        }
        board = leaderboard(entrants, measured, draws, "0", facts)
        hits["refused"] += not margin(board, "balanced_accuracy", 0.0).passed
        apart = next(row for row in board["models"] if row["name"] == "1")["versus"]["difference"]
        for name in SCALARS:
            hits[name] += apart[name]["low"] <= 0 <= apart[name]["high"]
    return {name: count / n_simulations for name, count in hits.items()}


def main() -> None:
    """Print a row per world."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--images", type=int, default=656)
    asked = parser.parse_args()
    print(f"candidates like the baselines, {asked.simulations} simulations of {asked.images} images")
    print(f"{'':18}" + "".join(f"{name.replace('_', ' '):>18}" for name in ("refused", *SCALARS)))
    for world in WORLDS:
        begun = time.perf_counter()
        found = judge(world, n_simulations=asked.simulations, n_draws=asked.draws, n_images=asked.images)
        cells = "".join(f"{share:18.1%}" for share in found.values())
        print(f"{world.name:18}{cells}   ({time.perf_counter() - begun:.0f} s)", flush=True)


def _side(prob_N: np.ndarray, label_N: np.ndarray, groups: list[str | None]) -> Side:
    names = [(str(row), "") for row in range(len(prob_N))]
    return Side(CLASSES, label_N, np.c_[1 - prob_N, prob_N], np.ones(len(prob_N)), groups, names, {})


def _logistic(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


if __name__ == "__main__":
    main()
