"""Where a run comes from: commit, lock files, versions. Facts for tags, never part of a key."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from convflow import __version__
from convflow.files import digest_file, digest_json, read_json
from convflow.registry.store import redact

NONE = "none"
UNKNOWN = "unknown"
MAX_DIFF = 256 * 1024
CUT = "\n... cut at "  # and of how many characters: the last line of a diff that is not whole
_OF_TRAINING = ("device", "python", "torch", "requirements_lock")
# Measured times stand in these, in some of them beside figures.
_CLOCKS = ("reports/timing/", "reports/evaluation/", "reports/verdict.")
# dvc.lock is written while the pipeline runs, and its digest is a tag of its own; the log of promotions tells
# of versions and makes none.
_ALL_THAT_COUNTS = (
    "--",
    ":/",
    ":(top,exclude,glob)**/dvc.lock",
    ":(top,exclude,glob)**/promotions.jsonl",
)
# The memory of the split is kept whole (see source): a line per image would fill the diff.
_NOT_IN_THE_DIFF = (":(top,exclude,glob)**/data/sides.csv",)


@dataclass(frozen=True)
class GitState:
    """The commit, whether the files differ from it, and how; `NONE` where there is no repository."""

    commit: str
    dirty: str
    diff: str


def git_state(root: Path) -> GitState:
    """Look at the repository `root` lies in; dvc.lock and promotions.jsonl do not count as changes."""
    commit = ask_git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return GitState(NONE, NONE, "")
    changes = ask_git(root, "status", "--porcelain", "--untracked-files=normal", *_ALL_THAT_COUNTS) or ""
    if not changes.strip():
        return GitState(commit.strip(), "false", "")
    asked = (*_ALL_THAT_COUNTS, *_NOT_IN_THE_DIFF)
    diff = ask_git(root, "diff", "--no-color", "--no-ext-diff", "HEAD", *asked) or ""
    text = redact(f"{changes}\n{diff}")
    cut = f"{CUT}{MAX_DIFF:,} characters\n" if len(text) > MAX_DIFF else ""
    return GitState(commit.strip(), "true", text[:MAX_DIFF] + cut)


def dvc_lock_digest(path: Path, *, but: str) -> str:
    """Digest of the stages in dvc.lock without stage `but`, which is written only after it has run.

    Nor do the files count that hold clocks: runs that are the same shall agree.
    """
    try:
        stages = (yaml.safe_load(path.read_text(encoding="utf-8")) or {})["stages"]
        return digest_json({name: _timeless(stage) for name, stage in stages.items() if name != but})
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return NONE


def facts(root: Path, git: GitState) -> dict[str, str]:
    """Tags on the code: its digest, the commit, convflow's version, the stages of dvc.lock."""
    return {
        "convflow.code": code_digest(),
        "convflow.git.commit": git.commit,
        "convflow.git.dirty": git.dirty,
        "convflow.version": __version__,
        "convflow.dvc_lock": dvc_lock_digest(root / "dvc.lock", but="publish"),
    }


def code_digest() -> str:
    """Digest of the sources of the convflow that runs here: a copy of them lies in every logged model."""
    home = Path(__file__).parents[1]
    return digest_json({path.relative_to(home).as_posix(): digest_file(path) for path in home.rglob("*.py")})


def is_committed_now(tags: Mapping[str, str], root: Path) -> bool:
    """Whether what was published with these `tags` from changed files has been committed since.

    That the files here still make the model is for DVC to see, which runs publish only then; that the
    logged model holds the committed code shows in its digest.
    """
    if tags.get("convflow.git.dirty") in (None, "false") or tags.get("convflow.code") != code_digest():
        return False
    return git_state(root).dirty == "false"


def version_of(distribution: str) -> str:
    """The installed version of a distribution."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NONE


def trained_with(timing: Path, model: str) -> dict[str, str]:
    """Tags on the software and the kind of machine `model` was trained with; `UNKNOWN` where nothing tells.

    They are the training's own words, in fit-<model>.json: a model restored from a cache was trained
    elsewhere.
    """
    file = timing / f"fit-{model}.json"
    record: Any = read_json(file) if file.is_file() else {}
    said = record if isinstance(record, dict) else {}
    return {f"convflow.{name}": str(said.get(name) or UNKNOWN) for name in _OF_TRAINING}


def _timeless(stage: dict[str, Any]) -> dict[str, Any]:
    kept = dict(stage)
    for part in ("deps", "outs"):
        if part in kept:
            kept[part] = [one for one in kept[part] if not f"{one['path']}/".startswith(_CLOCKS)]
    return kept


def ask_git(root: Path, *arguments: str) -> str | None:
    """What git answers in the folder `root`; None where it fails or is not there."""
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            timeout=60,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")
