"""What fine-tuning changes, what it must leave, and where it begins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convflow.errors import TrainingError
from convflow.learning import tuner as tuner_module
from convflow.learning.activations import Below, Fresh, Kept, Pictures, turned_over
from convflow.learning.assembling import ask, assemble
from convflow.learning.augment import Augment
from convflow.learning.climbing import Side
from convflow.learning.devices import make_accelerator
from convflow.learning.fitting import Sums
from convflow.learning.probing import figures_of
from convflow.learning.tuning import Average, Learner, answers, fit, soup_of, training_precision, weights_of
from convflow.learning.unfreezing import n_open
from convflow.nets.backbones import VIEWS, views_of
from made_tuning import VIEWED, made_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made_world(tmp_path_factory.mktemp("world"))


def begun(world, **changed):
    """A tuner's lesson and the network it would train, nothing done yet."""
    tuner = world.tuner(**changed)
    return tuner._prepared(world.stand)[1], tuner._upper(world.stand, fresh=tuner._tuning.method != "lp_ft")


def learner_of(world, lesson, upper, **changed):
    tuning = world.tuner(**changed)._tuning
    optimizer = torch.optim.AdamW(upper.groups(tuning.decay, tuning.weight_decay), lr=tuning.lr)
    return Learner(make_accelerator("cpu", "fp32"), upper, optimizer, lesson, tuning)


def stepped(world, lesson, upper, rows):
    index = np.asarray(rows)
    sums = Sums(torch.device("cpu"))
    upper.train()
    learner_of(world, lesson, upper).step(*lesson.train.batch(0, index, None), torch.from_numpy(index), sums)
    return sums


def test_gradients_reach_the_last_stages_and_the_head_and_nothing_else(world):
    lesson, upper = begun(world, blocks=2)
    stepped(world, lesson, upper, range(8))
    last = len(upper.net.trunk.stages) - 1
    reached = {name for name, parameter in upper.net.named_parameters() if parameter.grad is not None}
    assert reached == set(upper.trained)
    assert {name.split(".")[2] for name in reached if name.startswith("trunk")} == {str(last - 1), str(last)}
    assert all(bool(dict(upper.net.named_parameters())[name].grad.any()) for name in reached)


@pytest.mark.parametrize("blocks", [2, None])
def test_statistics_of_batch_norms_and_what_lies_below_stay_as_they_were(world, blocks):
    before = {name: tensor.clone() for name, tensor in world.trunk.state_dict().items()}
    tuner = world.tuner(blocks=blocks)
    tuned = tuner.tune(world.stand)
    assert all(torch.equal(tensor, before[name]) for name, tensor in world.trunk.state_dict().items())
    after = assemble(world.trunk, replace(world.stand, tuned=tuned.weights), 1, VIEWED).net.trunk.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert not any("running" in name or "num_batches" in name for name in changed)
    first = 0 if blocks is None else len(world.trunk.stages) - blocks
    assert {int(name.split(".")[1]) for name in changed} == set(range(first, len(world.trunk.stages)))


