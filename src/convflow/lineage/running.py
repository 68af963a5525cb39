"""Run stages in a copy of the project: truly, nothing restored, nothing put into a cache."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from convflow.errors import ModelError
from convflow.lineage.dvc import COMMAND, environ

# One by one, in the order given: nothing upstream of them, so that the raw pictures stay as they are.
_REPRO = ("repro", "--force", "--single-item", "--no-run-cache", "--no-commit")


def run_stages(tree: Path, stages: Sequence[str]) -> None:
    """Run these stages with the code in `tree`; what they print goes to stderr as it comes.

    Raises:
        ModelError: one of them failed.
    """
    with _group([*COMMAND, *_REPRO, *stages], tree) as dvc:
        status = dvc.wait()
    if status:
        raise ModelError(f"{', '.join(stages)}: stopped in the copy; the lines above say why")


def check_source(tree: Path) -> None:
    """See that the copy's own code is what a stage would run.

    Raises:
        ModelError: it is not.
    """
    done = subprocess.run(
        [sys.executable, "-c", "import convflow; print(convflow.__file__)"],
        cwd=tree, env=environ(tree), capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if not Path(done.stdout.strip() or "/").resolve().is_relative_to(tree.resolve()):
        raise ModelError(
            f"{tree}: its code would not run, but {done.stdout.strip() or 'none'}; is src/ there?"
        )


@contextmanager
def _group(command: Sequence[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with all that it starts: ending DVC alone would leave the stage running."""
    with subprocess.Popen(
        command, cwd=folder, env=environ(folder), stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(),
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
