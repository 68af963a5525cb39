"""Follow the history files of a running training and hand each new epoch on; light until there is one."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from convflow.registry.record import parse_epoch

Epoch = tuple[int, dict[str, float]]


class Live(Protocol):
    """Where epochs are shown while a training runs."""

    def show(self, epochs: list[Epoch]) -> None:
        """Show further epochs."""

    def close(self) -> None:
        """No more will come."""


class Tail:
    """One growing history.jsonl; a file that became shorter is a new training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def read(self) -> tuple[bool, list[Epoch]]:
        """Whether the file began anew since the last look, and its new whole lines."""
        try:
            size = self.path.stat().st_size
            fresh = size < self._offset
            start = 0 if fresh else self._offset
            with self.path.open("rb") as stream:
                stream.seek(start)
                whole = stream.read().rpartition(b"\n")
        except OSError:  # replaced or removed at this moment: there will be another look
            return False, []
        self._offset = start + len(whole[0]) + len(whole[1])
        return fresh, [epoch for line in whole[0].splitlines() if (epoch := _epoch(line)) is not None]


def follow(
    folder: Path, open_live: Callable[[str], Live], go_on: Callable[[], bool], *, wait_s: float
) -> None:
    """Show every history below `folder` that grows from now on, until `go_on()` is false.

    A file that does not change is an old training's and stays unopened, so nothing heavy is loaded for
    it. Nothing that goes wrong here may harm the training: it costs one line on stderr, and that
    training is followed no more.
    """
    known = {path: _stamp(path) for path in folder.glob("*/history.jsonl")}
    shown: dict[Path, _Follower] = {}
    try:
        last = False
        while not last:
            last = not go_on()  # asked before the look, so that the final epochs are still seen
            for path in sorted(folder.glob("*/history.jsonl")):
                if path not in shown and _stamp(path) != known.get(path):
                    shown[path] = _Follower(path, open_live)
            for follower in shown.values():
                follower.look()
            time.sleep(0 if last else wait_s)
    finally:
        for follower in shown.values():
            follower.close()


class _Follower:
    def __init__(self, path: Path, open_live: Callable[[str], Live]) -> None:
        self._tail = Tail(path)
        self._open = open_live
        self._live: Live | None = None
        self._failed = False

    def look(self) -> None:
        if not self._failed:
            self._guard(self._look)

    def close(self) -> None:
        if self._live is not None and not self._failed:
            self._guard(self._live.close)

    def _look(self) -> None:
        fresh, epochs = self._tail.read()
        if self._live is None or fresh:
            self._live = self._open(self._tail.path.parent.name) if epochs else None
        if self._live is not None and epochs:
            self._live.show(epochs)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  a picture of the training must not stop the training
            self._failed = True
            text = " ".join(str(error).split())[:200]
            print(f"convflow: {self._tail.path}: not shown live any more ({text})", file=sys.stderr)


def _epoch(line: bytes) -> Epoch | None:
    try:
        return parse_epoch(line.decode("utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
