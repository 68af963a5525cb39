"""Which rungs are kept, in which order, and while there is time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from convflow.learning import climbing
from convflow.learning.climbing import Plan, Side, Skipped, Tuned, climb
from convflow.learning.fitting import Epoch
from convflow.learning.probing import Search, Taught


def side(seed, *, shift=0.0):
    """Two views of two classes; each view alone is noisier than their mean."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(80) % 2
    feature_NVF = rng.normal(size=(80, 2, 4)).astype(np.float32) * 2
    feature_NVF[..., 0] += label_N[:, None] * 2 + shift
    return Side(feature_NVF, Taught(label_N, np.ones(80, np.float32), None, 2))


PLAN = Plan(("probe", "views", "temperature"), Search(((0,),), (0.01, 0.1, 1.0)), 1.0)


def clock(*, limit):
    """Each look at it takes a second."""
    seconds = iter(range(100))

    def look():
        now = next(seconds)
        return float(now), now < limit

    return look


def test_views_help_where_each_alone_is_noisy_and_a_temperature_not_where_none_is_needed():
    climbed = climb(side(0), side(1), {0: 4}, PLAN, in_time=clock(limit=99))
    kept = {rung.name: rung.kept for rung in climbed.ladder.rungs}
    assert kept == {"probe": True, "views": True, "temperature": False}
    assert climbed.stand.all_views
    assert climbed.stand.temperature == 1.0


def test_a_head_that_is_too_sure_is_cooled_down(monkeypatch):
    fitted = climbing.fit_probe

    def too_sure(*arguments):
        probe = fitted(*arguments)
        probe.weight_FK.mul_(8)
        probe.bias_K.mul_(8)
        return probe

    monkeypatch.setattr(climbing, "fit_probe", too_sure)
    climbed = climb(side(0), side(1), {0: 4}, PLAN, in_time=clock(limit=99))
    assert climbed.stand.temperature == pytest.approx(8, rel=0.5)
    assert climbed.ladder.standing.name == "temperature"


def test_no_rung_begins_when_the_time_is_up_but_one_always_ends():
    climbed = climb(side(0), side(1), {0: 4}, PLAN, in_time=clock(limit=2))
    assert [rung.name for rung in climbed.ladder.rungs] == ["probe", "views"]
    climbed = climb(side(0), side(1), {0: 4}, PLAN, in_time=clock(limit=0))
    assert [rung.name for rung in climbed.ladder.rungs] == ["probe"]
    assert [note.seconds for note in climbed.notes] == [0.0]


class Stub:
    """A tuner whose answers are known: the head's logits, sharpened."""

    def __init__(self, sides, *, sharper=2.0, skip=()):
        self.sides, self.sharper, self.skip, self.stands = sides, sharper, skip, []

    def tune(self, stand):
        self.stands.append(stand)
        if "tune" in self.skip:
            return Skipped("tune", "no time", "no time: 3 min")
        head = replace(stand, tuned=None)
        logits = [self.sharper * head.logits(side, {0: 4}) for side in self.sides]
        return Tuned({"head.linear.weight": torch.zeros(1)}, *logits, [[Epoch(1, 0.1, 0.5, 0.5, 0.5, 0.5)]])

    soup = tune


def wary():
    """A plan whose head is far too cautious."""
    return Plan(("probe", "tune", "soup", "temperature"), Search(((0,),), (0.01,)), 0.0)


def test_a_tuned_rung_that_helps_is_kept_and_the_temperature_works_on_it():
    sides = side(0), side(1)
    tuner = Stub(sides)
    climbed = climb(*sides, {0: 4}, wary(), in_time=clock(limit=99), tuner=tuner)
    kept = {rung.name: rung.kept for rung in climbed.ladder.rungs}
    assert kept == {"probe": True, "tune": True, "soup": False, "temperature": True}
    assert climbed.stand.tuned is not None
    assert [stand.tuned is None for stand in tuner.stands] == [True, False]
    frozen = climb(
        *sides, {0: 4}, Plan(("probe", "temperature"), wary().search, 1.0), in_time=clock(limit=99)
    )
    assert climbed.stand.temperature == pytest.approx(2 * frozen.stand.temperature, rel=1e-3)
    assert climbed.ladder.standing.loss == pytest.approx(frozen.ladder.standing.loss, rel=1e-6)


def test_a_tuned_rung_that_hurts_is_left_out_and_the_frozen_one_stands():
    sides = side(0), side(1)
    climbed = climb(*sides, {0: 4}, wary(), in_time=clock(limit=99), tuner=Stub(sides, sharper=-3.0))
    assert [rung.kept for rung in climbed.ladder.rungs] == [True, False, False, True]
    assert climbed.stand.tuned is None
    assert climbed.stand.logits(sides[1], {0: 4}).shape == (80, 2)


def test_rungs_that_were_not_tried_are_told_without_minutes_and_with_them():
    sides = side(0), side(1)
    tuner = Stub(sides, skip=("tune",))
    climbed = climb(*sides, {0: 4}, wary(), in_time=clock(limit=3), tuner=tuner)
    assert [rung.name for rung in climbed.ladder.rungs] == ["probe"]
    assert [(one.name, one.why, one.spoken) for one in climbed.skipped] == [
        ("tune", "no time", "no time: 3 min"),
        ("tune", "no time", "no time: 3 min"),  # the stand-in calls its soup so, too
        ("temperature", *["no time was left for it"] * 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rungs", "match"),
    [(("probe", "tune"), "tune needs a tuner"), (("tune",), "tune needs a head"), ((), "no rung was asked")],
)
def test_a_ladder_without_what_it_needs_is_a_mistake_of_the_caller(rungs, match):
    with pytest.raises(ValueError, match=match):
        climb(side(0), side(1), {0: 4}, replace(PLAN, rungs=rungs), in_time=clock(limit=99))
