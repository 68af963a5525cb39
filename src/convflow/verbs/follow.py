"""`convflow follow`: show running trainings live in MLflow, from beside them."""

import argparse
import os
import signal
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as well as Ctrl-C does
    with suppress(KeyboardInterrupt):
        follow(LIVE, open_live, _alive(args.until_pid), wait_s=args.wait)
    return 0


def _alive(pid: int | None) -> Callable[[], bool]:
    def alive() -> bool:
        if pid is None:
            return True
        if _has_ended(pid):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's, and alive
            return True
        return True

    return alive


def _has_ended(pid: int) -> bool:
    """Whether Linux says the process is a zombie: ended, but still listed until its parent asks."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # no such process, or no Linux: the signal will tell
    return state.rpartition(")")[2].split()[:1] == ["Z"]
