"""Pairs of models against statsmodels and scipy: McNemar, Holm, the paired bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as judged_mcnemar
from statsmodels.stats.multitest import multipletests

from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.entrants import Measured
from convflow.evaluation.metrics import SCALARS, Scored, all_metrics, balanced_accuracy, log_loss
from convflow.evaluation.pairs import differences, holm, mcnemar


def made_up(seed: int, label_N, skill: float) -> Scored:
    rng = np.random.default_rng(seed)
    score_NK = np.exp(rng.normal(0, 1, (len(label_N), 2)) + skill * np.eye(2)[label_N])
    return Scored(label_N, score_NK / score_NK.sum(axis=1, keepdims=True))


def measured(case: Scored, draws) -> Measured:
    return Measured(all_metrics(case), draws.draw(lambda count_BN: all_metrics(case, count_BN)))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_mcnemar_is_statsmodels_and_scipys(pairs):
    ours_N, theirs_N = np.array(pairs).T
    found = mcnemar(ours_N, theirs_N)
    table = [[int((ours_N & theirs_N).sum()), found.only_ours], [found.only_theirs, 0]]
    table[1][1] = int((~ours_N & ~theirs_N).sum())
    assert found.p == pytest.approx(judged_mcnemar(np.array(table), exact=True).pvalue, abs=1e-12)
    if n_apart := found.only_ours + found.only_theirs:
        assert found.p == pytest.approx(stats.binomtest(found.only_ours, n_apart).pvalue, abs=1e-12)


def test_models_that_agree_on_every_image_cannot_be_told_apart():
    right_N = np.array([True, False, True])
    assert mcnemar(right_N, right_N).p == 1.0


@pytest.mark.slow
@settings(max_examples=5)  # the judge takes its time
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_no_pair_needs_no_correction():
    assert holm([]) == []


@pytest.mark.parametrize(
    ("name", "metric"), [("balanced_accuracy", balanced_accuracy), ("log_loss", log_loss)]
)
def test_the_paired_interval_is_scipys(name, metric):
    label_N = np.random.default_rng(0).integers(0, 2, 300)
    ours, theirs = made_up(1, label_N, 1.5), made_up(2, label_N, 1.0)
    draws = resampling([None] * 300, n_draws=4000, seed=0)
    found = differences(measured(ours, draws), measured(theirs, draws), draws.n_units)[metric.__name__]

    def of_rows(rows):
        rows = rows.astype(int)
        one, other = (Scored(label_N[rows], case.prob_NK[rows]) for case in (ours, theirs))
        return metric(one)[0] - metric(other)[0]

    judge = stats.bootstrap(
        (np.arange(300),), of_rows, n_resamples=2000, method="percentile", vectorized=False, rng=3
    ).confidence_interval
    assert found.value == pytest.approx(metric(ours)[0] - metric(theirs)[0])
    assert found.ends is not None
    assert (found.ends.low, found.ends.high) == pytest.approx((judge.low, judge.high), abs=0.012)


def test_pairing_narrows_the_interval():
    label_N = np.random.default_rng(0).integers(0, 2, 400)
    ours = made_up(1, label_N, 1.5)
    nearly = ours.prob_NK.copy()
    nearly[:10] = nearly[:10, ::-1]
    theirs = Scored(label_N, nearly)
    draws = resampling([None] * 400, n_draws=500, seed=0)
    paired = differences(measured(ours, draws), measured(theirs, draws), 400)["accuracy"].ends
    others = resampling([None] * 400, n_draws=500, seed=1)
    apart = differences(measured(ours, draws), measured(theirs, others), 400)["accuracy"].ends
    assert paired is not None
    assert apart is not None
    assert paired.high - paired.low < (apart.high - apart.low) / 2


def test_a_model_against_itself_differs_in_nothing():
    case = made_up(0, np.array([0, 1] * 20), 1.0)
    one = measured(case, resampling([None] * 40, n_draws=50, seed=0))
    found = differences(one, one, 40)
    assert set(found) == set(SCALARS)
    for apart in found.values():
        assert apart.value == 0
        assert apart.ends is not None
        assert (apart.ends.low, apart.ends.high) == (0, 0)


def test_one_group_gives_no_paired_interval():
    case = made_up(0, np.array([0, 1] * 4), 1.0)
    draws = resampling(["only"] * 8, n_draws=10, seed=0)
    assert differences(measured(case, draws), measured(case, draws), draws.n_units)["accuracy"].ends is None
