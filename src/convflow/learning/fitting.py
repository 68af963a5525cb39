"""The training loop, in sight: sums divided once, one wait for the device per epoch, a stop on NaN.

Shape letters: B images of a batch, N images, K classes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from convflow.errors import TrainingError
from convflow.learning.augment import Augment
from convflow.learning.batches import Batches

State = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the training images, at most.
        batch_size: images per step.
        lr: highest learning rate.
        weight_decay: decoupled (AdamW, Loshchilov & Hutter 2019), on matrices and kernels only.
        schedule: `one_cycle` (Smith 2018: up for a fifth of the steps, then down) or `cosine` (down at once).
        label_smoothing: 0..1.
        patience: stop after this many epochs without a lower validation loss; 0 never stops early.
        seed: of initialisation, order and augmentation.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: Literal["one_cycle", "cosine"]
    label_smoothing: float
    patience: int
    seed: int


@dataclass(frozen=True)
class Epoch:
    """One line of the history; every number is finite.

    Attributes:
        epoch: counted from 1.
        lr: of its last step.
        train_loss: nats, over the epoch's steps as they were trained: weighted, smoothed, augmented.
        train_accuracy: 0..1, likewise.
        val_loss: nats, after the epoch, plain cross-entropy.
        val_accuracy: 0..1, likewise.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass
class Progress:
    """Where training stands; `state` holds model, optimizer and best weights, ready to be saved."""

    history: list[Epoch]
    state: State

    @property
    def best(self) -> Epoch:
        """The epoch with the lowest validation loss, the first of equals."""
        return min(self.history, key=lambda epoch: epoch.val_loss)


class Trainer:
    """Fits one network; `fit` may be stopped after any epoch and gone on with from its saved state."""

    def __init__(
        self,
        model: nn.Module,
        train: Batches,
        val: Batches,
        recipe: Recipe,
        augment: Augment,
        accelerator: Accelerator,
    ) -> None:
        """Prepare optimizer, schedule and device; nothing is computed yet."""
        self.recipe, self.augment, self.train, self.val = recipe, augment, train, val
        self.accelerator = accelerator
        model = model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=recipe.lr, fused=True)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.steps_per_epoch = train.n_batches(recipe.batch_size)

    def fit(
        self, on_epoch: Callable[[Progress], None], on_batch: Callable[[int], object], saved: State | None
    ) -> Progress:
        """Train to the last epoch, or until validation stops improving.

        Args:
            on_epoch: called after each epoch, to save and to tell.
            on_batch: called with the number of images after each step.
            saved: `Progress.state` of an earlier call to go on from, or None.

        Returns:
            the progress after the last epoch; its `state["best"]` are the weights of the best one.

        Raises:
            TrainingError: the loss is not finite; epoch and learning rate are named.
        """
        progress = self._resume(saved) if saved else Progress([], {})
        for number in range(len(progress.history) + 1, self.recipe.epochs + 1):
            if self._is_stale(progress):
                break
            epoch = self._one_epoch(number, on_batch)
            progress.history.append(epoch)
            if progress.best is epoch:
                progress.state["best"] = {k: v.detach().cpu().clone() for k, v in self._weights().items()}
            progress.state |= {
                "model": self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
                "history": [asdict(line) for line in progress.history],
            }
            on_epoch(progress)
        return progress

    def _one_epoch(self, number: int, on_batch: Callable[[int], object]) -> Epoch:
        # every epoch has its own generator, so a resumed run draws what an unbroken one would have drawn
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # dropout, a stream of its own
        self.model.train()
        sums = Sums(self.accelerator.device)
        order_N = torch.randperm(len(self.train), generator=generator)
        for step, (image, label_B, weight_B) in enumerate(self.train.epoch(order_N, self.recipe.batch_size)):
            self._set_lr((number - 1) * self.steps_per_epoch + step)
            logits_BK = self.model(self.augment(image, generator))
            loss_B = F.cross_entropy(
                logits_BK, label_B, reduction="none", label_smoothing=self.recipe.label_smoothing
            )
            loss = (loss_B * weight_B).sum() / weight_B.sum()
            self.optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            self.optimizer.step()
            sums.add(loss_B.detach(), logits_BK.detach(), label_B, weight_B)
            on_batch(len(label_B))
        lr = float(self.optimizer.param_groups[0]["lr"])
        train_loss, train_accuracy = sums.means()
        val_loss, val_accuracy = evaluate(self.model, self.val, batch_size=4 * self.recipe.batch_size)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            raise TrainingError(
                f"train: the loss is not finite in epoch {number}, {sums.first_bad_step()} "
                f"(train {train_loss}, val {val_loss}, learning rate {lr:.2g}); "
                f"lower train.lr ({self.recipe.lr:g}) or set train.precision: fp32"
            )
        return Epoch(number, lr, train_loss, train_accuracy, val_loss, val_accuracy)

    def _set_lr(self, step: int) -> None:
        total = self.recipe.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * lr_share(step / total, self.recipe.schedule)

    def _is_stale(self, progress: Progress) -> bool:
        if not (self.recipe.patience and progress.history):
            return False
        return len(progress.history) - progress.best.epoch >= self.recipe.patience

    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.accelerator.unwrap_model(self.model).state_dict()
        return weights

    def _resume(self, saved: State) -> Progress:
        self.accelerator.unwrap_model(self.model).load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        return Progress([Epoch(**line) for line in saved["history"]], dict(saved))


def lr_share(done: float, schedule: str) -> float:
    """The learning rate as a share of its highest, when `done` (0..1) of all steps are behind."""
    rise = 0.2 if schedule == "one_cycle" else 0.0
    if done < rise:
        return 0.04 + 0.96 * done / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))


@torch.inference_mode()
def evaluate(model: nn.Module, data: Batches, *, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy over all images; sample weights do not count here."""
    model.eval()
    sums = Sums(data.device)
    for image, label_B, _ in data.in_order(batch_size):
        logits_BK = model(image)
        sums.add(
            F.cross_entropy(logits_BK, label_B, reduction="none"),
            logits_BK,
            label_B,
            torch.ones_like(label_B),
        )
    return sums.means()


class Sums:
    """Weighted loss and hits, added up on the device and fetched once."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is added yet."""
        self._sums = torch.zeros(3, device=device)
        self._losses: list[Tensor] = []

    def add(self, loss_B: Tensor, logits_BK: Tensor, label_B: Tensor, weight_B: Tensor) -> None:
        """Add a batch."""
        hit_B = logits_BK.argmax(dim=1) == label_B
        self._losses.append(loss_B.sum())
        self._sums += torch.stack(
            [(loss_B * weight_B).sum(), (hit_B * weight_B).sum(), weight_B.sum()]
        ).float()

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy so far; waits for the device."""
        loss, hits, total = self._sums.tolist()
        return loss / total, hits / total

    def first_bad_step(self) -> str:
        """The first step whose loss was not finite, counted from 1 within the epoch."""
        bad = torch.stack(self._losses).isfinite().logical_not().nonzero()
        return f"step {int(bad[0]) + 1}" if len(bad) else "in validation"


def _parameter_groups(model: nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Matrices and kernels decay; biases and normalisation do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
