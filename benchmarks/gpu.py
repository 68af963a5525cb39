"""Training images/s on a GPU: ResNet-18 and the default net, torch.compile or not, and the loader's rate.

    python benchmarks/gpu.py [--images 20480] [--size-px 128] [--channels 1] [--batch 256] [--repeats 3]
    python benchmarks/gpu.py --device cpu --quick       the same code on little work, without a GPU

bf16 and channels_last, convflow's own loop, flips on. Needs torch, numpy, accelerate, safetensors, Pillow and
tqdm alone: ResNet-18 is written out below. Utilisation is nvidia-smi's, while the timed epochs run.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from convflow.learning.augment import Augment
from convflow.learning.batches import Batches
from convflow.learning.devices import device_name, make_accelerator
from convflow.learning.fitting import Recipe, Trainer
from convflow.nets.registry import Classifier, build


class Basic(nn.Module):
    """ResNet-18's block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1:
            strided = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(strided, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half the side where the stride is 2."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet18(channels: int, n_classes: int) -> nn.Module:
    """The network of He et al. (CVPR 2016), layer by layer as torchvision has it."""
    stem = [
        nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [block for i, o, stride in widths for block in (Basic(i, o, stride), Basic(o, o, 1))]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, n_classes))


def network(name: str, channels: int, size_px: int) -> Classifier:
    """Normalisation and net, as the stage `train` builds them."""
    torch.manual_seed(0)
    if name == "resnet18":
        return Classifier(
            resnet18(channels, 2), torch.full((channels,), 127.0), torch.full((channels,), 60.0)
        )
    return build("residual", 2, channels, size_px, {})


def trainer_of(model: Classifier, data: Batches, few: Batches, batch_size: int) -> Trainer:
    """convflow's trainer, one epoch long."""
    recipe = Recipe(1, batch_size, 0.001, 0.05, "one_cycle", label_smoothing=0.05, patience=0, seed=0)
    accelerator = make_accelerator(data.device.type, "bf16")
    return Trainer(model, data, few, recipe, Augment("both"), accelerator)


def seconds_of(work, device: torch.device, repeats: int) -> float:
    """Median seconds of `work`, the device's work done; one more goes before and does not count."""
    found = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return statistics.median(found[1:])


@contextmanager
def utilisation(device: torch.device) -> Iterator[list[int]]:
    """Fill the list with nvidia-smi's percentages, five a second, once the block has ended."""
    found: list[int] = []
    if device.type != "cuda" or not shutil.which("nvidia-smi"):
        yield found
        return
    words = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-i",
        "0",
        "-lms",
        "200",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield found
        finally:
            watch.terminate()
            found += [int(line) for line in watch.stdout or () if line.strip().isdigit()]


def main() -> int:
    """Print every figure; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--images", type=int, default=20_480)
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--channels", type=int, choices=(1, 3), default=1)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="64 images of 32 px, one repeat, no torch.compile"
    )
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here; --device cpu --quick runs the same code on little work", file=sys.stderr)
        return 2
    if asked.quick:
        asked.images, asked.size_px, asked.batch, asked.repeats = 64, 32, 16, 1
    device = torch.device(asked.device)
    print(f"{device_name(asked.device)}, torch {torch.__version__}, bf16, channels_last")
    print(f"{asked.images:,} images, {asked.size_px} px, {asked.channels} channel(s), batch {asked.batch}")
    with tempfile.TemporaryDirectory() as scratch:
        sides = _made_up(Path(scratch, "pixels.npy"), asked, device)
        rate = _train_all(sides, asked, device)
        _feed_all(sides, asked, device, rate)
    return 0


def _made_up(path: Path, asked: argparse.Namespace, device: torch.device) -> dict[str, Batches]:
    rng = np.random.default_rng(0)
    shape = (asked.images, asked.size_px, asked.size_px, asked.channels)
    np.save(path, rng.integers(0, 256, shape, dtype=np.uint8))
    pixels, label_N = np.load(path, mmap_mode="r"), rng.integers(0, 2, asked.images)
    weight_N = np.ones(asked.images, np.float32)
    whole = SimpleNamespace(pixels=pixels, labels=label_N, weights=weight_N)
    few = SimpleNamespace(pixels=pixels[:2], labels=label_N[:2], weights=weight_N[:2])
    return {
        "resident": Batches(whole, device, resident_bytes=2**50),
        "streamed": Batches(whole, device, resident_bytes=-1),
        "few": Batches(few, device, resident_bytes=2**50),
    }


def _train_all(sides: dict[str, Batches], asked: argparse.Namespace, device: torch.device) -> float:
    """Returns the highest rate from resident data, in images/s."""
    rates = [0.0]
    for name in ("resnet18", "residual"):
        for compiled in (False,) if asked.quick else (False, True):
            for kept in ("resident", "streamed"):
                model = network(name, asked.channels, asked.size_px)
                if compiled:
                    model.net.compile()
                trainer = trainer_of(model, sides[kept], sides["few"], asked.batch)
                begun = time.perf_counter()
                _fit(trainer)
                first = time.perf_counter() - begun
                with utilisation(device) as busy:
                    seconds = seconds_of(lambda one=trainer: _fit(one), device, asked.repeats)
                rates.append(asked.images / seconds if kept == "resident" else 0)
                used = f"{statistics.median(busy)} %" if busy else "n/a"
                how = f"{name}{', compiled' if compiled else ''}, {kept}"
                rate = f"{asked.images / seconds:10,.0f} images/s"
                print(f"{how:30} {rate}, utilisation {used}, first {first:.1f} s")
    return max(rates)


def _fit(trainer: Trainer) -> None:
    trainer.fit(lambda progress: None, lambda n_images: None, None)


def _feed_all(
    sides: dict[str, Batches], asked: argparse.Namespace, device: torch.device, rate: float
) -> None:
    for kept in ("resident", "streamed"):
        data = sides[kept]

        def epoch(data: Batches = data) -> None:
            for _ in data.epoch(torch.randperm(len(data)), asked.batch):
                pass

        fed = asked.images / seconds_of(epoch, device, asked.repeats)
        print(f"loader, {kept:22} {fed:10,.0f} images/s, {fed / rate:.1f} x the fastest model's rate")


if __name__ == "__main__":
    sys.exit(main())
