"""Feeding one epoch of batches from packed arrays, against torchvision's ImageFolder and a stock DataLoader.

    python benchmarks/feeding.py [--images 1000] [--size-px 96] [--repeats 3] [--folder CLASS_FOLDERS]

Both give shuffled uint8 batches of the same size; the DataLoader has 2 workers, which stay alive, and its
first epoch is not counted. Without --folder the images are made up: 300x300 grey PNGs.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from convflow.data.packed import Contract
from convflow.data.packing import write_pixels
from convflow.learning.batches import Batches

BATCH = 64
CPU = torch.device("cpu")


def make_pngs(folder: Path, n_images: int) -> None:
    """Soft shapes and some noise, so that they pack and decode like photographs, in two class folders."""
    rng = np.random.default_rng(0)
    for number in range(n_images):
        shape = Image.fromarray(rng.integers(60, 200, (8, 8), dtype=np.uint8)).resize((300, 300))
        noisy = np.asarray(shape) + rng.normal(0, 3, (300, 300))
        path = folder / f"class{number % 2}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def stock(folder: Path, size_px: int):
    """One epoch of ImageFolder and DataLoader."""
    steps = [v2.Grayscale(1), v2.Resize((size_px, size_px)), v2.PILToTensor()]
    images = ImageFolder(str(folder), transform=v2.Compose(steps))
    loader = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)

    def epoch():
        return sum(len(label_B) for _, label_B in loader)

    return epoch


def packed(folder: Path, target: Path, size_px: int):
    """Pack once; gives one epoch from memory, one from disk, and the seconds of packing."""
    files = sorted(folder.rglob("*.*"))
    begun = time.perf_counter()
    write_pixels(target, files, Contract(["a", "b"], size_px, 1, "stretch"))
    seconds = time.perf_counter() - begun
    pixels, n_images = np.load(target, mmap_mode="r"), len(files)
    both = SimpleNamespace(pixels=pixels, labels=np.zeros(n_images, int), weights=np.ones(n_images))

    def epoch_of(data: Batches):
        return lambda: sum(len(label_B) for _, label_B, _ in data.epoch(torch.randperm(n_images), BATCH))

    return [epoch_of(Batches(both, CPU, resident_bytes=size)) for size in (2**40, 0)], seconds


def main() -> None:
    """Print each side, and the ratio to the stock loader."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch, "images")
        if asked.folder is None:
            make_pngs(folder, asked.images)
        (resident, streamed), seconds = packed(folder, Path(scratch, "pixels.npy"), asked.size_px)
        epochs = {"ImageFolder": stock(folder, asked.size_px), "from memory": resident, "from disk": streamed}
        turns = [{name: _timed(epoch) for name, epoch in epochs.items()} for _ in range(asked.repeats + 1)]
        n_images = resident()
    print(f"{n_images:,} images, {asked.size_px} px, batch {BATCH}; packed once in {seconds:.1f} s")
    for name in epochs:
        seconds = statistics.median(turn[name] for turn in turns[1:])
        ratio = statistics.median(turn["ImageFolder"] / turn[name] for turn in turns[1:])
        rate = n_images / seconds
        print(f"{name:12} {1_000 * seconds:9.1f} ms per epoch {rate:10,.0f} images/s {ratio:7.1f} x")


def _timed(epoch) -> float:
    begun = time.perf_counter()
    epoch()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
