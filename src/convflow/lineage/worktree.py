"""A clean copy of the project at a commit, in a git worktree of its own that is gone afterwards."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from convflow.errors import ModelError
from convflow.registry.provenance import CUT, ask_git
from convflow.registry.scratch import alive

HOME = Path(".convflow/reproduce")
_KEPT = "kept-"


@contextmanager
def worktree(root: Path, commit: str, named: str, *, keep: bool) -> Iterator[Path]:
    """The project's folder as it was at `commit`; what killed runs left is swept away first.

    Afterwards the copy is removed, also after an error or when this process is told to end; with `keep`
    it stays, as `kept_place` says.

    Raises:
        ModelError: git knows no such commit, or cannot make the copy.
    """
    sweep(root)
    prefix = (ask_git(root, "rev-parse", "--show-prefix") or "").strip()
    if ask_git(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise ModelError(f"commit {commit[:12]}: not in this repository; `git fetch` it, then try again")
    place = root / HOME / f"{os.getpid()}-{named}"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _ended_gently():
            _make(root, place, commit)
            yield place / prefix
    finally:
        if keep and place.is_dir():
            _remove(root, kept_place(root, named))
            _git(root, "worktree", "move", str(place), str(kept_place(root, named)))
        else:
            _remove(root, place)


def kept_place(root: Path, named: str) -> Path:
    """Where a copy stays that is to be kept."""
    return root / HOME / f"{_KEPT}{named}"


def sweep(root: Path) -> None:
    """Remove the copies of processes that have ended, and end what these left running in them."""
    home = root / HOME
    for left in sorted(home.iterdir()) if home.is_dir() else []:
        pid = left.name.partition("-")[0]
        if pid.isdigit() and not alive(int(pid)):
            _end_all_in(left)
            _remove(root, left)


def apply_changes(tree: Path, diff: Path) -> list[str]:
    """Apply changes that were not committed; returns the files git did not know, which no diff holds.

    Raises:
        ModelError: the diff was cut, or does not fit the commit.
    """
    text = diff.read_text(encoding="utf-8")
    if CUT in text[-200:]:
        raise ModelError(
            f"{diff}: the changes that were not committed were cut, there were so many; such a version "
            "cannot be made anew: commit, then publish again"
        )
    status, mark, changes = text.partition("\ndiff --git ")
    if mark:
        done = subprocess.run(
            ["git", "-C", str(tree), "apply", "--whitespace=nowarn", "-"],
            input=f"diff --git {changes}".encode(),
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", errors="replace").split())[:200]
            raise ModelError(f"{diff}: the changes that were not committed cannot be applied ({said})")
    return [line[3:] for line in status.splitlines() if line.startswith("?? ")]


def _make(root: Path, place: Path, commit: str) -> None:
    done = _git(root, "worktree", "add", "--quiet", "--detach", str(place), commit)
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", errors="replace").split())[:200]
        raise ModelError(f"commit {commit[:12]}: git could not write it to {place} ({said})")


def _remove(root: Path, place: Path) -> None:
    """Twice --force: one that was being made when it was killed is locked."""
    _git(root, "worktree", "remove", "--force", "--force", str(place))
    shutil.rmtree(place, ignore_errors=True)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)


def _end_all_in(place: Path) -> None:
    """End what runs there: the stage of a process that was killed goes on by itself."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(place.resolve()):
                process.kill()


@contextmanager
def _ended_gently() -> Iterator[None]:
    """A signal that asks us to end becomes an exception, so that all is put in order first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    wanted = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
