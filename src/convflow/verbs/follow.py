"""`convflow follow`: show running trainings live in MLflow, from beside them."""

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from convflow.errors import ParamsError
from convflow.params import load_section
from convflow.registry.door import open_door
from convflow.registry.follow import Live, follow
from convflow.registry.store import Tracking, open_store

PARAMS = Path("params.yaml")
LIVE = Path(".convflow/live")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--until-pid", type=int, metavar="PID", help="end when this process ends (default: Ctrl-C)"
    )
    parser.add_argument(
        "--wait", type=float, default=1.0, metavar="SECONDS", help="between two looks (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """Follow until the process named ends or Ctrl-C; returns at once when `tracking.live` is false.

    Raises:
        ParamsError: a waiting time that is none.
    """
    if not args.wait > 0:
        raise ParamsError(f"--wait {args.wait}: give a number of seconds above 0")
    tracking = load_section(PARAMS, "tracking", Tracking)
    if not tracking.live:
        return 0
    store = open_store(tracking, Path.cwd())

    def open_live(model: str) -> Live:
        live: Live = open_door("live").LiveRun(store, model)
        return live

    os.nice(10)  # the training comes first
    with suppress(KeyboardInterrupt):
        follow(LIVE, open_live, _alive(args.until_pid), wait_s=args.wait)
    return 0


def _alive(pid: int | None) -> Callable[[], bool]:
    def alive() -> bool:
        if pid is None:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's, and alive
            return True
        return True

    return alive
