"""The parts of baselines, each against scikit-learn, scipy or a plain loop."""

import builtins
import math
import sys
import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, recall_score
from sklearn.metrics import log_loss as judge_log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from convflow.baselines import distances as module
from convflow.baselines.calibrating import Calibration, fit_calibration, neutral, probabilities
from convflow.baselines.distances import OnProcessor, pick_distances, squared
from convflow.baselines.distances_torch import OnTorch
from convflow.baselines.figures import figure
from convflow.baselines.folds import make_folds
from convflow.baselines.neighbours import Neighbours, vote_shares
from convflow.baselines.reducing import WEIGHINGS, fit_reducer, reduce
from convflow.baselines.rows import Known, Rows, drawn
from convflow.baselines.svm import Svm, narrowest
from convflow.errors import ParamsError
from made_features import BLOCKS, made_rows


def rows_and_askers(n_rows=60, n_askers=25, directions=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_askers, directions)), rng.normal(size=(n_rows, directions))


# --- distances


@pytest.mark.parametrize("place", [OnProcessor(), OnTorch("cpu")])
def test_distances_are_those_of_scipy_wherever_they_are_computed(place):
    x_ND, y_MD = rows_and_askers()
    expected = cdist(x_ND, y_MD)
    index, square = place.nearest(x_ND, y_MD, 7)
    assert np.array_equal(index, np.argsort(expected, axis=1)[:, :7])
    np.testing.assert_allclose(square, np.sort(expected, axis=1)[:, :7] ** 2, atol=1e-8)
    kernels = list(place.kernels(x_ND, y_MD, [0.1, 2.0]))
    for gamma, kernel in zip((0.1, 2.0), kernels, strict=True):
        np.testing.assert_allclose(kernel, np.exp(-gamma * expected**2), atol=1e-12)


@pytest.mark.parametrize("place", [OnProcessor(), OnTorch("cpu")])
def test_of_equally_near_rows_the_first_are_taken(place):
    y_MD = np.array([[1.0], [0.0], [-1.0], [1.0], [2.0], [1.0]])
    index, square = place.nearest(np.array([[0.0], [1.0]]), y_MD, 4)
    assert index.tolist() == [[1, 0, 2, 3], [0, 3, 5, 1]]
    assert square.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]


def test_torch_finds_the_neighbours_that_numpy_finds_among_copies():
    rng = np.random.default_rng(1)
    y_MD = rng.integers(0, 3, (200, 5)).astype(float)  # many at the same distance
    x_ND = rng.integers(0, 3, (50, 5)).astype(float)
    for found, expected in zip(
        OnTorch("cpu").nearest(x_ND, y_MD, 9), OnProcessor().nearest(x_ND, y_MD, 9), strict=True
    ):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("place", [OnProcessor(), OnTorch("cpu")])
def test_a_block_at_a_time_finds_the_same(place, monkeypatch):
    x_ND, y_MD = rows_and_askers()
    whole = place.nearest(x_ND, y_MD, 3)
    monkeypatch.setattr(sys.modules[type(place).__module__], "_ENTRIES", 100)
    for found, expected in zip(place.nearest(x_ND, y_MD, 3), whole, strict=True):
        assert np.array_equal(found, expected)
    assert [part.shape for part in place.nearest(x_ND[:0], y_MD, 3)] == [(0, 3), (0, 3)]


def test_all_rows_at_one_place_have_no_distance():
    index, square = OnProcessor().nearest(np.zeros((2, 3)), np.zeros((4, 3)), 2)
    assert index.tolist() == [[0, 1], [0, 1]]
    assert not square.any()


def test_a_gpu_is_asked_for_only_where_there_may_be_one_and_it_pays(monkeypatch):
    asked = []
    import_module = module.importlib.import_module

    def watch(name):
        asked.append(name)
        return import_module(name)

    monkeypatch.setattr(module.importlib, "import_module", watch)
    monkeypatch.setattr(module, "_may_have_gpu", lambda: False)
    assert isinstance(pick_distances("auto", 1e15), OnProcessor)
    monkeypatch.setattr(module, "_may_have_gpu", lambda: True)
    assert isinstance(pick_distances("auto", module.WORTH_A_GPU / 2), OnProcessor)
    assert isinstance(pick_distances("cpu", 1e15), OnProcessor)
    assert asked == []
    on_torch = sys.modules[OnTorch.__module__]
    monkeypatch.setattr(on_torch, "has_gpu", lambda: False)
    assert isinstance(pick_distances("auto", 1e15), OnProcessor)
    with pytest.raises(ParamsError, match=r"^baseline.device: no 'cuda' here; set it to auto or cpu$"):
        pick_distances("cuda", 1)
    monkeypatch.setattr(on_torch, "has_gpu", lambda: True)
    assert pick_distances("auto", module.WORTH_A_GPU).device.type == "cuda"
    assert pick_distances("cuda", 1).device.type == "cuda"


