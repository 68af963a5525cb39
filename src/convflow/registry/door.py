"""The one door to the modules of this room that import MLflow."""

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def open_door(module: str) -> Any:
    """Load `convflow.registry.<module>`, which imports MLflow: 1 to 4 seconds.

    Most runs have nothing to publish and must end at once, so the import waits until it is known to be
    needed. A process of its own would do too, but it would outlive a killed stage and could only hand
    back its errors as text.
    """
    with unswept():
        return importlib.import_module(f"convflow.registry.{module}")


@contextmanager
def unswept() -> Iterator[None]:
    """No garbage collection meanwhile, and none ever of what is there at the end.

    Python looks through all objects again and again while modules fill the memory, and once more when it
    ends: half of the time that importing MLflow takes, and nothing is found.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
