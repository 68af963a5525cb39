"""Temperature scaling, against a logistic regression without penalty and a fine grid; where val is silent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from convflow.evaluation.calibration import HOTTEST, Temperature, fit_temperature
from convflow.evaluation.metrics import Scored, ece, log_loss
from convflow.evaluation.operating_point import tempered


def made_up(n_images: int, n_classes: int, true_temperature: float, seed: int = 0):
    """Labels drawn from probabilities, and the same probabilities `true_temperature` times too sure."""
    rng = np.random.default_rng(seed)
    logit_NK = rng.normal(0, 1.5, (n_images, n_classes))
    honest_NK = np.exp(logit_NK) / np.exp(logit_NK).sum(axis=1, keepdims=True)
    label_N = np.array([rng.choice(n_classes, p=prob_K) for prob_K in honest_NK])
    return label_N, tempered(honest_NK, 1 / true_temperature)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_of_two_classes_it_is_a_logistic_regression_of_the_log_odds(true_temperature):
    label_N, prob_NK = made_up(500, 2, true_temperature)
    odds_N = np.log(prob_NK[:, 1] / prob_NK[:, 0])
    judge = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(odds_N[:, None], label_N)
    assert fit_temperature(label_N, prob_NK).value == pytest.approx(1 / judge.coef_[0, 0], abs=2e-4)


@pytest.mark.parametrize("n_classes", [3, 10])
def test_no_temperature_of_a_fine_grid_has_a_lower_log_loss(n_classes):
    label_N, prob_NK = made_up(300, n_classes, 2.5)
    found = fit_temperature(label_N, prob_NK)
    assert found == Temperature(pytest.approx(2.5, abs=0.6))

    def loss(temperature):
        return log_loss(Scored(label_N, tempered(prob_NK, temperature)))[0]

    assert loss(found.value) <= min(map(loss, np.geomspace(0.3, 20, 400))) + 1e-9


def test_what_is_fitted_on_val_mends_test():
    fitted = fit_temperature(*made_up(400, 3, 4.0, seed=1))
    label_N, prob_NK = made_up(2000, 3, 4.0, seed=2)
    before, after = Scored(label_N, prob_NK), Scored(label_N, tempered(prob_NK, fitted.value))
    assert ece(after)[0] < 0.04
    assert ece(before)[0] > 0.2
    assert log_loss(after)[0] < log_loss(before)[0]


def test_an_image_surely_wrong_is_made_less_sure():
    prob_NK = np.array([[1.0, 0.0]] * 7 + [[0.0, 1.0]] * 3)
    found = fit_temperature(np.array([0] * 6 + [1] * 4), prob_NK)  # one of ten is wrong
    assert tempered(prob_NK, found.value).max() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(
    ("label", "prob", "note"),
    [
        ([], np.empty((0, 2)), "no val image to fit it on; left at 1"),
        ([1, 1], [[0.2, 0.8], [0.7, 0.3]], "val has images of one class only; left at 1"),
    ],
)
def test_where_val_cannot_tell_it_stays_one_and_says_why(label, prob, note):
    assert fit_temperature(np.array(label, dtype=np.int64), np.asarray(prob)) == Temperature(1.0, note)


@pytest.mark.parametrize("sure", [0.6, 0.9999])
def test_without_a_mistake_one_in_n_plus_two_is_expected(sure):
    label_N = np.arange(98) % 2
    prob_NK = np.where(np.eye(2)[label_N] == 1, sure, 1 - sure)
    found = fit_temperature(label_N, prob_NK)
    assert tempered(prob_NK, found.value).max() == pytest.approx(0.99, abs=1e-4)
    assert found.note == "no mistake on val; fitted as if one in 100 were expected"


def test_probabilities_that_tell_nothing_are_made_even():
    rng = np.random.default_rng(0)
    prob_NK = rng.dirichlet([1, 1], 200)
    wrong_N = prob_NK.argmin(axis=1)
    found = fit_temperature(wrong_N, prob_NK)
    assert found.value == pytest.approx(HOTTEST, rel=0.01)
    assert "tell next to nothing" in found.note


@given(st.floats(0.05, 100), st.integers(0, 10**6))
def test_rows_sum_to_one_and_keep_their_order(temperature, seed):
    prob_NK = np.random.default_rng(seed).dirichlet([0.3] * 4, 20).astype(np.float32)
    found = tempered(prob_NK, temperature)
    assert found.dtype == np.float64
    assert found.sum(axis=1) == pytest.approx(1)
    for before, after in zip(prob_NK, found, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= 0).all()


def test_at_one_nothing_changes():
    prob_NK = np.array([[0.0, 1.0], [0.3, 0.7]], dtype=np.float32)
    assert (tempered(prob_NK, 1.0) == prob_NK).all()
