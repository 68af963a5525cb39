"""Corrected statistics, judged by scipy and by how often their intervals hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from convflow.studying.corrected import compare, gap, share_interval, summarise

VALUES = np.random.default_rng(0).normal(0.84, 0.012, 20)
OTHERS = VALUES - 0.01 + np.random.default_rng(1).normal(0, 0.01, 20)


def test_without_correction_it_is_the_textbook_interval():
    found = summarise(VALUES, test_to_train=0.0)
    low, high = stats.t.interval(0.95, 19, loc=VALUES.mean(), scale=stats.sem(VALUES))
    assert (found.n, found.mean) == (20, pytest.approx(VALUES.mean()))
    assert (found.sd, found.low, found.high) == pytest.approx((VALUES.std(ddof=1), low, high))


def test_the_correction_adds_the_share_of_test_to_the_variance():
    plain, corrected = (summarise(VALUES, test_to_train=ratio) for ratio in (0.0, 1 / 3))
    assert corrected.error / plain.error == pytest.approx(math.sqrt((1 / 20 + 1 / 3) / (1 / 20)))
    assert corrected.mean == plain.mean


def test_without_correction_the_paired_test_is_scipys():
    found = compare(VALUES, OTHERS, test_to_train=0.0)
    judge = stats.ttest_rel(VALUES, OTHERS)
    low, high = judge.confidence_interval(0.95)
    assert (found.t, found.p) == pytest.approx((judge.statistic, judge.pvalue))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_corrected_test_is_nadeau_and_bengios():
    found = compare(VALUES, OTHERS, test_to_train=0.25)
    difference_J = VALUES - OTHERS
    t = difference_J.mean() / math.sqrt((1 / 20 + 0.25) * difference_J.var(ddof=1))
    assert (found.t, found.p) == pytest.approx((t, 2 * stats.t.sf(abs(t), 19)))
    assert (found.low > 0) == (found.p < 0.05)


def test_figures_without_spread_are_certain_and_one_split_says_nothing():
    found = summarise(np.full(20, 0.1 + 0.2), test_to_train=0.25)
    assert (found.sd, found.low, found.high) == (0.0, found.mean, found.mean)
    assert compare(np.ones(5), np.ones(5), test_to_train=0.25).p == 1.0
    assert compare(np.ones(5), np.zeros(5), test_to_train=0.25).p == 0.0
    alone = summarise(VALUES[:1], test_to_train=0.25)
    assert (alone.n, alone.sd, alone.low) == (1, None, None)
    assert compare(VALUES[:1], OTHERS[:1], test_to_train=0.25).p is None


def test_a_gap_without_correction_is_welchs_up_to_the_degrees_of_freedom():
    one, other = (summarise(values, test_to_train=0.0) for values in (VALUES, OTHERS))
    found = gap(one, other)
    judge = stats.ttest_ind(VALUES, OTHERS, equal_var=False)
    assert (found.difference, found.t) == pytest.approx((VALUES.mean() - OTHERS.mean(), judge.statistic))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(judge.statistic), 19))
    assert found.p > judge.pvalue  # fewer degrees of freedom than Welch's: never surer


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (541, 656), (580, 656)])
def test_the_interval_of_a_share_is_scipys_exact_one(hits, n):
    judge = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert share_interval(hits, n) == pytest.approx((judge.low, judge.high))


def coverage(value_BJ, truth_B, test_to_train):
    """How often the interval holds the truth, over many data sets."""
    found = [summarise(value_J, test_to_train=test_to_train) for value_J in value_BJ]
    return np.mean([one.low <= truth <= one.high for one, truth in zip(found, truth_B, strict=True)])


def centroid_errors(rng, n_sets, n_splits, n_images=120, n_test=30):
    """Errors of a nearest-centroid rule on random splits of data sets of two overlapping classes."""
    error_BJ = np.empty((n_sets, n_splits))
    for place in range(n_sets):
        label_N = rng.integers(0, 2, n_images)
        x_ND = rng.normal(0, 1, (n_images, 5)) + 0.5 * label_N[:, None]
        for number in range(n_splits):
            order_N = rng.permutation(n_images)
            test, train = order_N[:n_test], order_N[n_test:]
            centre_KD = np.stack([x_ND[train][label_N[train] == k].mean(axis=0) for k in (0, 1)])
            distance_NK = ((x_ND[test, None] - centre_KD) ** 2).sum(axis=2)
            error_BJ[place, number] = (distance_NK.argmin(axis=1) != label_N[test]).mean()
    return error_BJ


def test_the_corrected_interval_holds_the_truth_in_about_95_percent_and_the_plain_one_in_far_fewer():
    # many splits of each data set; the truth is the mean over data sets, which thousands of splits tell
    error_BJ = centroid_errors(np.random.default_rng(0), n_sets=600, n_splits=20)
    truth_B = np.full(len(error_BJ), error_BJ.mean())
    corrected = coverage(error_BJ, truth_B, 30 / 90)
    plain = coverage(error_BJ, truth_B, 0.0)
    print(f"corrected {corrected:.3f}, plain {plain:.3f}")
    assert 0.93 <= corrected <= 0.97
    assert plain < 0.75


def test_repeated_cross_validation_by_group_is_covered_too():
    # errors come by group and hardly depend on the training part; each repeat tests every image once
    rng = np.random.default_rng(0)
    value_BJ = np.empty((1000, 20))
    for place in range(len(value_BJ)):
        error_G = rng.beta(2, 8, 40)
        value_BJ[place] = np.concatenate(
            [error_G[rng.permutation(40)].reshape(5, 8).mean(axis=1) for _ in range(4)]
        )
    truth_B = np.full(len(value_BJ), 0.2)
    assert 0.95 <= coverage(value_BJ, truth_B, 0.25) <= 0.995
    assert coverage(value_BJ, truth_B, 0.0) < 0.75
