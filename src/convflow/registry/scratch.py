"""Folders for what is needed for a moment: inside the project, where a killed process's are found again."""

import os
import shutil
import tempfile
from pathlib import Path


def scratch_folder(root: Path) -> tempfile.TemporaryDirectory[str]:
    """An empty folder in `.convflow/tmp` of the project at `root`, for use with `with`.

    What processes that have ended left there (images, too) is swept away first.
    """
    home = (root / ".convflow" / "tmp").resolve()
    home.mkdir(parents=True, exist_ok=True)
    for left in home.iterdir():
        pid = left.name.partition("-")[0]
        if pid.isdigit() and not alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=home)


def alive(pid: int) -> bool:
    """Whether a process of this number runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's, and alive
        return True
    return True
