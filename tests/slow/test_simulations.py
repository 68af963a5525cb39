"""A candidate that is no better than the best baseline is refused (benchmarks/decide.py, 1,000 times)."""

import pytest
from scripts import load_script

pytestmark = pytest.mark.slow
SCRIPT = load_script("decide")
BY_NAME = {world.name: world for world in SCRIPT.WORLDS}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_candidate_like_the_best_baseline_is_refused(name):
    found = SCRIPT.judge(BY_NAME[name], n_simulations=1_000, n_draws=400)
    print(f"{name}: refused {found['refused']:.1%}")
    assert found["refused"] >= 0.95


def test_a_candidate_that_is_better_is_not():
    class Better(SCRIPT.World):
        """The candidate answers first what the baseline answers only sometimes."""

        def sample(self, seed, n_images):
            found = super().sample(seed, n_images)
            side = found[0].test
            side.prob_NK[:, 1] = 0.75 * side.prob_NK[:, 1] + 0.25 * side.label_N
            side.prob_NK[:, 0] = 1 - side.prob_NK[:, 1]
            return found

    found = SCRIPT.judge(Better("better"), n_simulations=100, n_draws=400)
    assert found["refused"] <= 0.05
