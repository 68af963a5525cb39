"""`convflow repro`: `dvc repro`, watched live in MLflow when asked for, and a summary at the end."""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convflow.environment import own_tools_first
from convflow.errors import ParamsError
from convflow.lockfile import mend_locks
from convflow.params import read_params
from convflow.sections import check_params

PARAMS = Path("params.yaml")
BEAT_S = 30.0
# How DVC says that a stage begins, and that one needs not run: the one before it has ended.
_STAGE = re.compile(r"(Running stage|Stage) '([^']+)'")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages; all of them by default")
    parser.epilog = "All other arguments go to dvc repro, as -f, -s or --dry."


def run(args: argparse.Namespace) -> int:
    """Run the pipeline and say what came out; 2 when a stage failed.

    Raises:
        ParamsError: a wrong parameter of any stage, or a `data.root` that names no folder.
        ConvflowError: a lock file that is none.
    """
    own_tools_first()
    mend_locks()
    main = not args.targets or not all("/dvc.yaml" in target for target in args.targets)
    with _live(wanted=main and _check(args.stages)["tracking"]["live"]):
        status = _run([sys.executable, "-m", "dvc", "repro", *args.more, *args.targets])
    if status:
        print("convflow: the pipeline stopped; the lines above say why", file=sys.stderr)
        return 2
    if not main:  # but a study, say, that has params and a page of its own
        return 0
    return subprocess.run([sys.executable, "-m", "convflow", "summary"], check=False).returncode


def _check(stages: Sequence[str]) -> dict[str, Any]:
    """Check the whole of params.yaml, and give it back."""
    check_params(PARAMS, stages)
    tree = read_params(PARAMS)
    root = Path(tree["data"]["root"])
    if not root.is_dir() and root.parts[:2] != ("data", "raw"):  # those a stage may still make
        raise ParamsError(f"{PARAMS}: data.root {str(root)!r} is no folder; run `convflow init PATH`")
    return tree


def _run(command: Sequence[str]) -> int:
    """Run `command`; outside a terminal, where no progress bar is drawn, say how long each stage takes."""
    if sys.stdout.isatty():
        return subprocess.run(command, check=False).returncode
    told = _Told()
    told.start()
    at_once = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=at_once, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as dvc:
        for line in dvc.stdout or ():
            told.hear(line)
            print(line, end="", flush=True)
    told.end()
    return dvc.returncode


class _Told(threading.Thread):
    """Says that a stage goes on, every half minute, and how long it took."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stage = ""
        self._since = time.monotonic()
        self._over = threading.Event()

    def hear(self, line: str) -> None:
        """Take note of a line of DVC's."""
        if (found := _STAGE.match(line)) is not None:
            self._say_ended()
            self._stage = found[2] if found[1] == "Running stage" else ""
            self._since = time.monotonic()

    def end(self) -> None:
        """The last stage has ended."""
        self._over.set()
        self._say_ended()

    def run(self) -> None:
        """Say now and then that it goes on."""
        while not self._over.wait(BEAT_S):
            if self._stage and self._seconds() >= BEAT_S:
                print(f"convflow: {self._stage} goes on, {self._seconds():.0f} s so far", flush=True)

    def _say_ended(self) -> None:
        if self._stage:
            print(f"convflow: {self._stage} ended after {self._seconds():.1f} s", flush=True)

    def _seconds(self) -> float:
        return time.monotonic() - self._since


@contextmanager
def _live(*, wanted: bool) -> Iterator[None]:
    """Follow the training into MLflow meanwhile, in a process of its own, when `tracking.live` is on."""
    if not wanted:
        yield
        return
    follower = subprocess.Popen([sys.executable, "-m", "convflow", "follow", "--until-pid", str(os.getpid())])
    try:
        yield
    finally:
        follower.terminate()
        follower.wait()
