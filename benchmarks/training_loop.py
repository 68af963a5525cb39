"""Training images/s of convflow's loop against a minimal loop in plain torch: same net, same work, one run.

    python benchmarks/training_loop.py [--arch residual] [--size-px 96] [--images 256] [--repeats 15]
        [--threads 2]

Pixels lie in memory, augmentation is off, batch size, precision and channels_last are the same. The two take
turns, and who begins changes with each turn; the ratio is the median over the turns, so that a busy machine
slows both sides of it.
"""

import argparse
import statistics
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional as F

from convflow.learning.augment import Augment
from convflow.learning.batches import Batches
from convflow.learning.devices import make_accelerator, pick_precision
from convflow.learning.fitting import Recipe, Trainer
from convflow.nets.registry import build

CPU = torch.device("cpu")
BATCH = 64


def ours(arch: str, image_NSSC: np.ndarray, label_N: np.ndarray, precision: str):
    """One epoch of convflow's trainer; its validation of two images and all it keeps are in the time."""
    packed = SimpleNamespace(pixels=image_NSSC, labels=label_N, weights=np.ones(len(label_N), np.float32))
    two = SimpleNamespace(pixels=image_NSSC[:2], labels=label_N[:2], weights=packed.weights[:2])
    train, val = (Batches(side, CPU, resident_bytes=2**40) for side in (packed, two))
    recipe = Recipe(1, BATCH, 0.001, 0.05, "one_cycle", label_smoothing=0.0, patience=0, seed=0)
    trainer = Trainer(
        _net(arch, image_NSSC), train, val, recipe, Augment(), make_accelerator("cpu", precision)
    )
    return lambda: trainer.fit(lambda progress: None, lambda n_images: None, None)


def minimal(arch: str, image_NSSC: np.ndarray, label_N: np.ndarray, precision: str):
    """One epoch of the shortest loop that trains the same net in the same way."""
    image_NCSS = torch.from_numpy(image_NSSC).permute(0, 3, 1, 2)
    label_N = torch.from_numpy(label_N)
    model = _net(arch, image_NSSC).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.05)

    def epoch():
        model.train()
        for index_B in torch.randperm(len(label_N)).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = F.cross_entropy(model(image_NCSS[index_B]), label_N[index_B])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def main() -> None:
    """Print both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="residual")
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    precision = pick_precision("auto", "cpu")
    rng = np.random.default_rng(0)
    image_NSSC = rng.integers(0, 256, (asked.images, asked.size_px, asked.size_px, 1), dtype=np.uint8)
    label_N = rng.integers(0, 2, asked.images)
    loops = [loop(asked.arch, image_NSSC, label_N, precision) for loop in (ours, minimal)]
    turns = [_turn(loops, first=n % 2) for n in range(asked.repeats + 1)][1:]  # the first one warms up
    print(f"{asked.arch}, {asked.size_px} px, batch {BATCH}, {precision}, {torch.get_num_threads()} threads")
    for name, seconds in zip(("convflow", "minimal loop"), zip(*turns, strict=True), strict=True):
        print(f"{name:13} {asked.images / statistics.median(seconds):8.1f} images/s")
    ratios = sorted(theirs / mine for mine, theirs in turns)
    print(f"ratio         {statistics.median(ratios):8.3f} x (turns: {ratios[0]:.3f} to {ratios[-1]:.3f})")


def _net(arch: str, image_NSSC: np.ndarray) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(arch, 2, 1, image_NSSC.shape[1], {})


def _turn(loops, *, first: int) -> tuple[float, float]:
    found = [0.0, 0.0]
    for which in (first, 1 - first):
        begun = time.perf_counter()
        loops[which]()
        found[which] = time.perf_counter() - begun
    return found[0], found[1]


if __name__ == "__main__":
    main()
