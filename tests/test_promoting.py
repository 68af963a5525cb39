"""May a version become champion: every rule with its sentence, in a table; and equal models, by chance."""

import numpy as np
import pytest

from convflow.evaluation import promoting
from convflow.evaluation.bootstrap import Interval
from convflow.evaluation.deciding import Rule
from convflow.evaluation.metrics import Scored
from convflow.evaluation.promoting import judge, judge_rollback
from convflow.evaluation.rematch import METRICS, Apart, rematch
from convflow.evaluation.sides import Side

OK = Rule("verdict", True, None, None, "fine")
BAD = Rule("better", False, 0.0, 0.0, "worse")
MECHANICS = Rule("answers", True, 0.0, 1e-5, "fine")
BROKEN = Rule("answers", False, 0.5, 1e-5, "differs")
NOT = Rule("classes", None, None, None, "not asked")


@pytest.mark.parametrize(
    ("quality", "mechanics", "forced", "promoted", "sentence"),
    [
        ([OK, NOT], [MECHANICS], False, True, "version 3 is promoted: all 2 rules hold"),
        ([OK, BAD], [MECHANICS], False, False, "version 3 is refused by 1 of 3 rules (better)"),
        (
            [BAD, BAD], [BROKEN], False, False,
            "version 3 is refused by 3 of 3 rules (better, better, answers)",
        ),
        (
            [OK, BAD], [MECHANICS], True, True,
            "version 3 is promoted by force against 1 of 3 rules (better): the fair",
        ),
        (
            [OK], [MECHANICS], True, True,
            "version 3 is promoted: all 2 rules hold; it was to be forced (the fair), which was not needed",
        ),
        (
            [OK, BAD], [BROKEN], True, False,
            "version 3 is refused: answers: what does not load and answer alike cannot be forced",
        ),
    ],
)  # fmt: skip
def test_the_judgement(quality, mechanics, forced, promoted, sentence):
    found = judge("3", quality, mechanics, forced=forced, reason="the fair")
    assert (found.promoted, found.sentence) == (promoted, sentence)


def test_the_judgement_of_a_rollback():
    assert (
        judge_rollback("2", "3", [MECHANICS], " ").sentence == "version 2 is champion again after version 3"
    )
    assert not judge_rollback("2", "3", [BROKEN], "smoke").promoted


def apart(value, low, high, metric="balanced_accuracy"):
    return Apart(metric, 100, 0.9 + value, 0.9, None if low is None else Interval(low, high))


