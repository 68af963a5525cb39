"""The head on frozen features: its solver, its folds, its search, and when a rung is kept."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from convflow.learning.folds import deal_folds
from convflow.learning.ladder import Ladder, paired_gain
from convflow.learning.logistic import fit_many, turned
from convflow.learning.probing import Search, Taught, columns, fit_probe, last_depths

CS = (0.001, 0.03, 1.0)


def blobs(n_rows=120, n_features=30, n_classes=3, *, seed=0, noise=1.5):
    """Classes told apart by the first features, float32 (N, F), int64 (N,)."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(n_rows) % n_classes
    feature_NF = rng.normal(size=(n_rows, n_features)) * noise + 3
    feature_NF[np.arange(n_rows), label_N] += 2
    return feature_NF.astype(np.float32), label_N


def taught(label_N, *, weight_N=None, group_N=None, n_classes=3):
    weight_N = np.ones(len(label_N), np.float32) if weight_N is None else weight_N
    return Taught(label_N, weight_N, group_N, n_classes)


@pytest.mark.parametrize("n_features", [30, 300])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_many_problems_at_once_give_what_scikit_learn_gives_for_each(n_features, n_classes):
    feature_NF, label_N = blobs(n_features=n_features, n_classes=n_classes)
    x_NF = torch.from_numpy(feature_NF - feature_NF.mean(axis=0)).double()
    weight_N = np.random.default_rng(1).choice([0.33, 0.67, 1.0], len(label_N))
    weight_PN = torch.from_numpy(np.stack([weight_N, weight_N * (np.arange(120) % 5 != 0), np.ones(120)]))
    target_NK = torch.nn.functional.one_hot(torch.from_numpy(label_N), n_classes).double()
    found = turned(x_NF)
    coefficient_PRK, bias_PK = fit_many(found, target_NK, weight_PN, torch.tensor(CS).double())
    for problem, c in enumerate(CS):
        # of two classes scikit-learn penalises one difference, not two columns: half as much
        model = LogisticRegression(C=c * (2 if n_classes == 2 else 1), tol=1e-9, max_iter=20_000)
        used = weight_PN[problem].numpy() > 0
        model.fit(x_NF.numpy()[used], label_N[used], sample_weight=weight_PN[problem].numpy()[used])
        logits_NK = found.rows_NR @ coefficient_PRK[problem] + bias_PK[problem]
        expected = model.predict_proba(x_NF.numpy())
        # rows left out lie where only the penalty speaks; there too the answers agree
        np.testing.assert_allclose(logits_NK.softmax(dim=1), expected, atol=3e-4)


