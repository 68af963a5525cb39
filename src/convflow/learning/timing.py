"""How long fitting a network took, and on what: the one output that differs between equal runs."""

import platform
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from convflow.files import digest_file, write_json
from convflow.learning.devices import device_name, peak_memory_mib

LOCK = Path("requirements.lock")


def write_timing(
    path: Path, device: str, seconds: float, n_images: int, more: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write what `n_images` images took on `device`, and `more`, as JSON."""
    found = {
        "device": device_name(device),
        "seconds": round(seconds, 3),
        "images_per_second": round(n_images / seconds, 1),
        "peak_memory_mib": round(peak_memory_mib(device), 1),
        **more,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "requirements_lock": digest_file(LOCK) if LOCK.is_file() else "none",
    }
    write_json(path, found)