RULES = [
    (
        promoting.verdict("accepted", "all 7 rules hold", None), True,
        "decide says accepted (all 7 rules hold)",
    ),
    (
        promoting.verdict("accepted", "all 7 rules hold", "the leak probe has tripped (x); waived: known"),
        True,
        "decide says accepted (all 7 rules hold); though the leak probe has tripped (x); waived: known",
    ),
    (promoting.verdict("refused", "1 fails", None), False, "decide says refused (1 fails)"),
    (
        promoting.verdict(None, "", None), False,
        "the version bears no verdict; run `convflow repro` to publish it anew",
    ),
    (promoting.evidence([]), True, "the version names its code, data, split, model and predictions"),
    (
        promoting.evidence(["a", "b"]), False,
        "the version lacks a, b; run `convflow repro` to publish it anew",
    ),
    (
        promoting.clean("false", "a" * 40, allow=False), True,
        "published from commit aaaaaaaaaaaa, nothing changed",
    ),
    (
        promoting.clean("true", "a", allow=False), False,
        "published from files that git does not have; commit, then run `convflow repro`, or set "
        "promote.allow_dirty",
    ),
    (
        promoting.clean("true", "a", allow=True), True,
        "published from files that git does not have; promote.allow_dirty lets it pass",
    ),
    (
        promoting.clean("none", "none", allow=False), False,
        "published without git; commit, then run `convflow repro`, or set promote.allow_dirty",
    ),
    (promoting.classes(["a"], None, None), None, "not asked: there is no champion yet"),
    (promoting.classes(["a", "b"], ["a", "b"], "2"), True, "the 2 classes of champion version 2"),
    (
        promoting.classes(["a", "c"], ["a", "b"], "2"), False,
        "other classes than those of champion version 2 (new: c; gone: b)",
    ),
    (
        promoting.classes(["b", "a"], ["a", "b"], "2"), False,
        "other classes than those of champion version 2 (in another order)",
    ),
    (
        promoting.contract(
            {"size_px": 8, "channels": 1, "fit": "pad"}, {"size_px": 9, "channels": 1, "fit": "pad"}, "2"
        ), False,
        "takes 8 px, 1 channel(s), pad; champion version 2 takes 9 px, 1 channel(s), pad",
    ),
    (promoting.common_rows(90, 0, 50, None), True, "both answered 90 test images"),
    (
        promoting.common_rows(40, 60, 50, None), False,
        "both answered 40 test images, 60 left out that one of them had in train or val; "
        "promote.min_rows wants 50",
    ),
    (
        promoting.common_rows(0, 0, 50, "a.png: gone"), False,
        "the two cannot be compared: a.png: gone",
    ),
    (
        promoting.better(apart(0.05, 0.01, 0.09), 0.0, "2"), True,
        "balanced accuracy 0.950 against 0.900 of champion version 2: +5.0 [+1.0, +9.0] points; the "
        "interval has "
        "to lie above 0",
    ),
    (
        promoting.better(apart(0.0, 0.0, 0.0), 0.0, "2"), False,  # a tie
        "balanced accuracy 0.900 against 0.900 of champion version 2: +0.0 [+0.0, +0.0] points; the "
        "interval has "
        "to lie above 0",
    ),
    (
        promoting.better(apart(0.01, -0.01, 0.03), 0.0, "2"), False,
        "balanced accuracy 0.910 against 0.900 of champion version 2: +1.0 [-1.0, +3.0] points; the "
        "interval has "
        "to lie above 0",
    ),
    (
        promoting.better(apart(0.01, -0.01, 0.03), 0.02, "2"), True,
        "balanced accuracy 0.910 against 0.900 of champion version 2: +1.0 [-1.0, +3.0] points; the "
        "interval has "
        "to lie above -2",
    ),
    (
        promoting.better(apart(0.05, None, None), 0.0, "2"), False,
        "balanced accuracy 0.950 against 0.900 of champion version 2: no paired interval (one group "
        "or image)",
    ),
    (
        promoting.better(apart(-0.1, -0.2, -0.05, "log_loss"), 0.0, "2"), True,
        "log loss 0.800 against 0.900 of champion version 2: +0.1000 [+0.0500, +0.2000]; the "
        "interval has to lie "
        "above 0",
    ),
    (
        promoting.no_fall("class", [apart(-0.04, -0.08, -0.01, "a"), apart(0.1, 0, 0.2, "b")], 0.05, 1), True,
        "a (100 images): 0.900 -> 0.860, -4.0 [-8.0, -1.0] points; more than 5 points is refused where the "
        "interval lies below 0",
    ),
    (
        promoting.no_fall("class", [apart(-0.2, -0.5, 0.0, "a")], 0.05, 1), True,  # noise
        "a (100 images): 0.900 -> 0.700, -20.0 [-50.0, +0.0] points; more than 5 points is refused where the "
        "interval lies below 0",
    ),
    (
        promoting.no_fall("class", [apart(-0.3, -0.5, 0, "b"), apart(-0.2, -0.3, -0.1, "a")], 0.05, 1), False,
        "a (100 images): 0.900 -> 0.700, -20.0 [-30.0, -10.0] points; more than 5 points is refused "
        "where the "
        "interval lies below 0",
    ),
    (
        promoting.no_fall("class", [apart(-0.2, None, None, "a")], 0.05, 1), False,
        "a (100 images): 0.900 -> 0.700, -20.0 points; more than 5 points is refused where the interval lies "
        "below 0",
    ),
    (
        promoting.no_fall("slice", [apart(-0.9, -0.9, -0.9, "a")], 0.05, 101), None,
        "not asked: no slice of at least 101 images",
    ),
    (
        promoting.answers(3e-6, 16, 1e-5, None), True,
        "16 images answered in a fresh process, largest difference 3.0e-06; at most 1e-05",
    ),
    (
        promoting.answers(3e-4, 16, 1e-5, None), False,
        "16 images answered in a fresh process, largest difference 3.0e-04; at most 1e-05",
    ),
    (promoting.answers(None, 0, 1e-5, "no file"), False, "the registered model fails: no file"),
    (promoting.at_most("load time", "loads in 70.0 s", 70.0, 60.0), False, "loads in 70.0 s; at most 60"),
    (promoting.at_most("size", "2.0 MB on disk", 2.0, 60.0), True, "2.0 MB on disk; at most 60"),
    (promoting.at_most("size", "", None, 60.0), None, "not measured"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "passed", "sentence"), RULES, ids=range(len(RULES)))
