"""The one door to the modules of this room that import MLflow."""

import importlib
from typing import Any


def open_door(module: str) -> Any:
    """Load `convflow.registry.<module>`, which imports MLflow: 2 to 4 seconds.

    Most runs have nothing to publish and must end at once, so the import waits until it is known to be
    needed. A process of its own would do too, but it would outlive a killed stage and could only hand
    back its errors as text.
    """
    return importlib.import_module(f"convflow.registry.{module}")
