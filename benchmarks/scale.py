"""scan, validate, split and pack on made-up images: seconds and peak memory as N grows.

    python benchmarks/scale.py 25000 50000 100000

Every image has unique bytes (a class-coloured square with noise, 32 x 32 PNG); each stage is its own process,
as in `dvc repro`. Peak memory is the largest resident set of the stage and its workers together.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import yaml
from PIL import Image

CLASSES = 10
PROJECT = Path(__file__).resolve().parent.parent
STAGES = {
    "scan": ["raw", "data/scan"],
    "validate": ["data/scan", "data/approved", "reports/validation"],
    "split": ["data/approved", "data/splits", "data/sides.csv"],
    "pack": ["raw", "data/splits", "data/packed/train/32", "data/packed/val/32", "data/packed/test/32"],
}


def make_images(root: Path, n_images: int) -> None:
    """Write `n_images` small PNG files into class folders."""
    generator = np.random.default_rng(0)
    for number in range(n_images):
        label = number % CLASSES
        folder = root / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(0, 120, size=(32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise + np.uint8(label * 13)).save(folder / f"{number:06d}.png", compress_level=1)


def resident(process: psutil.Process) -> int:
    """Bytes held by a process and all its children; shared pages of files are left out."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            memory = one.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
        except psutil.Error:  # it ended while we looked
            continue
    return total


def run(stage: str, paths: list[str], folder: Path) -> tuple[float, float]:
    """Run one stage; returns seconds and peak MiB."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "convflow", "run", stage, *paths], cwd=folder, stdout=-3)
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, resident(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        sys.exit(f"{stage} ended with status {status}")
    return time.perf_counter() - started, peak / 2**20


def main() -> None:
    """Print a row for each N."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params["split"]["method"] = "stratified"
    params["validate"]["labels"] = None
    params["pack"]["sizes_px"] = [32]
    print("images   " + "".join(f"{stage:>20}" for stage in STAGES))
    for n_images in map(int, sys.argv[1:] or ["25000", "50000", "100000"]):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_images(folder / "raw", n_images)
            (folder / "params.yaml").write_text(yaml.safe_dump(params))
            cells = [run(stage, paths, folder) for stage, paths in STAGES.items()]
        print(f"{n_images:<9,}" + "".join(f"{s:>10.1f} s{mib:>5.0f} MiB" for s, mib in cells), flush=True)


if __name__ == "__main__":
    main()
