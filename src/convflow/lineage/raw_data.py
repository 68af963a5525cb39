"""The raw pictures of a version, brought into a copy of the project: all that comes from a cache."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from convflow.errors import DataError
from convflow.files import write_text
from convflow.lineage.dvc import ask_dvc, cache_folder, remotes
from convflow.lineage.links import short

_NAME = "raw-data-of-the-version"
_LOCAL = Path(".dvc/config.local")
OWN_CACHE = Path(".dvc/own-cache")  # of a copy: there is nothing in it to restore


def bring(project: Path, tree: Path, record: Mapping[str, Any]) -> tuple[Path | None, str]:
    """Get the pictures that `record` tells of.

    Args:
        project: the user's folder, which is read only.
        tree: the copy of it.
        record: path, md5, ... of the folder, as dvc.lock has it.

    Returns:
        The folder to take instead of the one in `tree` (None: they lie there), and where they come from.

    Raises:
        DataError: they are nowhere.
    """
    path, digest = str(record["path"]), str(record.get("md5"))
    inside = not Path(path).is_absolute() and ".." not in Path(path).parts
    if inside and (tree / path).is_dir():
        return None, "as git has it"
    if inside and (found := _from_dvc(project, tree, record)):
        return None, found
    if (project / path).is_dir():
        return (project / path).resolve(), f"the folder itself ({project / path}): DVC's cache has no copy"
    raise DataError(
        f"{path}: no such folder, and neither DVC's cache nor a remote has it (md5 {short(digest)}); "
        "put the pictures back, or `dvc pull` them"
    )


def _from_dvc(project: Path, tree: Path, record: Mapping[str, Any]) -> str | None:
    """Have DVC put them into the copy: by their digest, whatever the project's own files name now."""
    kept = {name: record[name] for name in ("md5", "hash", "size", "nfiles") if name in record}
    pointer = tree / f"{_NAME}.dvc"
    write_text(pointer, yaml.safe_dump({"outs": [{**kept, "path": _NAME}]}))
    try:
        if not _fetched(project, tree, pointer):
            return None
        place = tree / str(record["path"])
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(tree / _NAME, place)
    finally:
        pointer.unlink(missing_ok=True)
        (tree / _LOCAL).unlink(missing_ok=True)
        shutil.rmtree(tree / _NAME, ignore_errors=True)
    return "from DVC, by the digest in dvc.lock"


def _fetched(project: Path, tree: Path, pointer: Path) -> bool:
    """From the project's cache, else from a remote into a cache of the copy's own."""
    cache = cache_folder(project)
    if cache is not None and _in_cache(cache, str(yaml.safe_load(pointer.read_text())["outs"][0]["md5"])):
        use_cache(tree, cache)
        if ask_dvc(tree, "checkout", pointer.name) is not None:
            return True
        shutil.rmtree(tree / _NAME, ignore_errors=True)
    known = remotes(project)
    if not known:
        return False
    if (project / _LOCAL).is_file():  # the names and passwords of remotes
        shutil.copyfile(project / _LOCAL, tree / _LOCAL)
    for name, url in known.items():
        ask_dvc(tree, "remote", "add", "--local", "--force", name, url)
    ask_dvc(tree, "cache", "dir", "--local", str(tree / OWN_CACHE))
    return ask_dvc(tree, "pull", pointer.name) is not None


def use_cache(tree: Path, cache: Path) -> None:
    """From now on DVC takes `cache` for its cache in the copy, and no remote."""
    write_text(tree / _LOCAL, f'[cache]\n    dir = "{cache}"\n')


def _in_cache(cache: Path, digest: str) -> bool:
    return (cache / "files" / "md5" / digest[:2] / digest[2:]).is_file()
