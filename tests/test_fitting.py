"""The training loop: what it computes against plain torch, how it stops, and going on after a stop."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convflow.errors import TrainingError
from convflow.learning import devices
from convflow.learning.augment import Augment
from convflow.learning.checkpoints import checkpoint_folder, load_state, save_state
from convflow.learning.devices import make_accelerator
from convflow.learning.fitting import Trainer, evaluate, lr_share
from convflow.nets.registry import Classifier, build
from made_packed import SIDE, batches, pictures, recipe, trainer

AUGMENT = Augment("both", rotate_degrees=5, shift=0.05, brightness=10)


def linear(n_classes=2, *, seed=0):
    """A net without batch norm, whose steps can be checked by hand."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, n_classes))
    return Classifier(net, torch.tensor([127.0]), torch.tensor([60.0]))


def residual(*, seed=0):
    torch.manual_seed(seed)
    return build("residual", 2, 1, SIDE, {"width": 4, "dropout": 0.3})


def fit(one, saved=None, on_epoch=lambda progress: None):
    return one.fit(on_epoch, lambda n: None, saved)


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_a_model_that_knows_nothing_has_loss_ln_k_and_the_share_of_its_guess():
    image, label = pictures(21, n_classes=3)
    model = linear(3)
    nn.init.zeros_(model.net[1].weight)
    nn.init.zeros_(model.net[1].bias)
    assert evaluate(model, batches(image, label), batch_size=4) == pytest.approx((math.log(3), 1 / 3))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7, 100])
def test_evaluation_does_not_depend_on_the_batches_or_the_weights(batch_size):
    image, label = pictures(21)
    model, data = residual(), batches(image, label, np.linspace(0.1, 1, 21))
    found = evaluate(model, data, batch_size=batch_size)
    logits_NK = model(torch.from_numpy(image).permute(0, 3, 1, 2)).detach()
    label_N = torch.from_numpy(label)
    expected = (
        F.cross_entropy(logits_NK, label_N).item(),
        (logits_NK.argmax(1) == label_N).float().mean().item(),
    )
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_can_be_learned_is_learned_to_the_last_image(precision):
    image, label = pictures(48)
    held_out = pictures(16, seed=9)
    one = trainer(
        residual(), batches(image, label), batches(*held_out), augment=Augment(brightness=5),
        epochs=8, precision=precision,
    )  # fmt: skip
    history = fit(one).history
    assert [epoch.epoch for epoch in history] == list(range(1, 9))
    assert history[-1].val_accuracy == 1.0
    assert history[-1].val_loss < history[0].val_loss
    assert all(math.isfinite(value) for epoch in history for value in vars(epoch).values())


