"""Fine-tuning keeps to the time that is left."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convflow.learning import tuner as tuner_module
from convflow.learning.climbing import Skipped
from convflow.learning.pacing import Cost, PerImage, epochs_that_fit, seconds_of
from made_tuning import made_world

SECONDS = st.floats(0, 1e4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made_world(tmp_path_factory.mktemp("world"))


@given(
    wanted=st.integers(1, 50),
    left=SECONDS,
    view=SECONDS,
    views=st.integers(0, 8),
    epoch=SECONDS,
    once=SECONDS,
)
def test_as_many_epochs_as_fit_and_not_one_more(wanted, left, view, views, epoch, once):
    cost = Cost(view, views, epoch, once)
    epochs = epochs_that_fit(wanted, left, cost)
    assert 0 <= epochs <= wanted
    assert epochs == 0 or cost.seconds(epochs) <= left
    assert epochs == wanted or cost.seconds(epochs + 1) > left
    assert epochs_that_fit(wanted, left / 2, cost) <= epochs


@given(below=SECONDS, step=SECONDS, asked=SECONDS, epochs=st.integers(1, 9))
def test_views_that_are_kept_are_computed_once_and_others_in_each_epoch(below, step, asked, epochs):
    each = PerImage(below, step, asked)
    kept = each.cost(30, 10, n_views=4, kept=2)
    anew = each.cost(30, 10, n_views=4, kept=0)
    n_asked = 30 + 40 + epochs * 40  # at the end of all, and val under 4 views after each epoch
    assert kept.seconds(epochs) == pytest.approx(
        (30 * min(epochs, 2) + 40) * below + 30 * epochs * step + n_asked * asked
    )
    assert anew.seconds(epochs) == pytest.approx(
        (30 * epochs + n_asked) * below + 30 * epochs * step + n_asked * asked
    )


def test_the_first_go_is_not_timed(monkeypatch):
    gone = []
    clock = iter([10.0, 16.0])
    monkeypatch.setattr("convflow.learning.pacing.time.perf_counter", lambda: next(clock))
    assert seconds_of(lambda: gone.append(1), torch.device("cpu")) == 2.0
    assert len(gone) == 4


def test_time_that_is_short_is_told_and_kept_to(world, monkeypatch):
    # 24 images of train, 20 of val under 2 views; a second per picture whatever is done with it
    monkeypatch.setattr(tuner_module, "seconds_of", lambda work, device: 8.0)
    once, view, epoch = 40 + 64, 24, 24 + 40
    for left, epochs in (
        (None, 2),
        (1.1 * (once + 2 * (view + epoch)) + 1, 2),
        (1.1 * (once + view + epoch) + 1, 1),
    ):
        tuner = world.tuner(seconds_left=None if left is None else lambda left=left: left)
        tuned = tuner.tune(world.stand)
        assert [len(run) for run in tuned.epochs] == [epochs]
        assert (tuned.spoken or "").startswith("1 of 2 epochs" if epochs == 1 else "")
        assert epochs == 1 or tuned.spoken is None
    tuner = world.tuner(seconds_left=lambda: once + view)
    skipped = tuner.tune(world.stand)
    assert isinstance(skipped, Skipped)
    assert "min" not in skipped.why
    assert "0 of 2 epochs, which take 4.7 min; 2.1 min are left" in skipped.spoken
    assert isinstance(tuner.soup(world.stand), Skipped)


def test_a_soup_takes_as_many_runs_as_fit(world):
    left = iter([1e9, 1e9, 0.0])  # enough for the pace and one more run
    tuner = world.tuner(runs=4, seconds_left=lambda: next(left))
    tuner.tune(world.stand)
    soup = tuner.soup(world.stand)
    assert len(tuner.runs) == 2
    assert soup.spoken.startswith("2 of 4 runs; a run takes 0.")
    left = iter([1e9, 0.0])
    tuner = world.tuner(seconds_left=lambda: next(left))
    tuner.tune(world.stand)
    assert tuner.soup(world.stand) == Skipped("soup", *["1 of 2 runs would end in time"] * 2)


def test_what_is_measured_leaves_no_trace_in_the_weights(world):
    free, timed = (world.tuner(seconds_left=left).tune(world.stand) for left in (None, lambda: 1e9))
    assert all(torch.equal(free.weights[name], timed.weights[name]) for name in free.weights)
