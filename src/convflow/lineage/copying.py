"""The copy of the project made ready: code, settings, memory and pictures as they were."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import yaml

from convflow.errors import ModelError
from convflow.files import digest_file, write_text
from convflow.lineage.dvc import ask_dvc
from convflow.lineage.graph import code_of
from convflow.lineage.links import short
from convflow.lineage.raw_data import OWN_CACHE, bring, use_cache
from convflow.lineage.recipe import EVALUATE, Recipe
from convflow.lineage.worktree import apply_changes
from convflow.registry.source import KEPT, PACKAGES, PARAMS

_WEIGHTS = Path(".convflow/weights")  # fetched once, checked by their digests at each use


def prepare(recipe: Recipe, project: Path, tree: Path) -> tuple[list[str], list[str]]:
    """Put into `tree` what git does not hold.

    Returns:
        The stages to run, up to the predictions; and what is to be known, a line each.

    Raises:
        ModelError: the code of the time cannot be had.
        DataError: nor can the pictures.
    """
    notes = [f"code: commit {short(recipe.commit)}" + (", and the stored changes" if recipe.diff else "")]
    if recipe.diff:
        apply_changes(tree, recipe.diff)
    for name in KEPT:
        kept = recipe.version.kept(name)
        if kept is not None:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, tree / name)
    _write(recipe.settings, tree)
    order = recipe.order((ask_dvc(tree, "stage", "list", "--name-only") or "").split())
    notes += _check_code(recipe, order, tree)
    notes += _check_environment(recipe, project)
    folder, whence = bring(project, tree, recipe.raw)
    notes.append(f"raw data: {recipe.raw['path']}, {whence}")
    if folder is not None:
        _write({**recipe.settings, "data": {**recipe.settings["data"], "root": str(folder)}}, tree)
    _link_weights(recipe, project, tree)
    use_cache(tree, tree / OWN_CACHE)
    return order, notes


def _write(settings: dict[str, Any], tree: Path) -> None:
    write_text(tree / PARAMS, yaml.safe_dump(settings, allow_unicode=True))


def _check_code(recipe: Recipe, order: list[str], tree: Path) -> list[str]:
    """dvc.lock knows each source file that ran: those here have to be the same."""
    wanted = code_of(recipe.stages, [*order, EVALUATE])
    missing = [path for path in wanted if not (tree / path).is_file()]
    if missing:
        raise ModelError(
            f"{missing[0]}: ran, but is neither in commit {short(recipe.commit)} nor in the stored changes "
            "(git did not know it); add and commit it, then publish again"
        )
    other = [path for path, md5 in wanted.items() if _md5(tree / path) != md5]
    if other:
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        return [f"code: {other[0]}{more}: not as it ran, by dvc.lock; the commit's is taken"]
    return [f"code: {len(wanted)} source files, each as it ran, by dvc.lock"]


def _check_environment(recipe: Recipe, project: Path) -> list[str]:
    wanted = recipe.version.tag("requirements_lock")
    here = digest_file(project / PACKAGES) if (project / PACKAGES).is_file() else None
    notes = []
    if wanted != here:
        notes.append(
            f"environment: {PACKAGES} was {short(wanted)}, is {short(here)} now; the present one runs"
        )
    if device := recipe.version.tag("device"):
        notes.append(f"device: registered from {device}")
    return notes


def _link_weights(recipe: Recipe, project: Path, tree: Path) -> None:
    """Weights that lie in the project, but not in git: the stage that reads them checks their digest."""
    source = str((recipe.settings.get("embed") or {}).get("source") or "")
    for name in (_WEIGHTS, Path(source)):
        inside = name.parts and not name.is_absolute() and ".." not in name.parts
        if inside and (project / name).exists() and not (tree / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).symlink_to((project / name).resolve())


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
