"""The intervals hold the truth about as often as they say (benchmarks/coverage.py, reduced)."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/coverage.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("which", range(5))
def test_intervals_hold_the_truth(script, which):
    found = script.coverage(script.WORLDS[which], n_simulations=200, n_draws=400)
    plain = found.pop("plain ECE")
    for name, share in found.items():
        # 200 simulations have a standard error of 1.5 points; exactly calibrated is a boundary
        assert 0.90 <= share <= 1.0, f"{name}: {share:.1%}"
    assert plain < found["ece"] + 0.02