def test_one_step_is_the_step_of_plain_torch():
    image, label = pictures(8)
    model, peer = linear(), linear()
    fit(trainer(model, batches(image, label), epochs=1, schedule="cosine", lr=0.003, label_smoothing=0.1))
    groups = [
        {"params": [peer.net[1].weight], "weight_decay": 0.05},
        {"params": [peer.net[1].bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.003)
    logits_BK = peer(torch.from_numpy(image).permute(0, 3, 1, 2))
    F.cross_entropy(logits_BK, torch.from_numpy(label), label_smoothing=0.1).backward()
    optimizer.step()
    for name, tensor in peer.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)


def test_the_training_loss_and_its_gradient_are_torchs_smoothed_weighted_mean():
    image, label = pictures(8)
    weight = np.linspace(0.2, 1, 8)
    model = linear()
    logits_BK = model(torch.from_numpy(image).permute(0, 3, 1, 2))
    loss_B = F.cross_entropy(logits_BK, torch.from_numpy(label), reduction="none", label_smoothing=0.2)
    hit_B = (logits_BK.argmax(1) == torch.from_numpy(label)).numpy()
    share_B = torch.from_numpy(weight / weight.sum()).float()
    (gradient,) = torch.autograd.grad((loss_B * share_B).sum(), model.net[1].weight)
    (epoch,) = fit(trainer(model, batches(image, label, weight), epochs=1, label_smoothing=0.2)).history
    torch.testing.assert_close(model.net[1].weight.grad, gradient, atol=1e-6, rtol=1e-5)
    assert epoch.train_loss == pytest.approx(np.average(loss_B.detach().numpy(), weights=weight), rel=1e-5)
    assert epoch.train_accuracy == pytest.approx(np.average(hit_B, weights=weight), rel=1e-5)


def test_weight_two_is_the_image_twice_and_next_to_nothing_is_not_at_all():
    image, label = pictures(6)
    twice = np.array([0, 1, 2, 3, 3, 4, 5])
    for weight, rows in (
        (np.array([1, 1, 1, 2, 1, 1]), twice),
        (np.array([1, 1, 1, 1e-12, 1, 1]), np.delete(np.arange(6), 3)),
    ):
        weighted, repeated = linear(), linear()
        fit(trainer(weighted, batches(image, label, weight), epochs=2))
        fit(trainer(repeated, batches(image[rows], label[rows]), epochs=2))
        for name, tensor in repeated.state_dict().items():
            torch.testing.assert_close(weighted.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)


def test_matrices_decay_and_biases_and_normalisation_do_not():
    model = residual()
    decayed, plain = trainer(model, batches(*pictures(8)), weight_decay=0.2).optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in plain["params"]} == {1}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_cosine_is_torchs_and_one_cycle_rises_for_a_fifth_then_falls_to_nothing():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    peer = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        assert lr_share(step / 10, "cosine") == pytest.approx(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    shares = [lr_share(step / 100, "one_cycle") for step in range(101)]
    assert (shares[0], shares[20]) == (pytest.approx(0.04), pytest.approx(1.0))
    assert shares[100] == pytest.approx(0.0, abs=1e-12)
    assert all(np.diff(shares[:21]) > 0)
    assert all(np.diff(shares[20:]) < 0)


def test_the_learning_rate_follows_the_schedule_over_all_steps():
    found = fit(trainer(linear(), batches(*pictures(17)), epochs=4, batch_size=8, lr=0.5)).history
    # 17 images are two steps of 8 and 9; an epoch's line has the rate of its last step
    expected = [0.5 * lr_share((2 * epoch - 1) / 8, "one_cycle") for epoch in range(1, 5)]
    assert [epoch.lr for epoch in found] == pytest.approx(expected)


def test_every_image_is_trained_on_and_told_of_even_one_left_over():
    told = []
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(SIDE * SIDE), nn.Linear(SIDE * SIDE, 2))
    model = Classifier(net, torch.zeros(1), torch.ones(1))
    trainer(model, batches(*pictures(17)), epochs=2).fit(lambda progress: None, told.append, None)
    assert told == [8, 9, 8, 9]


def test_training_stops_after_patience_epochs_without_a_lower_loss():
    one = trainer(linear(), batches(*pictures(8)), epochs=9, lr=1e-30, patience=2)
    progress = fit(one)
    assert (len(progress.history), progress.best.epoch) == (3, 1)
    assert len(fit(trainer(linear(), batches(*pictures(8)), epochs=5, lr=1e-30)).history) == 5


def test_a_stale_training_does_not_go_on_when_resumed():
    stale = fit(trainer(linear(), batches(*pictures(8)), epochs=9, lr=1e-30, patience=2))
    again = fit(trainer(linear(), batches(*pictures(8)), epochs=9, lr=1e-30, patience=2), stale.state)
    assert again.history == stale.history
    assert_same(again.state["best"], stale.state["best"])