# --- k nearest neighbours


@pytest.mark.parametrize(("votes", "theirs"), [("equal", "uniform"), ("by distance", "distance")])
@pytest.mark.parametrize("k", [1, 4, 60])
def test_votes_are_those_of_scikit_learn_where_all_weigh_the_same(votes, theirs, k):
    x_ND, y_MD = rows_and_askers()
    class_M = np.arange(60) % 3
    known = Known(y_MD, class_M, np.full(60, 0.4))
    parts = Neighbours().fit(known, {"neighbours": k, "votes": votes}) | {"near": 0.0}
    found = vote_shares(parts, *OnProcessor().nearest(x_ND, y_MD, k))
    judge = KNeighborsClassifier(k, weights=theirs, algorithm="brute").fit(y_MD, class_M)
    np.testing.assert_allclose(found, judge.predict_proba(x_ND), atol=1e-6)


@pytest.mark.parametrize("votes", ["equal", "by distance"])
def test_a_row_of_weight_two_votes_as_two_rows(votes):
    x_ND, y_MD = rows_and_askers(20)
    class_M, weight_M = np.arange(20) % 3, np.where(np.arange(20) < 5, 2.0, 1.0)
    twice = np.concatenate([np.arange(20), np.arange(5)])
    shares = []
    for rows, weights in ((np.arange(20), weight_M), (twice, np.ones(25))):
        known = Known(y_MD[rows], class_M[rows], weights)
        parts = Neighbours().fit(known, {"neighbours": len(rows), "votes": votes}) | {"near": 1e-6}
        shares.append(vote_shares(parts, *OnProcessor().nearest(x_ND, known.z_MD, len(rows))))
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-9)


def test_a_copy_of_a_known_row_does_not_outvote_all_others():
    _, y_MD = rows_and_askers()
    known = Known(y_MD, np.arange(60) % 2, np.ones(60))
    parts = Neighbours().fit(known, {"neighbours": 60, "votes": "by distance"})
    shares = vote_shares(parts, *OnProcessor().nearest(y_MD[:1], y_MD, 60))
    assert 0.5 < shares[0, 0] < 1
    assert np.isfinite(Neighbours().scores(parts, y_MD[:1])).all()


def test_more_neighbours_than_rows_are_all_rows():
    x_ND, y_MD = rows_and_askers(5)
    known = Known(y_MD, np.arange(5) % 2, np.ones(5))
    candidates = [{"neighbours": k, "votes": "equal"} for k in (3, 5, 49)]
    three, five, most = Neighbours().ask(known, x_ND, candidates, OnProcessor())
    assert np.array_equal(five, most)
    assert not np.array_equal(three, five)
    for one, scores in zip(candidates, (three, five, most), strict=True):
        method = Neighbours()
        np.testing.assert_allclose(method.scores(method.fit(known, one), x_ND), scores, atol=1e-12)


# --- support vector machine


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_the_search_scores_a_machine_as_the_fit_does(n_classes):
    x_ND, y_MD = rows_and_askers()
    known = Known(y_MD, np.arange(60) % n_classes, np.linspace(0.3, 2, 60))
    candidates = [{"c": c, "gamma": g} for g in (0.2, 1.0) for c in (0.5, 5.0)]
    for place in (OnProcessor(), OnTorch("cpu")):
        for one, scores in zip(candidates, Svm().ask(known, x_ND, candidates, place), strict=True):
            expected = Svm().scores(Svm().fit(known, one), x_ND)
            np.testing.assert_allclose(scores, expected, atol=2e-3)  # libsvm stops at 1e-3


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_a_class_that_wins_all_its_duels_is_the_likeliest(n_classes):
    x_ND, y_MD = rows_and_askers(120, 200)
    class_M = (np.arange(120) * 7 + (y_MD[:, 0] > 0)) % n_classes
    model = SVC(decision_function_shape="ovo").fit(y_MD, class_M)
    duels = model.decision_function(x_ND)
    score_NP = narrowest(duels, n_classes)
    wins = score_NP.max(axis=1) > 0
    assert wins.mean() > 0.5
    assert np.array_equal(score_NP.argmax(axis=1)[wins], model.predict(x_ND)[wins])
    if n_classes > 2:
        pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
        for k in range(n_classes):
            mine = [d if i == k else -d for d, (i, j) in zip(duels.T, pairs, strict=True) if k in (i, j)]
            assert np.array_equal(score_NP[:, k], np.min(mine, axis=0))


# --- features to few numbers