def test_a_rule_says_what_it_found(rule, passed, sentence):
    assert (rule.passed, rule.sentence) == (passed, sentence)


def side(label_N, groups=None, **traits):
    n_images = len(label_N)
    names = [(str(n), "") for n in range(n_images)]
    nothing = np.zeros((n_images, 2))
    return Side(("a", "b"), label_N, nothing, np.ones(n_images), groups or [None] * n_images, names, traits)


def said(label_N, right_N):
    prob_N = np.where(right_N, label_N, 1 - label_N) * 0.8 + 0.1
    return Scored(label_N, np.c_[1 - prob_N, prob_N])


def test_parts_are_compared_pairwise_and_one_group_by_its_images():
    rng = np.random.default_rng(0)
    label_N = np.arange(120) % 2
    groups = [str(n // 30) for n in range(120)]
    theirs_N = rng.random(120) < 0.9
    ours_N = theirs_N.copy()
    ours_N[:30] = False  # a whole group is lost
    found = rematch(
        said(label_N, ours_N), said(label_N, theirs_N), side(label_N, groups), "accuracy", n_draws=400
    )
    assert [part.name for part in found.slices] == ["group 0", "group 1", "group 2", "group 3"]
    lost, *same = found.slices
    assert lost.ours == 0.0
    assert lost.ends.high < -0.7  # one group has images to draw
    assert {(part.value, part.ends) for part in same} == {(0.0, Interval(0.0, 0.0))}
    assert found.metric.value == pytest.approx(-theirs_N[:30].mean() / 4)
    assert sum(part.value * part.n for part in found.classes) == pytest.approx(found.metric.value * 120)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_that_may_be_asked_for_can_be(metric):
    label_N = np.arange(40) % 2
    ours, theirs = said(label_N, np.ones(40, bool)), said(label_N, np.arange(40) % 5 > 0)
    found = rematch(ours, theirs, side(label_N), metric, n_draws=200)
    assert promoting.better(found.metric, 0.0, "2").passed
    back = rematch(theirs, ours, side(label_N), metric, n_draws=200)
    assert not promoting.better(back.metric, 0.0, "2").passed


def promoted(seed, n_groups, gain=0.0):
    """Two models of the same skill but for `gain`, which find the same images hard, on one test set."""
    rng = np.random.default_rng(seed)
    label_N = (rng.random(150) < 0.35).astype(np.int64)
    groups = [str(one) for one in rng.integers(0, n_groups, 150)] if n_groups else None
    hard_N = rng.normal(0, 1, 150)
    ours_N, theirs_N = (hard_N + rng.normal(0, 0.7, 150) < level for level in (1.2 + gain, 1.2))
    at = side(label_N, groups, tag_x=[str(one) for one in rng.integers(0, 3, 150)])
    found = rematch(said(label_N, ours_N), said(label_N, theirs_N), at, "balanced_accuracy", n_draws=200)
    rules = promoting.against(found, "2", metric_margin=0.0, drops=(0.05, 0.1), min_slice=20)
    return all(rule.passed is not False for rule in rules)


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [0, 12])
def test_of_a_thousand_equal_models_one_in_twenty_is_promoted_at_most(n_groups):
    share = np.mean([promoted(seed, n_groups) for seed in range(1_000)])
    print(f"{n_groups} groups: {share:.1%} promoted")
    assert 0 < share <= 0.05


def test_a_better_model_is_promoted_mostly():
    assert np.mean([promoted(seed, 0, gain=1.0) for seed in range(50)]) >= 0.8
