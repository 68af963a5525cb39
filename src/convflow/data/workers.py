"""Work spread over processes, results in order, memory bounded."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from convflow.errors import DataError

_CHUNK = 32
_BLOCK = 16  # chunks per worker that may wait for their reader

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """How many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def map_in_processes(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order; small jobs stay in this process.

    Raises:
        DataError: when a worker died, with the item it was near.
    """
    workers = min(cpu_count(), 1 + len(items) // (4 * _CHUNK))
    if workers == 1:
        yield from map(function, items)
        return
    # spawn: a forked copy of a process with threads may hang, and macOS has no safe fork at all
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=end_with_parent) as pool:
        n_done = 0
        block = _CHUNK * _BLOCK * workers
        try:
            for start in range(0, len(items), block):
                for result in pool.map(function, items[start : start + block], chunksize=_CHUNK):
                    yield result
                    n_done += 1
        except BrokenProcessPool:
            raise DataError(
                f"{items[n_done]}: a worker process died near it (out of memory, or a decoder crashed); "
                "free memory or remove the file, and run again"
            ) from None


def end_with_parent() -> None:
    """See that a worker does not outlive a parent that was killed and could not tell it to stop."""
    if (parent := multiprocessing.parent_process()) is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
