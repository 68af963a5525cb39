"""Fine-tuning with the brakes on: small steps below, frozen batch norms, averaged weights, few epochs.

LP-FT (Kumar et al., ICLR 2022): where a fresh head would first drag the features along, a head that is fitted
already leaves them nearly as they were, and they serve on other pictures than those trained on as well.

Shape letters: N images, B of them, K classes.
"""

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from convflow.errors import TrainingError
from convflow.learning.activations import Feed
from convflow.learning.augment import Augment
from convflow.learning.devices import pick_precision
from convflow.learning.fitting import Epoch, Sums, lr_share
from convflow.learning.probing import Unsure, figures_of
from convflow.learning.unfreezing import Method, Upper, n_open

Weights = dict[str, Tensor]
_AT_ONCE = 64
_WARM = 9  # the average forgets its first steps: the n-th counts 9 / (10 + n) at least


@dataclass(frozen=True)
class Tuning:
    """How to fine-tune.

    Attributes:
        method: `lp_ft` starts from the head of the probe; `plain` from a fresh one; `gradual` likewise, and
            the stages thaw from the last down.
        blocks: so many of the last stages are trained, on what was kept of those below; None: all, from
            pixels.
        epochs: passes over the training images, at most; the learning rate rises for a fifth, then falls.
        batch_size: images per step.
        lr: highest learning rate, that of the head.
        decay: a stage learns at this share of the rate of the one above.
        weight_decay: decoupled (AdamW), on matrices and kernels only.
        ema: share of the average of the weights that a step leaves; the average is what is asked and kept.
        label_smoothing: 0..1.
        seed: of order, views and augmentation of the first run; the next has the next.
        runs: how many are averaged into a soup.
        unsure: see `convflow.learning.probing.Search`.
        augment: changes of the pictures where they are trained on from pixels.
    """

    method: Method
    blocks: int | None
    epochs: int
    batch_size: int
    lr: float
    decay: float
    weight_decay: float
    ema: float
    label_smoothing: float
    seed: int
    runs: int
    unsure: Unsure = "weight"
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from, and what is asked.

    Attributes:
        train, val: what enters the trained stages; val under `n_views` views.
        target_NK: float32, probabilities; on the device, as the two that follow.
        weight_N: float32, above 0.
        label_N: int64, of train.
        label_val_N: int64, on the CPU.
        n_views: over so many turns of `val` logits are averaged.
    """

    train: Feed
    val: Feed
    target_NK: Tensor
    weight_N: Tensor
    label_N: Tensor
    label_val_N: Tensor
    n_views: int


@dataclass(frozen=True, eq=False)
class Run:
    """One fine-tuning: its epochs, and the averaged weights after the best of them, on the CPU."""

    epochs: list[Epoch]
    weights: Weights


def fit(
    upper: Upper, lesson: Lesson, tuning: Tuning, accelerator: Accelerator, *, epochs: int, number: int
) -> Run:
    """Train `upper`, which changes, for so many epochs.

    Args:
        upper: what is trained, on the device.
        lesson: on what.
        tuning: how; its `epochs` do not count here.
        accelerator: device and precision.
        epochs: the schedule is laid out for so many.
        number: of the run, from 0: has a seed and views of its own.

    Raises:
        TrainingError: the loss is not finite; epoch and step are named.
    """
    average = Average(upper, tuning.ema)
    optimizer = torch.optim.AdamW(upper.groups(tuning.decay, tuning.weight_decay), lr=tuning.lr, fused=True)
    learner = Learner(accelerator, upper, optimizer, lesson, tuning)
    run = Run([], {})
    n_images, n_stages = len(lesson.label_N), len(upper.net.trunk.stages) - upper.first
    total = epochs * n_images
    with tqdm(total=total, desc=f"tune {number + 1}", unit="img", disable=None, leave=False) as bar:

        def on_step(n_seen: int) -> None:
            average.update(upper)
            bar.update(n_seen)

        for epoch in range(1, epochs + 1):
            upper.open(n_open(tuning.method, epoch, epochs, n_stages))
            sums = learner.epoch(epoch, epochs, number, on_step)
            with accelerator.autocast():
                logits_NK = answers(average.upper, lesson.val, lesson.n_views)
            line = _line(epoch, sums, figures_of(logits_NK, lesson.label_val_N), learner.lr, tuning)
            if line.val_loss < min((before.val_loss for before in run.epochs), default=math.inf):
                run.weights.update(weights_of(average.upper))
            run.epochs.append(line)
    return run


class Average:
    """The running average of the weights of a network.

    torch's own (`AveragedModel`) counts on the device, and makes the host wait for it at each step.

    Attributes:
        upper: a copy of the network, with the averaged weights.
    """

    def __init__(self, upper: Upper, ema: float) -> None:
        """After n steps a new one counts 1 - `ema`, or 9 / (10 + n); the first counts alone."""
        self.upper, self._ema, self._n_steps = deepcopy(upper), ema, 0

    @torch.no_grad()
    def update(self, upper: Upper) -> None:
        """Move towards `upper`, which has done one more step."""
        share = max(1 - self._ema, _WARM / (10 + self._n_steps))
        for ours, theirs in zip(self.upper.parameters(), upper.parameters(), strict=True):
            if self._n_steps:
                ours.lerp_(theirs, share)
            else:
                ours.copy_(theirs)
        self._n_steps += 1


class Learner:
    """The steps of one run.

    Attributes:
        lr: learning rate of the last step.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        upper: Upper,
        optimizer: torch.optim.Optimizer,
        lesson: Lesson,
        tuning: Tuning,
    ) -> None:
        """Let the accelerator prepare both."""
        self.accelerator, self.lesson, self.tuning = accelerator, lesson, tuning
        self.model, self.optimizer = accelerator.prepare(upper, optimizer)
        self.lr = 0.0

    def epoch(self, epoch: int, epochs: int, number: int, on_step: Callable[[int], object]) -> Sums:
        """Go once over all training images.

        Args:
            epoch: counted from 1.
            epochs: for so many the schedule is laid out.
            number: of the run, from 0.
            on_step: called with the number of images after each step.
        """
        generator = torch.Generator().manual_seed((self.tuning.seed + number) * 1_000_003 + epoch)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))  # dropout, a stream of its own
        self.model.train()
        sums = Sums(self.accelerator.device)
        order_N = torch.randperm(len(self.lesson.label_N), generator=generator)
        batches = torch.split(order_N, self.tuning.batch_size)
        for step, index_B in enumerate(batches):
            self.lr = self.tuning.lr * lr_share((epoch - 1 + step / len(batches)) / epochs, "one_cycle")
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * group["share"]
            # each run goes on where the one before ended, so that all views are seen
            turn = number * epochs + epoch - 1
            x, below_BF = self.lesson.train.batch(turn, index_B.numpy(), generator)
            self.step(x, below_BF, index_B.to(self.accelerator.device), sums)
            on_step(len(index_B))
        return sums

    def step(self, x: Tensor, below_BF: Tensor, index_B: Tensor, sums: Sums) -> None:
        """Learn from the images `index_B`, and add what they told to `sums`."""
        lesson = self.lesson
        logits_BK = self.model(x, below_BF)
        loss_B = F.cross_entropy(
            logits_BK,
            lesson.target_NK[index_B],
            reduction="none",
            label_smoothing=self.tuning.label_smoothing,
        )
        weight_B = lesson.weight_N[index_B]
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward((loss_B * weight_B).sum() / weight_B.sum())
        self.optimizer.step()
        sums.add(loss_B.detach(), logits_BK.detach(), lesson.label_N[index_B], weight_B)


