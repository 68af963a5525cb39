"""dvc.lock after a kill: DVC writes it in place after each stage, so a beginning of it may be left."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from convflow.errors import ConvflowError
from convflow.files import write_text

_HEAD = "schema: '2.0'\nstages:\n"
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})", re.MULTILINE)
_STAGE = re.compile(r"^  (?=\S)", re.MULTILINE)  # where the record of a stage begins


def mend_locks() -> None:
    """Mend the lock file of every pipeline in the project, the working folder; say so where one was torn.

    Raises:
        ConvflowError: as `mend_lock` does.
    """
    for path in [Path("dvc.lock"), Path("data/dvc.lock"), *sorted(Path().glob("studies/*/dvc.lock"))]:
        if mend_lock(path):
            print(f"convflow: {path}: was cut short by a kill; its whole records were kept", file=sys.stderr)


def mend_lock(path: Path) -> bool:
    """Take the unfinished record off the end of the lock file `path`; True if it was torn.

    Where no whole record is left, the file goes.

    What DVC no longer finds in it, its cache of runs restores; only stages whose outputs persist run anew.

    Raises:
        ConvflowError: it is no lock file even then, as after a merge with conflicts.
    """
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and _is_whole(text):
        return False
    remedy = f"resolve the conflicts, or run `git checkout {path}`"
    if _CONFLICT.search(text):
        raise ConvflowError(f"{path}: a merge with conflicts; {remedy}")
    kept = text[: max((found.start() for found in _STAGE.finditer(text)), default=0)]
    if kept == _HEAD or _HEAD.startswith(text.rstrip(" ")):
        path.unlink()  # DVC does without, but not with one that has no stages
    elif not kept or not _is_whole(kept):
        raise ConvflowError(f"{path}: not a lock file of DVC; {remedy}")
    else:
        write_text(path, kept)
    return True


def _is_whole(text: str) -> bool:
    """Whether DVC takes `text` for a lock file: each stage has its command, each of its files a path."""
    if text and not text.endswith("\n"):  # its last line was being written
        return False
    try:
        tree = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, and faster in C
    except yaml.YAMLError:
        return False
    stages = tree.get("stages") if isinstance(tree, dict) and tree.get("schema") == "2.0" else None
    return isinstance(stages, dict) and all(map(_is_record, stages.values()))


def _is_record(stage: Any) -> bool:
    if not isinstance(stage, dict) or not isinstance(stage.get("cmd"), str | list):
        return False
    lists = [stage[name] for name in ("deps", "outs") if name in stage]
    return _are_params(stage.get("params", {})) and all(map(_are_files, lists))


def _are_params(params: Any) -> bool:
    return isinstance(params, dict) and all(isinstance(values, dict) for values in params.values())


def _are_files(files: Any) -> bool:
    return isinstance(files, list) and all(isinstance(file, dict) and "path" in file for file in files)
