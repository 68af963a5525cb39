"""Decode and resize every image once, into uint8 arrays that are memory-mapped from then on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from convflow.data.images import decode
from convflow.data.packed import Contract
from convflow.data.workers import map_in_processes

_GREY_MODES = {"1", "L", "I", "I;16", "I;16B", "I;16L", "LA", "La"}


def channels_for(modes: Sequence[str]) -> int:
    """1 when every image is grey in its file, else 3."""
    return 1 if set(modes) <= _GREY_MODES else 3


def write_pixels(path: Path, files: Sequence[Path], contract: Contract) -> None:
    """Decode `files` in order into `path`: one .npy, uint8 (N, size_px, size_px, channels).

    Written as a stream, so the memory needed does not grow with N.

    Raises:
        ImageError: a file cannot be read any more.
    """
    shape = (len(files), contract.size_px, contract.size_px, contract.channels)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    job = partial(decode, size_px=contract.size_px, channels=contract.channels, fit=contract.fit)
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for pixels in tqdm(
            map_in_processes(job, files), total=len(files), unit="img", desc=path.parent.name, disable=None
        ):
            stream.write(pixels.tobytes())