def test_batch_norms_stand_still_while_dropout_wakes(world):
    upper = begun(world)[1]
    upper.net.trunk.stages[-1].append_dropout = nn.Dropout()
    upper.train()
    norms = [module for module in upper.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert upper.net.trunk.stages[-1].append_dropout.training
    assert not upper.net.trunk.stages[0].training


@pytest.mark.parametrize("blocks", [1, 2, None])
@pytest.mark.parametrize("all_views", [True, False])
def test_lp_ft_begins_where_the_probe_stands(world, blocks, all_views):
    stand = replace(world.stand, all_views=all_views)
    tuner = world.tuner(blocks=blocks)
    lesson = tuner._prepared(stand)[1]
    expected = stand.logits(world.sides[1], world.widths)
    found = answers(tuner._upper(stand), lesson.val, lesson.n_views)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_after_steps_of_no_size_the_loss_is_the_probes_and_a_fresh_heads_is_not(world):
    probe_loss = figures_of(
        world.stand.logits(world.sides[1], world.widths), torch.from_numpy(world.sides[1].taught.label_N)
    )[0]
    losses = {
        method: world.tuner(lr=1e-12, epochs=1, method=method).tune(world.stand).epochs[0][0].val_loss
        for method in ("lp_ft", "plain", "gradual")
    }
    assert losses["lp_ft"] == pytest.approx(probe_loss, abs=1e-3)
    assert abs(losses["plain"] - probe_loss) > 0.01
    assert losses["gradual"] == losses["plain"]


def test_what_is_kept_of_the_stages_below_serves_as_well_as_asking_them_anew(world):
    tuner = world.tuner(blocks=2)
    below, lesson = tuner._prepared(world.stand)
    assert isinstance(lesson.train, Kept)
    anew = Fresh(below, Pictures(world.sides[0].image_NSSC), lesson.train.view_NV, Augment())
    index_B = np.array([5, 0, 17])
    for turn in (0, 1, 2):
        for kept, fresh in zip(
            lesson.train.batch(turn, index_B, None), anew.batch(turn, index_B, None), strict=True
        ):
            assert kept.shape == fresh.shape
            torch.testing.assert_close(kept, fresh, atol=2e-3, rtol=1e-3)
    x = anew.batch(0, index_B, None)[0]
    assert torch.equal(x, x.half().float())  # how much disk is free changes no weight
    uppers = [tuner._upper(world.stand) for _ in range(2)]
    for upper, feed in zip(uppers, (lesson.train, anew), strict=True):
        stepped(world, replace(lesson, train=feed), upper, range(8))
    gradients = [
        torch.cat([parameter.grad.flatten() for parameter in upper.trained.values()]) for upper in uppers
    ]
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 5e-3


def test_each_epoch_sees_another_view_and_none_twice_before_all_were_seen(world):
    view_NV = begun(world)[0].train.view_NV
    assert (np.sort(view_NV, axis=1) == np.array(VIEWS[VIEWED])).all()
    assert len(np.unique(view_NV[:, 0])) == 2  # not the same one for all pictures


@given(side=st.integers(2, 5), seed=st.integers(0, 99), n_images=st.integers(1, 9))
def test_a_picture_under_its_view_is_the_one_that_prediction_averages(side, seed, n_images):
    generator = torch.Generator().manual_seed(seed)
    image_BCSS = torch.rand(n_images, 2, side, side, generator=generator)
    view_B = torch.randint(8, (n_images,), generator=generator)
    seen = torch.stack(list(views_of(image_BCSS, "dihedral")))
    assert torch.equal(turned_over(image_BCSS, view_B), seen[view_B, torch.arange(n_images)])


def test_a_seed_gives_the_same_weights_bit_for_bit_and_another_one_others(world):
    first, again, other = (world.tuner(seed=seed).tune(world.stand).weights for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_rows_of_all_images_are_as_good_as_arrays_of_their_own(world):
    together = [
        np.concatenate([getattr(side, name) for side in world.sides])
        for name in ("feature_NVF", "image_NSSC")
    ]
    n_train, n_val = (len(side.taught.label_N) for side in world.sides)
    rows = np.arange(n_train), np.arange(n_train, n_train + n_val)
    sides = tuple(
        Side(together[0], side.taught, together[1], row_N)
        for side, row_N in zip(world.sides, rows, strict=True)
    )
    for whole, part in zip(world.sides, sides, strict=True):
        for all_views in (True, False):
            assert np.array_equal(whole.seen(all_views=all_views), part.seen(all_views=all_views))
    found, expected = (world.tuner(sides=given).tune(world.stand) for given in (sides, world.sides))
    assert torch.equal(found.val_NK, expected.val_NK)


def test_the_assembled_network_answers_as_the_tuner_said(world):
    tuned = world.tuner().tune(world.stand)
    network = assemble(world.trunk, replace(world.stand, tuned=tuned.weights, temperature=2.0), 1, VIEWED)
    prob_NK = ask(network, Pictures(world.sides[1].image_NSSC), "cpu")
    expected = (tuned.val_NK / 2).softmax(dim=1).numpy()
    np.testing.assert_allclose(prob_NK, expected, atol=1e-3)
    with pytest.raises(ValueError, match="features of a frozen trunk asked for a tuned one; use assemble"):
        replace(world.stand, tuned=tuned.weights).logits(world.sides[1], world.widths)


def test_training_lowers_the_loss_on_train(world):
    stand, label_N = world.stand, torch.from_numpy(world.sides[0].taught.label_N)
    before = figures_of(stand.logits(world.sides[0], world.widths), label_N)[0]
    for blocks in (2, None):
        after = figures_of(world.tuner(epochs=8, lr=3e-3, blocks=blocks).tune(stand).train_NK, label_N)[0]
        assert after < 0.8 * before


def test_an_unsure_image_counts_for_its_weight_and_softly_where_asked(tmp_path):
    world = made_world(tmp_path, weight=0.25)
    lessons = {unsure: begun(world, unsure=unsure)[0] for unsure in ("weight", "soft", "ignore")}
    assert lessons["weight"].weight_N[:3].tolist() == [0.25, 1.0, 1.0]
    assert lessons["soft"].target_NK[0].tolist() == [0.625, 0.375]
    assert lessons["ignore"].weight_N.unique().tolist() == [1.0]
    lesson, upper = begun(world)
    sums = stepped(world, lesson, upper, [0, 1])
    upper_logits = begun(world)[1].eval()(*lesson.train.batch(0, np.array([0, 1]), None))
    loss_B = nn.functional.cross_entropy(upper_logits, lesson.label_N[:2], reduction="none").detach()
    assert sums.means()[0] == pytest.approx(float((0.25 * loss_B[0] + loss_B[1]) / 1.25), rel=1e-4)


def test_a_stage_learns_more_slowly_than_the_one_above(world):
    upper = begun(world)[1]
    shares = {}
    for group in upper.groups(0.5, 0.01):
        for parameter in group["params"]:
            name = next(name for name, one in upper.trained.items() if one is parameter)
            shares[name] = group["share"]
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)
    assert shares.keys() == upper.trained.keys()
    last = len(upper.net.trunk.stages) - 1
    assert {share for name, share in shares.items() if f"stages.{last}." in name} == {0.5}
    assert {share for name, share in shares.items() if f"stages.{last - 1}." in name} == {0.25}
    assert shares["head.linear.weight"] == 1.0


@given(epochs=st.integers(1, 30), n_stages=st.integers(1, 12))
def test_gradual_thawing_begins_with_the_head_and_ends_with_all(epochs, n_stages):
    opened = [n_open("gradual", epoch, epochs, n_stages) for epoch in range(1, epochs + 1)]
    assert opened[0] == 0
    assert opened == sorted(opened)
    assert opened[-1] == n_stages or epochs == 1
    assert n_open("lp_ft", 1, epochs, n_stages) == n_stages


def test_while_stages_are_frozen_they_stay_as_they_were(world):
    tuned = world.tuner(method="gradual", epochs=1).tune(world.stand)  # the head alone
    before = world.trunk.state_dict()
    for name, tensor in tuned.weights.items():
        if name.startswith("trunk."):
            assert torch.equal(tensor, before[name.removeprefix("trunk.")])


@settings(max_examples=20)
@given(copies=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_soup_of_equal_runs_is_that_run(copies, seed):
    weights = {"a": torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) * 10}
    assert torch.equal(soup_of([weights] * copies)["a"], weights["a"])


def test_a_soup_is_the_mean_of_runs_with_seeds_of_their_own(world):
    tuner = world.tuner(runs=3)
    alone = tuner.tune(world.stand)
    soup = tuner.soup(world.stand)
    assert len(tuner.runs) == 3
    assert [len(run) for run in soup.epochs] == [2, 2]  # those made for it
    name = "head.linear.weight"
    each = torch.stack([run.weights[name] for run in tuner.runs])
    torch.testing.assert_close(soup.weights[name], each.mean(dim=0))
    assert torch.equal(alone.weights[name], each[0])
    assert not torch.equal(each[0], each[1])


def test_the_best_epochs_weights_are_kept(world):
    train, val = world.sides
    swapped = replace(
        val, taught=replace(val.taught, label_N=1 - val.taught.label_N)
    )  # worse with each epoch
    tuned = world.tuner(epochs=4, lr=3e-3, sides=(train, swapped)).tune(world.stand)
    losses = [epoch.val_loss for epoch in tuned.epochs[0]]
    assert losses == sorted(losses)
    assert losses[3] > losses[0] + 0.01
    found = figures_of(tuned.val_NK, torch.from_numpy(swapped.taught.label_N))[0]
    assert found == pytest.approx(losses[0], abs=1e-4)


@pytest.mark.parametrize(("ema", "shares"), [(0.0, [1, 1]), (0.999, [9 / 11, 9 / 12]), (0.2, [9 / 11, 0.8])])
def test_the_average_forgets_the_first_steps_whatever_its_memory(ema, shares):
    average = Average(torch.nn.Linear(1, 1, bias=False), ema)
    step = torch.nn.Linear(1, 1, bias=False)
    expected = 3.0  # the first counts alone
    for value, share in zip((3.0, 7.0, -5.0), (1, *shares), strict=True):
        torch.nn.init.constant_(step.weight, value)
        average.update(step)
        expected += share * (value - expected)
        assert average.upper.weight.item() == pytest.approx(expected)


def test_with_no_memory_the_last_step_is_kept_and_with_some_it_is_not(world):
    for ema, same in ((0.0, True), (0.9, False)):
        lesson, upper = begun(world, ema=ema)
        tuning = world.tuner(ema=ema)._tuning
        run = fit(upper, lesson, tuning, make_accelerator("cpu", "fp32"), epochs=1, number=0)
        name = "head.linear.weight"
        assert torch.equal(run.weights[name], weights_of(upper)[name]) == same


@pytest.mark.parametrize("blocks", [2, None])
def test_a_loss_that_is_not_finite_stops_with_the_step_named(world, blocks):
    with pytest.raises(
        TrainingError,
        match=r"finetune.tune: the loss is not finite in epoch 1, step [23] .*lower finetune.tune.lr",
    ):
        world.tuner(lr=1e38, blocks=blocks).tune(world.stand)


def test_what_half_precision_cannot_hold_is_refused(world, tmp_path):
    loud = made_world(tmp_path)
    for parameter in loud.trunk.stages[len(loud.trunk.stages) - 3].parameters():
        parameter.mul_(1e9)
    with pytest.raises(
        TrainingError, match=r"finetune.tune.blocks: what enters stage .* is too large for half"
    ):
        loud.tuner(blocks=2).tune(loud.stand)


def test_without_room_on_the_disk_pictures_are_looked_at_anew(world, monkeypatch):
    expected = world.tuner().tune(world.stand)
    monkeypatch.setattr(tuner_module, "has_room", lambda folder, n_bytes: False)
    tuner = world.tuner()
    found = tuner.tune(world.stand)
    assert isinstance(tuner._prepared(world.stand)[1].train, Fresh)
    torch.testing.assert_close(found.val_NK, expected.val_NK, atol=0.02, rtol=0.02)


def test_nothing_is_left_on_the_disk(tmp_path):
    world = made_world(tmp_path / "work")
    world.tuner().tune(world.stand)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_side_without_pictures_cannot_be_tuned_on(world):
    sides = tuple(replace(side, image_NSSC=None) for side in world.sides)
    with pytest.raises(ValueError, match="a side without pictures cannot be tuned on"):
        world.tuner(sides=sides).tune(world.stand)


def test_stages_below_give_what_the_whole_trunk_would(world):
    depths = list(world.stand.probe.depths)
    below = Below(world.trunk, depths, 2, "fp32", torch.device("cpu"))
    image = torch.from_numpy(world.sides[0].image_NSSC[:3]).permute(0, 3, 1, 2)
    x, below_BF = below(image, np.zeros(3, np.int64))
    with torch.no_grad():
        _, late = world.trunk.through(x, depths, 2, len(world.trunk.stages))
        expected = world.trunk(world.trunk.prepare(image), depths)
    torch.testing.assert_close(torch.cat([below_BF, *late], dim=1), expected, atol=1e-4, rtol=1e-4)


def test_bf16_where_the_processor_has_it_ends_near_fp32(world):
    exact, rough = (world.tuner(precision=name).tune(world.stand).val_NK for name in ("fp32", "bf16"))
    torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.1)


def test_on_a_cpu_training_is_in_fp32_unless_asked_otherwise(monkeypatch):
    assert training_precision("auto", "cpu") == "fp32"
    assert training_precision("bf16", "cpu") == "bf16"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert training_precision("auto", "cuda") == "bf16"
    with pytest.raises(TrainingError, match=r"^finetune.tune.precision: fp16 needs a GPU; set it to auto"):
        training_precision("fp16", "cpu")