def test_directions_are_those_of_scikit_learn_on_standardised_features():
    rows = made_rows(np.arange(30) % 3, 3)
    found = reduce(fit_reducer(rows, np.arange(30), "by feature", 0), rows.feature_NF)
    x = rows.feature_NF.astype(float)
    expected = PCA(svd_solver="full").fit_transform((x - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_each_sort_of_feature_varies_as_its_weighing_says():
    rows = made_rows(np.arange(40) % 3, 3)
    for weighing in WEIGHINGS:
        scaler = fit_reducer(rows, np.arange(40), weighing, 0)["scale"]
        variance_F = scaler.transform(rows.feature_NF.astype(float)).var(axis=0)
        total = [variance_F[:8].sum(), variance_F[8:].sum()]
        assert total == pytest.approx(
            {"by feature": [8, 4], "by sort": [1, 1], "texture": [0.01, 1]}[weighing]
        )


def test_many_features_keep_so_many_directions_the_same_each_time():
    rng = np.random.default_rng(0)
    wide = Rows(rng.normal(size=(260, 300)), np.arange(260) % 2, np.ones(260), 2, {"hog": 300})
    found = [reduce(fit_reducer(wide, np.arange(260), "by sort", 0), wide.feature_NF) for _ in range(2)]
    assert found[0].shape == (260, 200)
    assert np.array_equal(*found)


def test_only_the_rows_allowed_are_looked_at():
    rows = made_rows(np.arange(30) % 3, 3)
    inside = np.arange(20)
    other = made_rows(np.arange(30) % 3, 3)
    other.feature_NF[20:] += 1000
    for weighing in WEIGHINGS:
        one, two = (fit_reducer(each, inside, weighing, 0) for each in (rows, other))
        assert np.array_equal(one["reduce"].components_, two["reduce"].components_)


def test_a_feature_that_never_varies_does_no_harm():
    rows = made_rows(np.arange(30) % 3, 3)
    rows.feature_NF[:, 2] = 7
    assert np.isfinite(reduce(fit_reducer(rows, np.arange(30), "by sort", 0), rows.feature_NF)).all()


def test_a_draw_takes_of_every_class_its_share_and_at_least_one():
    label_N = np.repeat([0, 1, 2], [900, 99, 1])
    some = drawn(label_N, 100, 0)
    assert np.bincount(label_N[some]).tolist() == [89, 10, 1]
    assert np.array_equal(some, np.unique(some))
    assert np.array_equal(some, drawn(label_N, 100, 0))
    assert not np.array_equal(some, drawn(label_N, 100, 1))
    assert np.array_equal(drawn(label_N, 1000, 0), np.arange(1000))


# --- folds


def test_groups_stay_together_and_classes_keep_their_shares():
    group_N = np.arange(200) // 5
    label_N = (np.arange(200) // 5) % 2
    folds, notes = make_folds(label_N, group_N, 5, 0)
    assert notes == ()
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(200))
    for fit, held in folds:
        assert not set(group_N[fit]) & set(group_N[held])
        assert label_N[held].mean() == pytest.approx(0.5, abs=0.1)


def test_without_groups_folds_are_stratified_and_depend_on_the_seed():
    label_N = np.repeat([0, 1], [80, 20])
    folds, _ = make_folds(label_N, None, 5, 0)
    assert [np.bincount(label_N[held]).tolist() for _, held in folds] == [[16, 4]] * 5
    again, other = make_folds(label_N, None, 5, 0)[0], make_folds(label_N, None, 5, 1)[0]
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(folds, other, strict=True))


@pytest.mark.parametrize(("counts", "n_folds"), [([50, 3, 1], 5), ([3, 2, 2], 3), ([4, 1], 4), ([2, 2], 2)])
def test_rare_classes_need_no_fewer_folds_than_the_largest_class_has_images(counts, n_folds):
    label_N = np.repeat(np.arange(len(counts)), counts)
    folds, notes = make_folds(label_N, None, 5, 0)
    assert len(folds) == n_folds
    assert notes == ()
    for k, count in enumerate(counts):
        for fit, held in folds:
            assert (label_N[held] == k).sum() + (label_N[fit] == k).sum() == count


def test_too_few_images_or_groups_are_told():
    assert make_folds(np.array([0, 1]), None, 5, 0) == (
        [], ("too few images to cross-validate; the first candidate was taken",),
    )  # fmt: skip
    label_N = np.arange(20) % 2
    folds, notes = make_folds(label_N, np.zeros(20, int), 5, 0)
    assert len(folds) == 5
    assert notes == ("all images of train are one group; cross-validated by image",)
    folds, notes = make_folds(label_N, np.arange(20) // 7, 5, 0)
    assert (len(folds), notes) == (3, ())


# --- figures


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    prob_NK = rng.dirichlet(np.ones(4), 60)
    label_N = rng.choice([0, 1, 3], 60)  # one class does not occur
    decided_N = prob_NK.argmax(axis=1)
    assert figure("accuracy", label_N, prob_NK) == pytest.approx(accuracy_score(label_N, decided_N))
    recalls = recall_score(label_N, decided_N, average=None, labels=[0, 1, 3])
    assert figure("balanced_accuracy", label_N, prob_NK) == pytest.approx(recalls.mean())
    expected = judge_log_loss(label_N, prob_NK, labels=range(4))
    assert figure("log_loss", label_N, prob_NK) == pytest.approx(expected)
    assert figure("log_loss", np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(36, abs=0.1)


# --- calibration


def scores_and_labels(n_images=4000, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    score_NK = rng.normal(size=(n_images, n_classes)) * 2
    prob_NK = probabilities(score_NK, Calibration(0.7, tuple(np.linspace(-1, 1, n_classes))))
    return score_NK, (prob_NK.cumsum(axis=1) < rng.random((n_images, 1))).sum(axis=1)


def test_of_two_classes_it_is_the_sigmoid_that_logistic_regression_finds():
    score_NK, label_N = scores_and_labels()
    found = fit_calibration(score_NK, label_N, spread=math.inf, doubt=0)
    judge = LogisticRegression(C=np.inf, tol=1e-9).fit(score_NK[:, 1:] - score_NK[:, :1], label_N)
    assert found.scale == pytest.approx(judge.coef_[0, 0], abs=1e-4)
    assert found.bias_K[1] - found.bias_K[0] == pytest.approx(judge.intercept_[0], abs=1e-4)
    difference = score_NK[:, 1] - score_NK[:, 0]
    expected = expit(found.scale * difference + found.bias_K[1] - found.bias_K[0])
    np.testing.assert_allclose(probabilities(score_NK, found)[:, 1], expected, atol=1e-12)


def test_what_made_the_labels_is_found_again():
    score_NK, label_N = scores_and_labels(20_000, 4)
    found = fit_calibration(score_NK, label_N)
    assert found.scale == pytest.approx(0.7, abs=0.03)
    assert found.bias_K == pytest.approx([-1, -1 / 3, 1 / 3, 1], abs=0.08)
    assert sum(found.bias_K) == pytest.approx(0, abs=1e-5)


def test_no_change_makes_the_labels_likelier():
    score_NK, label_N = scores_and_labels(300, 3)
    found = fit_calibration(score_NK, label_N, spread=math.inf, doubt=0)

    def loss(calibration):
        return -np.log(probabilities(score_NK, calibration)[np.arange(300), label_N]).sum()

    for changed in (0.99, 1.01):
        assert loss(Calibration(found.scale * changed, found.bias_K)) > loss(found)
        moved = (found.bias_K[0] + changed - 1.0001, *found.bias_K[1:])
        assert loss(Calibration(found.scale, moved)) > loss(found)


def test_an_offset_of_a_class_that_val_lacks_stays_neutral():
    score_NK, label_N = scores_and_labels(3000, 4)
    kept = label_N != 2
    found = fit_calibration(score_NK[kept], label_N[kept])
    assert found.bias_K[2] == 0
    without = fit_calibration(score_NK[kept][:, [0, 1, 3]], np.array([0, 1, 9, 2])[label_N[kept]])
    assert (found.scale, found.bias_K[3]) == (without.scale, without.bias_K[2])


@pytest.mark.parametrize("n_images", [30, 300])
def test_images_without_a_mistake_make_nothing_surer_than_they_can(n_images):
    label_N = np.arange(n_images) % 3
    found = fit_calibration(np.eye(3)[label_N] * 5, label_N, spread=math.inf)
    assert 1 - probabilities(np.eye(3) * 5, found).max() == pytest.approx(1 / (n_images + 2), rel=1e-3)


@pytest.mark.parametrize(("label_N", "what"), [([], "no image"), ([1, 1, 1], "images of one class only")])
def test_where_val_cannot_tell_scores_stay_as_they_are(label_N, what):
    found = fit_calibration(np.zeros((len(label_N), 3)), np.array(label_N, int))
    assert found == neutral(3, f"val has {what}; probabilities are not calibrated")


def test_nothing_here_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_calibration(np.array([[1e6, -1e6], [-1e6, 1e6]]), np.array([0, 1]))
        fit_calibration(np.zeros((4, 2)), np.array([0, 1, 0, 1]))


def test_made_blocks_are_as_many_as_made_features():
    assert builtins.sum(BLOCKS.values()) == made_rows([0, 1], 2).feature_NF.shape[1]


def test_squares_are_never_negative():
    x_ND = np.full((3, 4), 1e8) + np.random.default_rng(0).normal(size=(3, 4)) * 1e-8
    assert (squared(x_ND, x_ND) >= 0).all()