def test_solving_in_parts_changes_nothing(monkeypatch):
    from convflow.learning import logistic

    feature_NF, label_N = blobs()
    found = turned(torch.from_numpy(feature_NF - feature_NF.mean(axis=0)).double())
    target_NK = torch.nn.functional.one_hot(torch.from_numpy(label_N), 3).double()
    asked = target_NK, torch.ones(3, 120).double(), torch.tensor(CS).double()
    whole = fit_many(found, *asked)
    monkeypatch.setattr(logistic, "_ENTRIES", 1)
    for one, other in zip(whole, fit_many(found, *asked), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def test_directions_carry_the_features_and_leave_out_what_never_varies():
    feature_NF, _ = blobs(n_rows=20, n_features=50)
    x_NF = torch.from_numpy(feature_NF).double()
    x_NF -= x_NF.mean(dim=0)
    for x in (x_NF, x_NF.T - x_NF.T.mean(dim=0)):
        found = turned(x)
        assert found.rows_NR.shape[1] == torch.linalg.matrix_rank(x)
        torch.testing.assert_close(found.rows_NR @ found.axes_FR.T, x, atol=1e-6, rtol=1e-6)
        gram = found.rows_NR.T @ found.rows_NR
        torch.testing.assert_close(gram, torch.diag(found.spread_R), atol=1e-6, rtol=1e-6)


def test_folds_spread_every_class_evenly_and_depend_on_the_seed_alone():
    label_N = np.repeat([0, 1, 2], [50, 25, 4])
    fold_N = deal_folds(label_N, None, 5, 7)
    assert np.array_equal(fold_N, deal_folds(label_N, None, 5, 7))
    assert not np.array_equal(fold_N, deal_folds(label_N, None, 5, 8))
    assert np.bincount(fold_N[label_N == 0]).tolist() == [10] * 5
    assert np.bincount(fold_N[label_N == 1]).tolist() == [5] * 5
    assert sorted(np.bincount(fold_N[label_N == 2], minlength=5).tolist()) == [0, 1, 1, 1, 1]


def test_groups_stay_whole_and_classes_as_even_as_they_let():
    rng = np.random.default_rng(0)
    group_N = rng.integers(0, 24, 600)
    label_N = (rng.random(600) < np.where(group_N % 2, 0.8, 0.1)).astype(np.int64)
    fold_N = deal_folds(label_N, group_N, 5, 0)
    for group in range(24):
        assert len(set(fold_N[group_N == group])) == 1
    shares = [label_N[fold_N == fold].mean() for fold in range(5)]
    assert max(shares) - min(shares) < 0.15
    sizes = np.bincount(fold_N)
    assert sizes.min() > 90


def test_there_are_no_more_folds_than_groups_and_one_group_is_none():
    label_N = np.arange(12) % 2
    assert set(deal_folds(label_N, np.arange(12) // 4, 5, 0)) == {0, 1, 2}
    assert set(deal_folds(label_N, np.zeros(12, int), 3, 0)) == {0, 1, 2}
    assert set(deal_folds(label_N[:1], None, 5, 0)) == {0}


def test_depths_to_try_end_with_the_last_stage():
    assert last_depths([3, 4, 5, 6, 7, 8]) == ((8,), (6, 7, 8), (3, 4, 5, 6, 7, 8))
    assert last_depths([0]) == ((0,),)
    assert columns([4, 7], {3: 2, 4: 1, 7: 3}).tolist() == [2, 3, 4, 5]


def test_the_stage_that_knows_is_found_and_its_figures_are_those_of_images_left_out():
    feature_NF, label_N = blobs(n_features=40)
    widths = {5: 30, 6: 10}  # the classes are told by stage 5, whose features come first
    search = Search(((6,), (5,), (5, 6)), CS)
    probe = fit_probe(feature_NF, widths, taught(label_N), search)
    by_depth = {tuple(line["depths"]): line for line in probe.figures if line["c"] == 0.03}
    assert 5 in probe.depths
    assert by_depth[5,]["log_loss"] < 0.9 < by_depth[6,]["log_loss"]
    assert len(probe.figures) == 9
    logits_NK = probe.logits(feature_NF, widths)
    assert float((logits_NK.argmax(dim=1).numpy() == label_N).mean()) > by_depth[5,]["accuracy"] > 0.6
    noise = np.random.default_rng(5).permutation(label_N)
    blind = fit_probe(feature_NF, widths, taught(noise), search)
    assert (
        min(line["log_loss"] for line in blind.figures) > 1.05
    )  # log 3 = 1.099: nothing leaks into the figures


def test_the_search_agrees_with_scikit_learn_on_every_candidate():
    feature_NF, label_N = blobs(n_features=20)
    probe = fit_probe(feature_NF, {0: 20}, taught(label_N), Search(((0,),), CS))
    fold_N = deal_folds(label_N, None, 5, 0)
    z_NF = (feature_NF - feature_NF.mean(axis=0)) / feature_NF.std(axis=0)
    for line in probe.figures:
        loss_N = np.zeros(len(label_N))
        for fold in range(5):
            out_N = fold_N == fold
            model = LogisticRegression(C=line["c"], max_iter=5000).fit(z_NF[~out_N], label_N[~out_N])
            loss_N[out_N] = -model.predict_log_proba(z_NF[out_N])[np.arange(out_N.sum()), label_N[out_N]]
        assert line["log_loss"] == pytest.approx(loss_N.mean(), abs=2e-3)
    best = min(probe.figures, key=lambda line: line["log_loss"])
    assert (list(probe.depths), probe.c) == (best["depths"], best["c"])


def test_unsure_images_count_less_or_softly_or_like_all_others():
    feature_NF, label_N = blobs(n_rows=90)
    wrong_N = np.arange(90) % 4 == 0
    label_N = np.where(wrong_N, (label_N + 1) % 3, label_N)
    weight_N = np.where(wrong_N, 0.05, 1.0).astype(np.float32)
    fits = {
        unsure: fit_probe(
            feature_NF, {0: 30}, taught(label_N, weight_N=weight_N), Search(((0,),), (0.1,), unsure=unsure)
        ).logits(feature_NF, {0: 30})
        for unsure in ("weight", "soft", "ignore")
    }
    probability = {name: logits.softmax(dim=1)[np.arange(90), label_N] for name, logits in fits.items()}
    said = {name: float(found[wrong_N].mean()) for name, found in probability.items()}
    assert said["weight"] < 0.35 < said["ignore"]
    assert said["weight"] < said["soft"] < said["ignore"]
    sure = fit_probe(feature_NF, {0: 30}, taught(label_N), Search(((0,),), (0.1,), unsure="ignore"))
    torch.testing.assert_close(fits["ignore"], sure.logits(feature_NF, {0: 30}))


def test_a_feature_that_hardly_varies_is_not_blown_up():
    feature_NF, label_N = blobs()
    feature_NF[:, 29] = 5 + 1e-4 * label_N  # it tells everything, and would not survive another processor
    probe = fit_probe(feature_NF, {0: 30}, taught(label_N), Search(((0,),), (1.0,)))
    shifted = feature_NF.copy()
    shifted[:, 29] += 1e-3
    torch.testing.assert_close(
        probe.logits(shifted, {0: 30}), probe.logits(feature_NF, {0: 30}), atol=0.05, rtol=0
    )


def test_a_rung_is_kept_when_it_is_better_than_chance_would_have_it():
    label_N = np.zeros(100, np.int64)
    ladder = Ladder(label_N, None, errors=1.0)

    def answers(loss_N):
        return np.stack([-loss_N, np.log1p(-np.exp(-loss_N))], axis=1)

    spread_N = np.linspace(-0.1, 0.1, 100)
    assert ladder.offer("probe", answers(np.full(100, 0.5)))
    assert not ladder.offer("worse", answers(np.full(100, 0.6)))
    assert not ladder.offer("hardly", answers(0.499 + spread_N))  # gain 0.001, standard error 0.006
    assert ladder.offer("views", answers(0.48 + spread_N))
    assert ladder.standing.name == "views"
    told = ladder.as_json()
    assert [one["kept"] for one in told] == [True, False, False, True]
    assert told[0]["gain"] is None
    assert told[3]["gain"] == pytest.approx(0.02)
    assert told[3]["error"] == pytest.approx(spread_N.std(ddof=1) / 10)
    assert told[2]["why"] == "val log loss lower by 0.0010, standard error 0.0059"
    assert told[1]["accuracy"] == 1.0


def test_images_of_a_group_count_as_one_draw():
    gain_N = np.array([1.0, 1.0, 1.0, -1.0, -1.0, -1.0, 0.5, 0.5])
    alone = paired_gain(gain_N, None)
    grouped = paired_gain(gain_N, np.array([0, 0, 0, 1, 1, 1, 2, 2]))
    assert alone[0] == grouped[0] == pytest.approx(0.125)
    assert alone[1] == pytest.approx(gain_N.std(ddof=1) / np.sqrt(8))
    assert grouped[1] > 1.5 * alone[1]
    singles = paired_gain(gain_N, np.arange(8))
    assert singles == pytest.approx(alone)
    assert paired_gain(gain_N, np.zeros(8, int)) == (pytest.approx(0.125), 0.0)
