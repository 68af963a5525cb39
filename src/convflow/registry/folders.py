"""Folders that may go: measured and removed below one root alone, and never through a link."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from convflow.registry.scratch import alive
from convflow.registry.store import Store, local_path

_RUN, _MODEL = re.compile(r"[0-9a-f]{32}"), re.compile(r"m-[0-9a-f]{32}")


class Removed(NamedTuple):
    """One thing that went, or would go: what it is, why, and the bytes that it took."""

    what: str
    why: str
    n_bytes: int


def own_folder(root: Path, place: str, name: str) -> Path | None:
    """The folder that MLflow made below `root` for the run or logged model `name` alone; else None.

    `place` is where its artifacts are said to be; elsewhere, or behind a link, it is not ours to remove.
    """
    path = local_path(place)
    home = root / "models" if _MODEL.fullmatch(name) else root
    if path is None or path != home / name / "artifacts":
        return None
    return path.parent if not home.is_symlink() and not path.parent.is_symlink() else None


def stray_folders(root: Path) -> list[Path]:
    """All folders below `root` that bear the name of a run or of a logged model; links are not among them."""
    models = [] if (root / "models").is_symlink() else _folders(root / "models", _MODEL)
    return [*_folders(root, _RUN), *models]


def n_bytes_of(path: Path) -> int:
    """The bytes of all files below; a link counts for itself, whatever it points to."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if os.path.lexists(path) else 0
    total = 0
    for folder, _, names in os.walk(path):
        total += sum(Path(folder, name).lstat().st_size for name in names)
    return total


def remove(path: Path) -> None:
    """Remove a file or a folder, as often as it is asked; a link itself, never what it points to."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)
    except FileNotFoundError:  # another process was first
        pass


def clear(path: Path, why: str, *, dry_run: bool) -> Removed:
    """Remove `path`, unless it is only asked what that would free."""
    removed = Removed(shown(path), why, n_bytes_of(path))
    if not dry_run:
        remove(path)
    return removed


def clear_leavings(
    store: Store, exists: Callable[[str, str], bool] | None, *, dry_run: bool
) -> Iterator[Removed]:
    """Clear what killed processes left in .convflow here and beside the database, and old downloads.

    `exists` tells whether the store has a version; without it no download is looked at.
    """
    for path, why in _leavings(Path.cwd() / ".convflow", store.database, exists):
        yield clear(path, why, dry_run=dry_run)


def shown(path: Path) -> str:
    """The path for messages: short where it lies in the folder we run in."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _leavings(
    own: Path, database: Path | None, exists: Callable[[str, str], bool] | None
) -> Iterator[tuple[Path, str]]:
    ended = "its process has ended"
    for path in _entries(own / "tmp"):
        if _is_dead(path.name.partition("-")[0]):
            yield path, ended
    for path in _entries(database.parent) if database else []:
        found = (
            re.fullmatch(rf"\.{re.escape(database.name)}\.(\d+)\.partial.*", path.name) if database else None
        )
        if found and _is_dead(found[1]):
            yield path, ended
    for path in [path for model in _entries(own / "downloads") for path in _entries(model)]:
        found = re.fullmatch(r"\.\d+\.(\d+)\.partial", path.name)
        if found and _is_dead(found[1]):
            yield path, ended
        elif exists and path.name.isdigit() and not exists(path.parent.name, path.name):
            yield path, "the version is gone"


def _is_dead(pid: str) -> bool:
    return pid.isdigit() and not alive(int(pid))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _folders(home: Path, form: re.Pattern[str]) -> list[Path]:
    if not home.is_dir():
        return []
    with os.scandir(home) as entries:
        found = [
            one.name for one in entries if form.fullmatch(one.name) and one.is_dir(follow_symlinks=False)
        ]
    return [home / name for name in sorted(found)]
