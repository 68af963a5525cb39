"""`convflow repro`: `dvc repro`, watched live in MLflow when asked for, and a summary at the end."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convflow.environment import own_tools_first
from convflow.errors import ParamsError
from convflow.params import read_params

PARAMS = Path("params.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages; all of them by default")
    parser.epilog = "All other arguments go to dvc repro, as -f, -s or --dry."


def run(args: argparse.Namespace) -> int:
    """Run the pipeline and say what came out; 2 when a stage failed.

    Raises:
        ParamsError: `data.root` names no folder.
    """
    own_tools_first()
    root = Path(str((read_params(PARAMS).get("data") or {}).get("root", "")))
    if not root.is_dir() and root.parts[:2] != ("data", "raw"):  # those a stage may still make
        raise ParamsError(f"{PARAMS}: data.root {str(root)!r} is no folder; run `convflow init PATH`")
    command = [sys.executable, "-m", "dvc", "repro", *args.more, *args.targets]
    with _live():
        status = subprocess.run(command, check=False).returncode
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
