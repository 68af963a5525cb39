"""Long jobs side by side, one process and one thread each; results as they come.

This module imports nothing that computes: a worker sets its number of threads before any such library loads.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

import psutil

from convflow.data.workers import cpu_count, end_with_parent
from convflow.errors import ConvflowError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Job = TypeVar("Job")
Result = TypeVar("Result")


def crew_size(n_jobs: int, *, bytes_each: int) -> int:
    """How many processes to run: as many as there are jobs, cores, and memory for; at least one."""
    return max(1, min(n_jobs, cpu_count(), _free_memory() // bytes_each))


def work_off(
    function: Callable[[Job], Result], jobs: Sequence[Job], n_processes: int
) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result as soon as it is done, in any order.

    An error, an interruption, or a reader who stops, ends all processes at once.

    Raises:
        ConvflowError: a process died; also whatever `function` raises.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=spawn, initializer=_start) as pool:
        waiting: dict[Future[Result], Job] = {pool.submit(function, job): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting.pop(done), done.result()
        except BrokenProcessPool:
            raise ConvflowError(
                f"a process died, probably for want of memory ({n_processes} ran side by side); "
                "set folds.processes lower and run again: finished splits are kept"
            ) from None
        finally:
            if waiting:  # nobody waits for what is half done; the pool then gives up the rest by itself
                for child in multiprocessing.active_children():
                    child.terminate()


def _start() -> None:
    """Make a worker obedient: one thread, no traceback of its own on Ctrl-C, no life after its parent."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _free_memory() -> int:
    """Bytes that may be used: what is free, within what a container may take."""
    free: int = psutil.virtual_memory().available
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(free, int(allowed)) if allowed.isdecimal() else free
