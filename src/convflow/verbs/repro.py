"""`convflow repro`: `dvc repro`, watched live in MLflow when asked for, and a summary at the end."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convflow.environment import own_tools_first
from convflow.params import read_params

PARAMS = Path("params.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="passed on to dvc repro")


def run(args: argparse.Namespace) -> int:
    """Run the pipeline; the exit status is DVC's, or 2 where a stage failed."""
    own_tools_first()
    with _live():
        status = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", *args.arguments], check=False
        ).returncode
    if status:
        print("convflow: the pipeline stopped; the lines above say why", file=sys.stderr)
        return 2
    return subprocess.run([sys.executable, "-m", "convflow", "summary"], check=False).returncode


@contextmanager
def _live() -> Iterator[None]:
    """Follow the training into MLflow meanwhile, in a process of its own, when `tracking.live` is on."""
    if not (read_params(PARAMS).get("tracking") or {}).get("live"):
        yield
        return
    follower = subprocess.Popen([sys.executable, "-m", "convflow", "follow", "--until-pid", str(os.getpid())])
    try:
        yield
    finally:
        follower.terminate()
        follower.wait()
