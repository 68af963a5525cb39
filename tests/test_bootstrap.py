"""Resampling and its intervals: by group or row, the same draws for the same seed, honest at the edges."""

import numpy as np
import pytest
from scipy import stats

from convflow.evaluation import bootstrap
from convflow.evaluation.bootstrap import (
    Interval,
    calibration_interval,
    expanded_tail,
    interval,
    resampling,
    share_interval,
)


def all_counts(draws):
    return np.concatenate(list(draws.counts()))


def test_rows_are_drawn_with_replacement_as_many_as_there_are():
    count_BN = all_counts(resampling([None] * 7, n_draws=300, seed=1))
    assert count_BN.shape == (300, 7)
    assert set(count_BN.sum(axis=1)) == {7}
    assert count_BN.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_a_group_is_drawn_whole_and_an_image_without_one_alone():
    draws = resampling(["a", "b", "a", None, "b", None], n_draws=50, seed=1)
    count_BN = all_counts(draws)
    assert (count_BN[:, 0] == count_BN[:, 2]).all()
    assert (count_BN[:, 1] == count_BN[:, 4]).all()
    assert (count_BN[:, 3] != count_BN[:, 5]).any()
    assert draws.n_units == 4
    assert set(count_BN[:, [0, 1, 3, 5]].sum(axis=1)) == {4}


def test_the_draws_depend_on_the_seed_and_not_on_how_they_are_cut(monkeypatch):
    draws = resampling(["a", "b", "c"], n_draws=101, seed=4)
    whole = all_counts(draws)
    monkeypatch.setattr(bootstrap, "_ELEMENTS", 30)
    monkeypatch.setattr(bootstrap, "_WORTH", 1)
    assert (all_counts(draws) == whole).all()
    assert (all_counts(resampling(["a", "b", "c"], n_draws=101, seed=5)) != whole).any()


def test_what_is_drawn_is_put_together_in_order():
    draws = resampling([None] * 5, n_draws=9, seed=0)
    drawn = draws.draw(lambda count_BN: {"first": count_BN[:, 0]})
    assert drawn["first"].tolist() == all_counts(draws)[:, 0].tolist()


def test_the_interval_of_a_mean_is_the_textbook_one():
    value_N = np.random.default_rng(3).normal(5, 2, 400)
    draws = resampling([None] * 400, n_draws=4000, seed=0)
    drawn = draws.draw(lambda count_BN: {"mean": count_BN @ value_N / 400})["mean"]
    reach = 1.96 * value_N.std() / 20
    found = interval(drawn, 400)
    assert found is not None
    assert found.low == pytest.approx(value_N.mean() - reach, abs=0.02)
    assert found.high == pytest.approx(value_N.mean() + reach, abs=0.02)


def test_few_units_widen_the_interval_and_many_leave_it_alone():
    assert expanded_tail(100_000) == pytest.approx(0.025, abs=1e-5)
    assert expanded_tail(10) == pytest.approx(0.00855, abs=1e-4)
    drawn = np.random.default_rng(0).random(5000)
    few, many = interval(drawn, 8), interval(drawn, 10_000)
    assert few is not None
    assert many is not None
    assert few.low < many.low < many.high < few.high


def test_undefined_draws_are_left_out_and_too_many_leave_no_interval():
    drawn = np.r_[np.linspace(0, 1, 101), np.full(50, np.nan)]
    assert interval(drawn, 1000) == interval(drawn[:101], 1000)
    assert interval(np.r_[0.5, np.full(9, np.nan)], 1000) is None


def test_one_unit_gives_no_interval_and_says_so():
    draws = resampling(["only"] * 4, n_draws=10, seed=0)
    assert interval(np.ones(10), draws.n_units) is None
    assert calibration_interval(np.ones(15), np.ones((10, 15)), draws.n_units) is None
    assert draws.about()["warning"] == "one of groups only: nothing to resample, no intervals"


def test_few_groups_are_warned_of():
    few = resampling([str(n % 9) for n in range(30)], n_draws=200, seed=3).about()
    assert few == {
        "by": "groups", "level": 0.95, "method": "expanded percentile bootstrap",
        "n_draws": 200, "n_groups": 9, "n_rows": 30, "seed": 3,
        "warning": "only 9 groups: the intervals are rough; they want at least 10",
    }  # fmt: skip
    assert "warning" not in resampling([str(n % 10) for n in range(30)], n_draws=9, seed=3).about()
    assert "warning" not in resampling([None] * 5, n_draws=9, seed=3).about()


def test_no_error_in_n_tries_is_no_certainty():
    found = share_interval(np.ones(100), 20)
    assert found == Interval(pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert share_interval(np.zeros(100), 20) == Interval(0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert share_interval(np.full(100, 0.5), 20) == Interval(0.5, 0.5)


def test_a_calibrated_model_may_have_no_calibration_error_at_all():
    rng = np.random.default_rng(0)
    gap_M = rng.normal(0, 0.002, 15)
    found = calibration_interval(gap_M, gap_M + rng.normal(0, 0.002, (500, 15)), 600)
    assert found is not None
    middle, ends = found
    assert ends.low == 0
    assert ends.low <= middle < np.abs(gap_M).sum() <= ends.high


def test_an_error_far_above_its_noise_is_left_as_it_is():
    rng = np.random.default_rng(0)
    gap_M = np.full(15, 0.02)
    found = calibration_interval(gap_M, gap_M + rng.normal(0, 0.001, (500, 15)), 600)
    assert found is not None
    middle, ends = found
    assert middle == pytest.approx(0.3, abs=0.002)
    assert ends.high - ends.low == pytest.approx(2 * 1.96 * 0.001 * 15**0.5, rel=0.1)


def test_a_small_gap_that_is_luck_does_not_hide_a_large_one():
    noise_B = np.random.default_rng(0).normal(0, 0.05, 20_000)  # one bin, as of a model always as sure
    found = calibration_interval(np.array([0.02]), 0.02 + noise_B[:, None], 100_000)
    assert found is not None
    assert found[1].low == 0
    # of all sizes whose absolute value plus noise is below 0.02 in 2.5 % of cases at least
    high = found[1].high / 0.05
    assert stats.norm.cdf(0.4 - high) - stats.norm.cdf(-0.4 - high) == pytest.approx(0.025, rel=0.1)
