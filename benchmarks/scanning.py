"""scan (hash, perceptual hash, brightness, decode of every file) against a bare one-pass Pillow decode.

Both use all processors this process may use. Must be at most 1.3 times the peer.

    python benchmarks/scanning.py [FOLDER]      FOLDER: images to read; data/raw/elpv by default
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from convflow.data.layout import read_layout
from convflow.data.scanning import measure_all
from convflow.data.workers import cpu_count

REPEATS = 5


def bare_decode(path: Path) -> None:
    """Open and decode, nothing else."""
    with Image.open(path) as image:
        image.load()


def peer(root: Path, paths: list[str]) -> None:
    """All files through a pool of as many processes as scan uses."""
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in pool.map(bare_decode, [root / path for path in paths], chunksize=32):
            pass


def ours(root: Path, paths: list[str]) -> None:
    """The work of the stage, with nothing remembered."""
    with tempfile.TemporaryDirectory() as folder:
        measure_all(root, paths, Path(folder) / "memory.parquet")


def seconds(work: Callable[[Path, list[str]], None], root: Path, paths: list[str]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    work(root, paths)
    return time.perf_counter() - started


def main() -> None:
    """Alternate both sides and print the ratio of their medians."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "data/raw/elpv")
    paths = [item.path for item in read_layout(root).items]
    peer(root, paths)  # the files are in memory from here on, for both
    times = [(seconds(ours, root, paths), seconds(peer, root, paths)) for _ in range(REPEATS)]
    scan, bare = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"scan of {len(paths):,} images on {cpu_count()} processors: {scan:.2f} s, {len(paths) / scan:,.0f}/s"
    )
    print(f"bare Pillow decode:                    {bare:.2f} s, {len(paths) / bare:,.0f}/s")
    print(f"ratio {scan / bare:.2f} (at most 1.30)")


if __name__ == "__main__":
    main()
