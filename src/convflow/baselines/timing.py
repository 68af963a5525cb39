"""How long a baseline's fit took, and on what: the one output that differs between equal runs."""

import platform
import resource
import sys
from importlib.metadata import version
from pathlib import Path

from convflow.data.workers import cpu_count
from convflow.files import digest_file, write_json

LOCK = Path("requirements.lock")


def write_timing(path: Path, seconds: float, n_images: int) -> None:
    """Write the time of fitting on `n_images` images, as `train` writes that of a network."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {
        "device": f"{processor()}, {cpu_count()} threads",
        "seconds": round(seconds, 3),
        "images_per_second": round(n_images / seconds, 1),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1),
        "python": platform.python_version(),
        "scikit_learn": version("scikit-learn"),
        "requirements_lock": digest_file(LOCK) if LOCK.is_file() else "none",
    }
    write_json(path, found)


def processor() -> str:
    """The processor as its maker calls it."""
    name, info = platform.machine(), Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return name
