"""Where to compute, and in which precision."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from convflow.errors import TrainingError

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def pick_device(wanted: str, *, require_gpu: bool, place: str = "train") -> str:
    """`wanted`, or for "auto" the best there is: cuda, mps, cpu; `place` is the section that asks for it.

    Raises:
        TrainingError: the device is not there, or a GPU is required and there is none.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = next(name for name, there in found.items() if there) if wanted == "auto" else wanted
    if not found.get(device, False):
        raise TrainingError(f"{place}.device: no {device!r} here; set it to auto or cpu")
    if require_gpu and device == "cpu":
        raise TrainingError(
            f"{place}.require_gpu: true, but there is no GPU; set it to false to train on the CPU"
        )
    return device


def pick_precision(wanted: str, device: str, *, place: str = "train") -> str:
    """`wanted`, or for "auto" bf16 where the processor computes in it (1.5 to 3 times faster), else fp32.

    Raises:
        TrainingError: fp16 without a GPU, where nothing would scale the gradients.
    """
    if wanted == "fp16" and device == "cpu":
        raise TrainingError(f"{place}.precision: fp16 needs a GPU; set it to auto, bf16 or fp32")
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if device == "cpu" and _cpu_has_bf16() else "fp32"


def make_accelerator(device: str, precision: str) -> Accelerator:
    """accelerate's view of `device`: placement, autocast and gradient scaling.

    Raises:
        TrainingError: started in several processes, which would all train the same and write the same files.
    """
    # accelerate keeps one state per process and refuses a second precision; here each training says its own
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "no" if precision == "fp32" else precision
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
    if accelerator.num_processes > 1:
        raise TrainingError(f"train: started in {accelerator.num_processes} processes; it runs in one")
    return accelerator


@contextmanager
def one_line(place: str = "train") -> Iterator[None]:
    """Turn what the device refuses, and the user can mend, into one line.

    Raises:
        TrainingError: memory is full, or a step has no deterministic algorithm.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{place}.batch_size: the GPU's memory is full; lower it, or train.packed_px"
        ) from None
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise TrainingError(f"{place}.deterministic: true, but {reason}; set it to false") from None


def be_deterministic() -> None:
    """Let torch use only algorithms that give the same bits each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def free_memory(device: str) -> int:
    """Bytes that may be used: what is free on the GPU, else half of what is free in main memory."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's, where there is one
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    free: int = psutil.virtual_memory().available
    return min(free, int(allowed)) // 2 if allowed.isdecimal() else free // 2


def peak_memory_mib(device: str) -> float:
    """The most memory this process has held: on the GPU, else its resident set, in MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def device_name(device: str) -> str:
    """The device as its maker calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return f"{device}, {torch.get_num_threads()} threads"


def _cpu_has_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags
