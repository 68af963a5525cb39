"""Baselines fitted on rows of features: few classes and many, rare ones, missing ones, weights, criteria."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info, threadpool_limits

from convflow.baselines import searching
from convflow.baselines.fitting import fit_baseline
from convflow.baselines.kinds import KINDS, load_kind
from convflow.baselines.logistic import Logistic
from convflow.baselines.reducing import fit_reducer, reduce
from convflow.baselines.rows import Known, Search
from convflow.baselines.svm import Svm
from convflow.errors import DataError, ParamsError
from made_features import GRIDS, made_rows

SEARCHED = [kind for kind in KINDS if kind != "majority"]


def labels(n_images, n_classes):
    return np.arange(n_images) % n_classes


def fitted(kind, train, val=None, **changed):
    val = made_rows([], train.n_classes) if val is None else val
    return fit_baseline(kind, train, val, Search(GRIDS[kind], **{"folds": 3, **changed}))


def right(fit, rows):
    return (fit.baseline.predict_proba(rows.feature_NF).argmax(axis=1) == rows.label_N).mean()


def log_loss(prob_NK, label_N):
    return -np.log(prob_NK[np.arange(len(label_N)), label_N]).mean()


def test_majority_answers_with_the_shares_of_the_weight():
    train = replace(made_rows([0, 0, 1, 2], 4), weight_N=np.array([1.0, 1, 4, 2]))
    prob_NK = fitted("majority", train).baseline.predict_proba(np.empty((2, 0)))
    assert prob_NK[0] == pytest.approx([2 / 8, 4 / 8, 2 / 8, 0], abs=2e-6)
    assert (prob_NK > 0).all()
    assert (prob_NK.dtype, prob_NK.shape) == (np.float32, (2, 4))


@pytest.mark.parametrize("kind", SEARCHED)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_a_set_that_can_be_told_apart_is(kind, n_classes):
    train, val, test = (made_rows(labels(n * n_classes, n_classes), n_classes, seed=n) for n in (20, 7, 9))
    fit = fitted(kind, train, val)
    assert right(fit, test) > 0.9
    prob_NK = fit.baseline.predict_proba(test.feature_NF)
    np.testing.assert_allclose(prob_NK.sum(axis=1), 1, atol=1e-6)
    assert log_loss(prob_NK, test.label_N) < 0.3
    assert fit.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEARCHED)
def test_two_hundred_classes_some_of_which_val_lacks(kind):
    train = made_rows(labels(600, 200), 200, spread=0.2)
    label_N = np.concatenate([labels(190, 190), np.arange(90)])
    val = made_rows(label_N, 200, seed=1, spread=0.2)
    fit = fitted(kind, train, val)
    test = made_rows(labels(200, 200), 200, seed=2, spread=0.2)
    assert right(fit, test) > 0.9
    assert fit.baseline.calibration.bias_K[190:] == (0,) * 10
    assert len(set(fit.baseline.calibration.bias_K[:190])) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_train_lacks_is_possible_but_hardly_likely(kind):
    train = made_rows([k for k in labels(60, 4) if k != 2], 4)
    val = made_rows(labels(20, 4), 4, seed=1)
    prob_NK = fitted(kind, train, val).baseline.predict_proba(val.feature_NF)
    np.testing.assert_array_equal(prob_NK[:, 2], np.float32(1e-6))
    np.testing.assert_allclose(prob_NK.sum(axis=1), 1, atol=1e-6)


def test_many_classes_that_train_lacks_leave_rows_that_sum_to_one():
    fit = fitted("logistic", made_rows(labels(20, 2), 500))
    prob_NK = fit.baseline.predict_proba(made_rows([0, 1], 500).feature_NF)
    np.testing.assert_allclose(prob_NK.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", SEARCHED)
@pytest.mark.parametrize("counts", [[30, 1], [30, 20, 1], [3, 2, 2], [1, 1, 1], [9, 1, 1, 1]])
def test_classes_of_one_or_two_images_are_no_obstacle(kind, counts):
    label_N = np.repeat(np.arange(len(counts)), counts)
    train = made_rows(label_N, len(counts), spread=0.05)
    fit = fitted(kind, train, folds=5)
    assert right(fit, train) == 1
    if max(counts) == 1:
        assert fit.notes[0] == "too few images to cross-validate; the first candidate was taken"
        assert {one["balanced_accuracy"] for one in fit.figures} == {None}


def test_an_image_whose_class_its_fold_does_not_know_is_not_judged():
    group_N = np.repeat(np.arange(6), 10)
    label_N = np.where(group_N == 5, 2, np.arange(60) % 2)  # one class is one group
    train = made_rows(label_N, 3, spread=0.1, group_N=group_N)
    fit = fitted("svm", train, criterion="accuracy", folds=6)
    assert max(one["accuracy"] for one in fit.figures) == 1


@pytest.mark.parametrize("kind", SEARCHED)
def test_groups_are_kept_together_where_they_are_given(kind):
    """Each group has a mark of its own and one label, so by image everything can be told from the mark."""
    group_N = np.repeat(np.arange(12), 10)
    rng = np.random.default_rng(0)
    mark_GF = rng.normal(size=(12, 12))
    rows = made_rows(group_N % 2, 2)
    rows = replace(rows, feature_NF=mark_GF[group_N] + rng.normal(size=(120, 12)) * 0.1)
    by_image, by_group = (
        max(one["accuracy"] for one in fitted(kind, each, criterion="accuracy").figures)
        for each in (rows, replace(rows, group_N=group_N))
    )
    assert by_image > 0.95
    assert by_group < 0.8


@pytest.mark.parametrize("kind", SEARCHED)
def test_images_of_one_class_only_are_one_line(kind):
    with pytest.raises(DataError, match=r"^train: images of one class only, of which nothing but majority"):
        fitted(kind, made_rows([1, 1, 1], 2))


def test_an_unknown_kind_is_one_line():
    with pytest.raises(
        ParamsError, match=r"^no baseline 'forest'; choose from majority, knn, svm, logistic$"
    ):
        load_kind("forest")


@pytest.mark.parametrize("method", [Svm(), Logistic()])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_row_of_weight_two_counts_as_two_rows(method, n_classes, monkeypatch):
    monkeypatch.setattr(
        "convflow.baselines.svm._unit", lambda z_MD: 0.1
    )  # else relative to the rows' variance
    rows = made_rows(labels(40, n_classes), n_classes, spread=1.5)
    z_ND = reduce(fit_reducer(rows, np.arange(40), "by feature", 0), rows.feature_NF)
    twice = np.concatenate([np.arange(40), np.arange(6)])
    chosen = {"c": 0.5, "gamma": 0.3}
    weight_N = np.where(np.arange(40) < 6, 2.0, 1.0)
    weighed, repeated, plain = (
        method.scores(method.fit(Known(z_ND[some], rows.label_N[some], weights), chosen), z_ND)
        for some, weights in (
            (np.arange(40), weight_N), (twice, np.ones(46)), (np.arange(40), np.ones(40)),
        )
    )  # fmt: skip
    np.testing.assert_allclose(weighed, repeated, atol=5e-3)
    assert np.abs(weighed - plain).max() > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_little_weight_change_little(kind):
    """A third of the labels are wrong, and weigh next to nothing."""
    train = made_rows(labels(90, 3), 3, spread=0.3)
    wrong = np.arange(90) % 4 == 0
    label_N = np.where(wrong, (train.label_N + 1) % 3, train.label_N)
    light = replace(train, label_N=label_N, weight_N=np.where(wrong, 1e-3, 1.0))
    test = made_rows(labels(60, 3), 3, seed=1, spread=0.3)
    heavy = replace(light, weight_N=np.ones(90))
    ours, without = (fitted(kind, each, made_rows([], 3)).baseline for each in (light, heavy))
    prob_light, prob_heavy = (each.predict_proba(test.feature_NF) for each in (ours, without))
    if kind == "majority":
        assert not np.array_equal(prob_light, prob_heavy)
    else:
        assert log_loss(prob_light, test.label_N) < log_loss(prob_heavy, test.label_N) - 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_alone_has_the_answer_it_has_among_others(kind):
    train, val = made_rows(labels(90, 3), 3), made_rows(labels(40, 3), 3, seed=1)
    baseline = fitted(kind, train, val).baseline
    for rows in (val, train):  # of train there is a copy among the neighbours
        together = baseline.predict_proba(rows.feature_NF)
        alone = [baseline.predict_proba(rows.feature_NF[n : n + 1])[0] for n in range(len(together))]
        np.testing.assert_allclose(alone, together, atol=1e-6)
        assert baseline.predict_proba(rows.feature_NF[:0]).shape == (0, 3)


@pytest.mark.parametrize("kind", SEARCHED)
def test_calibration_makes_val_likelier(kind):
    train, val = made_rows(labels(90, 3), 3, spread=1.5), made_rows(labels(300, 3), 3, seed=1, spread=1.5)
    calibrated, plain = fitted(kind, train, val), fitted(kind, train)
    losses = [
        log_loss(fit.baseline.predict_proba(val.feature_NF), val.label_N) for fit in (calibrated, plain)
    ]
    assert losses[0] < losses[1]
    assert plain.notes == ("val has no image; probabilities are not calibrated",)
    assert plain.baseline.calibration.scale == 1


@pytest.mark.parametrize("kind", SEARCHED)
@pytest.mark.parametrize("criterion", ["balanced_accuracy", "accuracy", "log_loss"])
def test_the_candidate_with_the_best_figure_is_chosen(kind, criterion):
    fit = fitted(kind, made_rows(labels(90, 3), 3, spread=1.5), criterion=criterion)
    figures = [one[criterion] for one in fit.figures]
    best = min(figures) if criterion == "log_loss" else max(figures)
    assert fit.chosen | {criterion: best} == fit.figures[figures.index(best)]
    assert len({tuple(sorted(one.items())) for one in fit.figures}) == len(fit.figures)


@pytest.mark.parametrize("kind", SEARCHED)
def test_the_same_comes_out_on_any_number_of_threads(kind, monkeypatch):
    train, val = made_rows(labels(90, 3), 3, spread=1.5), made_rows(labels(40, 3), 3, seed=1)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(searching, "cpu_count", lambda threads=threads: threads)
        fit = fitted(kind, train, val)
        found.append((fit.figures, fit.baseline.predict_proba(val.feature_NF).tobytes()))
    assert found[0] == found[1]


def test_sums_are_made_in_one_thread_so_that_they_are_the_same_on_any_machine_of_its_kind():
    told = []

    def look(n_fits):
        told.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    train = made_rows(labels(30, 3), 3)
    with threadpool_limits(2):
        fit_baseline("svm", train, train, Search(GRIDS["svm"], folds=3), look)
    assert set(told) == {1}


def test_another_seed_makes_other_folds():
    train = made_rows(labels(90, 3), 3, spread=1.5)
    assert fitted("svm", train, seed=0).figures != fitted("svm", train, seed=1).figures


def test_each_fit_of_a_search_is_counted():
    told = []
    train = made_rows(labels(30, 3), 3)
    fit = fit_baseline("svm", train, train, Search(GRIDS["svm"], folds=3), told.append)
    assert told == [3 * len(fit.figures)] * (3 * len(fit.figures))


def test_an_early_stop_does_not_warn_but_other_things_do(monkeypatch):
    monkeypatch.setattr("convflow.baselines.logistic._STEPS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted("logistic", made_rows(labels(30, 3), 3))
    with pytest.warns(ConvergenceWarning):
        Logistic().fit(Known(np.eye(6), np.arange(6) % 2, np.ones(6)), {"c": 1e6})


def test_too_many_images_are_drawn_from_and_it_is_said(monkeypatch):
    monkeypatch.setattr(Svm, "most_search", 30)
    monkeypatch.setattr(Svm, "most_fit", 60)
    train = made_rows(labels(90, 3), 3)
    fit = fitted("svm", train, train)
    assert fit.notes == (
        "settings chosen on 30 of 90 images of train", "learned from 60 of 90 images of train",
    )  # fmt: skip
    assert right(fit, train) > 0.9
