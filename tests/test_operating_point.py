"""The threshold: chosen on val by a criterion, among two classes only."""

import numpy as np
import pytest
from sklearn import metrics as reference

from convflow.errors import DataError, ModelError, ParamsError
from convflow.evaluation.operating_point import OperatingPoint, choose_operating_point, told_point

JUDGES = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "f1": reference.f1_score,
}


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("criterion", JUDGES)
def test_no_other_threshold_is_better_by_scikit_learn(criterion, positive):
    rng = np.random.default_rng(1)
    label_N = (rng.random(80) < 0.3).astype(np.int64)
    score_N = np.round(np.clip(rng.normal(0.3 + 0.2 * label_N, 0.15), 0, 1), 2)
    prob_NK = np.c_[1 - score_N, score_N]
    point = choose_operating_point(label_N, prob_NK, criterion=criterion, positive=positive)
    truth = label_N == positive
    best = max(
        JUDGES[criterion](truth, prob_NK[:, positive] >= threshold) for threshold in np.linspace(0, 1.01, 203)
    )
    assert point.value == pytest.approx(best)
    decided = point.decide(prob_NK) == positive
    assert JUDGES[criterion](truth, decided) == pytest.approx(best)


def test_among_equals_the_threshold_nearest_to_a_half_is_taken():
    prob_NK = np.array([[0.9, 0.1], [0.1, 0.9]])
    point = choose_operating_point(np.array([0, 1]), prob_NK, criterion="accuracy", positive=1)
    assert point == OperatingPoint("accuracy", 1, 0.5, 1.0)


def test_argmax_takes_the_first_of_equals_and_any_number_of_classes():
    point = choose_operating_point(np.array([0]), np.array([[0.4, 0.4, 0.2]]), criterion="argmax", positive=2)
    assert point == OperatingPoint("argmax")
    assert point.decide(np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])).tolist() == [0, 2]


def test_a_threshold_for_three_classes_is_refused_with_the_remedy():
    with pytest.raises(ParamsError, match=r"f1 wants two classes, these are 3; set it to argmax"):
        choose_operating_point(np.array([0]), np.full((1, 3), 1 / 3), criterion="f1", positive=2)


@pytest.mark.parametrize("label", [[], [1, 1]])
def test_a_val_of_one_class_cannot_choose(label):
    label_N = np.array(label, dtype=np.int64)
    with pytest.raises(DataError, match=rf"one class only \({len(label)} in all\)"):
        choose_operating_point(label_N, np.full((len(label), 2), 0.5), criterion="accuracy", positive=1)


def test_what_the_evaluation_says_is_what_a_model_decides_by():
    told = {"criterion": "f1", "positive": "bad", "threshold": 0.3, "value_on_val": 0.9}
    assert told_point(told, ["bad", "good"], "here") == OperatingPoint("f1", 0, 0.3, 0.9)
    assert told_point(None, ["bad", "good"], "here") == OperatingPoint("argmax")
    assert told_point(told | {"threshold": None}, ["a", "b", "c"], "here") == OperatingPoint("argmax")


@pytest.mark.parametrize("classes", [["cat", "dog"], ["bad", "good", "ugly"]])
def test_a_threshold_for_other_classes_is_refused(classes):
    with pytest.raises(ModelError, match=r"^here: operating point 0.3 for 'bad' does not fit the classes"):
        told_point({"criterion": "f1", "positive": "bad", "threshold": 0.3}, classes, "here")


def test_the_temperature_that_was_told_calibrates_before_deciding():
    told = {"criterion": "f1", "positive": "bad", "threshold": 0.7, "temperature": 2.0}
    point = told_point(told, ["bad", "good"], "here")
    assert point == OperatingPoint("f1", 0, 0.7, None, 2.0)
    prob_NK = np.array([[0.8, 0.2], [0.9, 0.1]], dtype=np.float32)  # 0.667 and 0.75 at temperature 2
    assert point.calibrated(prob_NK)[:, 0] == pytest.approx([2 / 3, 0.75])
    assert point.decide(point.calibrated(prob_NK)).tolist() == [1, 0]


def test_a_temperature_without_threshold_stays_and_none_is_one():
    told = {"criterion": "argmax", "positive": None, "threshold": None, "temperature": 1.5}
    assert told_point(told, ["a", "b", "c"], "here") == OperatingPoint("argmax", temperature=1.5)
    assert OperatingPoint("argmax").calibrated(np.array([[0.25, 0.75]])).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "2", None, True])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ModelError, match=r"^here: temperature .* is no finite number above 0; run"):
        told_point({"threshold": None, "temperature": temperature}, ["a", "b"], "here")
