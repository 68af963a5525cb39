"""Metrics against scikit-learn, and what must hold for any predictions and any draw."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from convflow.errors import DataError
from convflow.evaluation.metrics import (
    Scored,
    accuracy,
    all_metrics,
    confusion,
    ece,
    recall,
    weighted_accuracy,
)

SCALARS = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision")
SCALARS += ("log_loss", "brier", "ece")


def made_up(seed: int, n_images: int, n_classes: int, *, tied: bool = False) -> Scored:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, n_classes, n_images)
    score_NK = rng.random((n_images, n_classes)) + 0.5 * np.eye(n_classes)[label_N]
    if tied:
        score_NK = np.ceil(score_NK * 2)
    return Scored(label_N, score_NK / score_NK.sum(axis=1, keepdims=True))


def judged(case: Scored) -> dict[str, float]:
    """The same metrics by scikit-learn, and ECE by a loop."""
    label, prob, decided = case.label_N, case.prob_NK, case.decided
    present = np.unique(label)
    inside = np.eye(case.n_classes)[label]
    if case.n_classes == 2:
        wanted = 1 if case.positive is None else case.positive
        areas = [reference.roc_auc_score(label == wanted, prob[:, wanted])]
        precisions = [reference.average_precision_score(label == wanted, prob[:, wanted])]
    else:
        areas = [reference.roc_auc_score(label == k, prob[:, k]) for k in present]
        precisions = [reference.average_precision_score(label == k, prob[:, k]) for k in present]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of decisions for an absent class
        balanced = reference.balanced_accuracy_score(label, decided)
    return {
        "accuracy": reference.accuracy_score(label, decided),
        "balanced_accuracy": balanced,
        "macro_f1": reference.f1_score(label, decided, average="macro"),
        "roc_auc": float(np.mean(areas)),
        "average_precision": float(np.mean(precisions)),
        "log_loss": reference.log_loss(label, prob, labels=range(case.n_classes)),
        "brier": float(((prob - inside) ** 2).sum(axis=1).mean()),
        "ece": looped_ece(case),
    }


def looped_ece(case: Scored) -> float:
    total = 0.0
    sure, right = case.prob_NK.max(axis=1), case.prob_NK.argmax(axis=1) == case.label_N
    for low in np.arange(15):
        inside = (sure * 15 > low) & (sure * 15 <= low + 1)
        if inside.any():
            total += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    return total


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_every_metric_agrees_with_scikit_learn(n_classes, tied):
    case = made_up(n_classes, 211, n_classes, tied=tied)
    found = {name: float(all_metrics(case)[name][0]) for name in SCALARS}
    assert found == pytest.approx(judged(case), abs=1e-12)


def test_a_class_missing_from_the_images_is_left_out_of_the_means():
    case = made_up(5, 90, 4)
    keep = case.label_N != 2
    without = Scored(case.label_N[keep], case.prob_NK[keep])
    found = {name: float(all_metrics(without)[name][0]) for name in SCALARS}
    assert found == pytest.approx(judged(without), abs=1e-12)
    assert np.isnan(recall(without)[0]).tolist() == [False, False, True, False]


def test_images_of_one_class_leave_the_area_undefined_and_nothing_else():
    case = Scored(np.ones(3, dtype=np.int64), np.array([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]]))
    undefined = [name for name in SCALARS if np.isnan(all_metrics(case)[name][0])]
    assert undefined == ["roc_auc"]


def test_of_two_classes_the_positive_one_is_looked_for():
    case = made_up(8, 60, 2)
    first = Scored(case.label_N, case.prob_NK, positive=0)
    assert all_metrics(first)["average_precision"][0] == pytest.approx(
        reference.average_precision_score(case.label_N == 0, case.prob_NK[:, 0])
    )


@pytest.mark.parametrize("n_classes", [2, 4])
def test_counts_are_repeated_rows(n_classes):
    case = made_up(1, 50, n_classes, tied=True)
    count_BN = np.random.default_rng(2).integers(0, 4, (6, 50)).astype(float)
    drawn = all_metrics(case, count_BN)
    for draw, count_N in enumerate(count_BN):
        rows = np.repeat(np.arange(50), count_N.astype(int))
        alone = all_metrics(Scored(case.label_N[rows], case.prob_NK[rows]))
        for name, value in alone.items():
            np.testing.assert_allclose(drawn[name][draw], value[0], atol=1e-12, err_msg=name)


def test_a_draw_without_a_class_is_counted_over_the_rest():
    case = made_up(3, 30, 3)
    count_BN = (case.label_N != 1).astype(float)[None, :]
    rest = case.label_N != 1
    alone = all_metrics(Scored(case.label_N[rest], case.prob_NK[rest]))
    for name in SCALARS:
        assert all_metrics(case, count_BN)[name][0] == pytest.approx(alone[name][0], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans())
def test_the_order_of_the_images_does_not_matter(seed, n_classes, tied):
    case = made_up(seed, 40, n_classes, tied=tied)
    order = np.random.default_rng(seed).permutation(40)
    mixed = all_metrics(Scored(case.label_N[order], case.prob_NK[order]))
    for name, value in all_metrics(case).items():
        np.testing.assert_allclose(mixed[name], value, atol=1e-12, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_every_metric_stays_in_its_range(seed, n_classes):
    case = made_up(seed, 25, n_classes)
    count_BN = np.random.default_rng(seed).integers(0, 3, (4, 25)).astype(float)
    found = all_metrics(case, count_BN)
    for name in SCALARS:
        known = found[name][np.isfinite(found[name])]
        top = {"log_loss": np.inf, "brier": 2.0}.get(name, 1.0)
        assert ((known >= -1e-12) & (known <= top + 1e-12)).all(), name


def test_a_probability_of_zero_for_the_truth_costs_a_finite_loss():
    case = Scored(np.array([0]), np.array([[0.0, 1.0]]))
    assert all_metrics(case)["log_loss"][0] == pytest.approx(36.04, abs=0.01)
    assert all_metrics(case)["brier"][0] == 2.0
    assert ece(case)[0] == 1.0


def test_decisions_other_than_the_likeliest_are_what_is_counted():
    prob_NK = np.array([[0.6, 0.4], [0.6, 0.4], [0.2, 0.8]])
    case = Scored(np.array([0, 1, 1]), prob_NK, predicted_N=np.array([1, 1, 1]))
    assert accuracy(case)[0] == pytest.approx(2 / 3)
    assert confusion(case).tolist() == [[0, 1], [0, 2]]


def test_weights_count_an_image_more_or_less():
    case = Scored(np.array([0, 1]), np.array([[0.9, 0.1], [0.9, 0.1]]))
    assert weighted_accuracy(case, np.array([1.0, 0.25]))[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("label", "prob", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "2 labels for 1 rows"),
        ([3], [[0.5, 0.5]], "class index 3 among 2 classes"),
        ([0], [[0.5, 0.7]], "off from sum 1 by 0.2;"),
        ([0], [[float("nan"), 0.7]], "off from sum 1 by nan;"),
    ],
)
def test_rows_that_are_no_predictions_are_refused(label, prob, message):
    with pytest.raises(DataError, match=message):
        Scored(np.array(label), np.array(prob))