def test_the_weights_kept_are_those_of_the_best_epoch_not_of_the_last():
    image, label = pictures(16)
    opposite = batches(image, 1 - label)  # what training learns is wrong here, more so each epoch
    model = residual()
    progress = fit(trainer(model, batches(image, label), opposite, epochs=5))
    assert progress.best.epoch < 5
    last = evaluate(model, opposite, batch_size=32)
    assert last == pytest.approx((progress.history[-1].val_loss, progress.history[-1].val_accuracy))
    model.load_state_dict(progress.state["best"])
    kept = evaluate(model, opposite, batch_size=32)
    assert kept == pytest.approx((progress.best.val_loss, progress.best.val_accuracy))
    assert kept[0] < last[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_epoch_and_the_remedy():
    wanted = (
        r"^train: the loss is not finite in epoch \d, step \d+ .*lower train.lr \(1e\+30\) or set .*fp32$"
    )
    with pytest.raises(TrainingError, match=wanted):
        fit(trainer(residual(), batches(*pictures(16)), lr=1e30))


def test_weights_that_break_in_the_last_step_are_noticed_by_validation():
    image, label = pictures(8)
    with pytest.raises(TrainingError, match=r"epoch 1, in validation \(train \d\.\d+, val nan"):
        fit(trainer(linear(), batches(image, label), epochs=1, lr=math.inf, schedule="cosine"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_from_scratch_are_the_same_to_the_bit(precision):
    runs = [_run(precision=precision)[0] for _ in range(2)]
    assert runs[0].history == runs[1].history
    assert_same(runs[0].state["best"], runs[1].state["best"])
    other, _ = _run(precision=precision, seed=4)
    assert other.history != runs[0].history


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_going_on_after_any_epoch_ends_as_the_unbroken_run_to_the_bit(tmp_path, precision):
    folders = [tmp_path / str(epoch) for epoch in range(1, 4)]

    def save(progress):
        folder = folders[len(progress.history) - 1]
        folder.mkdir()
        save_state(folder, progress.state)

    whole, model = _run(precision=precision, on_epoch=save)
    for folder in folders:
        resumed, other = _run(precision=precision, saved=load_state(folder), init_seed=99)
        assert resumed.history == whole.history
        assert_same(resumed.state["best"], whole.state["best"])
        assert_same(other.state_dict(), model.state_dict())


def _run(*, precision, saved=None, on_epoch=lambda progress: None, init_seed=0, seed=3):
    model = residual(seed=init_seed)
    one = trainer(
        model, batches(*pictures(21)), batches(*pictures(9, seed=1)), augment=AUGMENT,
        precision=precision, seed=seed,
    )  # fmt: skip
    return fit(one, saved, on_epoch), model


def test_images_from_disk_train_as_those_from_memory():
    found = []
    for resident in (True, False):
        data = batches(*pictures(21), resident=resident)
        found.append(fit(trainer(residual(), data, augment=AUGMENT)))
    assert found[0].history == found[1].history


def test_one_process_may_train_in_one_precision_after_another():
    first = trainer(residual(), batches(*pictures(8)), precision="fp32", epochs=1)
    second = trainer(residual(), batches(*pictures(8)), precision="bf16", epochs=1)
    assert [fit(one).history[0].epoch for one in (first, second, first)] == [1, 1, 1]
    half, whole = (one.model(torch.zeros(1, 1, SIDE, SIDE)) for one in (second, first))
    assert half.dtype == whole.dtype == torch.float32
    assert not torch.equal(half, whole)


def test_the_gradient_scale_is_saved_and_comes_back():
    image, label = pictures(8)
    ones = []
    for _ in range(2):
        accelerator = make_accelerator("cpu", "fp32")
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        data = batches(image, label)
        ones.append(Trainer(linear(), data, data, recipe(epochs=1), Augment(), accelerator))
    state = fit(ones[0]).state
    state["scaler"]["scale"] = 2.0
    fit(ones[1], state)
    assert ones[1].accelerator.scaler.get_scale() == 2.0


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "Accelerator", lambda **_: type("Two", (), {"num_processes": 2}))
    with pytest.raises(TrainingError, match=r"^train: started in 2 processes; it runs in one$"):
        make_accelerator("cpu", "fp32")


def test_the_best_of_equals_is_the_first():
    progress = fit(trainer(linear(), batches(*pictures(8)), epochs=2))
    line = progress.history[0]
    progress.history[:] = [
        replace(line, epoch=n, val_loss=loss) for n, loss in ((1, 2.0), (2, 1.0), (3, 1.0))
    ]
    assert progress.best.epoch == 2


def test_only_the_asked_checkpoint_is_kept_and_only_a_whole_one_is_read(tmp_path):
    old = checkpoint_folder(tmp_path, "a" * 64)
    save_state(old, {"history": [], "tensor": torch.ones(1000)})
    assert load_state(old)["tensor"].sum() == 1000
    assert checkpoint_folder(tmp_path, "a" * 64) == old
    data = (old / "state.pt").read_bytes()
    for broken in (b"", b"no checkpoint", data[:100], data[: len(data) // 2], data[:-1]):
        (old / "state.pt").write_bytes(broken)
        assert load_state(old) is None
    new = checkpoint_folder(tmp_path, "b" * 64)
    assert (load_state(new), old.exists()) == (None, False)