@torch.no_grad()
def answers(upper: Upper, feed: Feed, n_views: int) -> Tensor:
    """Logits float64 (N, K) on the CPU, averaged over the first `n_views` turns, without augmentation."""
    upper.eval()
    found = []
    for index_B in torch.split(torch.arange(len(feed.view_NV)), _AT_ONCE):
        seen = [upper(*feed.batch(turn, index_B.numpy(), None)) for turn in range(n_views)]
        found.append(torch.stack(seen).cpu().double().mean(dim=0))
    return torch.cat(found)


def training_precision(wanted: str, device: str, *, place: str = "finetune.tune") -> str:
    """`wanted`, or for "auto" the device's best; on a CPU fp32.

    Steps through filters of single maps (EfficientNet, MobileNet) took 1.7 to 1.9 times as long in bf16.

    Raises:
        TrainingError: fp16 without a GPU.
    """
    if (wanted, device) == ("auto", "cpu"):
        return "fp32"
    return pick_precision(wanted, device, place=place)


def weights_of(upper: Upper) -> Weights:
    """A copy of all that is trained, on the CPU, under its names in the network."""
    return {name: parameter.detach().cpu().clone() for name, parameter in upper.trained.items()}


def soup_of(runs: Iterable[Weights]) -> Weights:
    """The mean of each weight over the runs (Wortsman et al., ICML 2022: a uniform soup)."""
    each = list(runs)
    return {name: torch.stack([one[name] for one in each]).double().mean(dim=0).float() for name in each[0]}


def _line(epoch: int, sums: Sums, val: tuple[float, float], lr: float, tuning: Tuning) -> Epoch:
    train_loss, train_accuracy = sums.means()
    if not (math.isfinite(train_loss) and math.isfinite(val[0])):
        raise TrainingError(
            f"finetune.tune: the loss is not finite in epoch {epoch}, {sums.first_bad_step()} "
            f"(train {train_loss}, val {val[0]}, learning rate {lr:.2g}); "
            f"lower finetune.tune.lr ({tuning.lr:g}) or set finetune.tune.precision: fp32"
        )
    return Epoch(epoch, lr, train_loss, train_accuracy, *val)
