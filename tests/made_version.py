"""A project in git and a version of it, as a registry tells of it: no MLflow, no DVC."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from convflow.files import digest_file, digest_json, write_json, write_text
from convflow.lineage.data_links import digest_sides, members
from convflow.registry.provenance import dvc_lock_digest, git_state
from convflow.registry.record import flat_params
from convflow.registry.source import gather_source
from convflow.registry.version import Version
from convflow.tables import write_table

RAW = "0123456789abcdef0123456789abcdef.dir"
PARAMS: dict[str, Any] = {
    "data": {"root": "data/raw/set"},
    "split": {"method": "stratified", "seed": 3},
    "train": {"epochs": 2},
    "evaluate": {"models": ["cnn", "svm"], "candidate": "cnn", "positive": None},
    "publish": {"name": "cells", "tolerance": 1e-4},
}
LOCK = {
    "scan": {
        "deps": [{"path": "data/raw/set", "hash": "md5", "md5": RAW, "nfiles": 4}],
        "outs": [{"path": "data/scan", "md5": "a.dir"}],
    },
    "split": {"deps": [{"path": "data/scan"}], "outs": [{"path": "data/splits"}]},
    "train": {
        "deps": [{"path": "data/splits"}, {"path": "src/net.py", "md5": "8b1a9953c4611296a827abf8c47804d7"}],
        "outs": [{"path": "models/cnn"}, {"path": "reports/timing/fit-cnn.json"}],
    },
    "predict@cnn": {
        "deps": [{"path": "models/cnn"}],
        "outs": [{"path": "predictions/cnn.parquet"}, {"path": "reports/timing/predict-cnn.json"}],
    },
    "evaluate": {"deps": [{"path": "predictions"}], "outs": [{"path": "reports/evaluation"}]},
}  # the code's MD5 is that of "Hello"


def git(root: Path, *arguments: str) -> str:
    """Run git in `root`."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def make_git_project(root: Path) -> Path:
    """A project with one commit, its settings, lock files, split and pictures' folder."""
    write_text(root / "params.yaml", yaml.safe_dump(PARAMS))
    write_text(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": LOCK}))
    write_text(root / "requirements.lock", "torch==1\n")
    write_text(root / "src/net.py", "Hello")
    write_text(root / ".gitignore", "/data/\n/runs/\n/.convflow/\n")
    names = [f"{n}.png" for n in range(4)]
    sides = ["train", "train", "val", "test"]
    columns = {"path": names, "sha256": names, "label": ["a", "b", "a", "b"], "side": sides}
    write_table(
        root / "data/splits/members.parquet", pa.table(columns), about={"method": "stratified", "seed": 3}
    )
    (root / "data/raw/set").mkdir(parents=True)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first words")
    return root


def make_cache(root: Path, *, less: int = 0) -> Path:
    """DVC's cache with the pictures, or without the last `less` of them."""
    files = root / "files/md5"
    digests = [f"{n:02d}ff" for n in range(4)]
    write_text(files / RAW[:2] / RAW[2:], json.dumps([{"md5": one, "relpath": one} for one in digests]))
    for one in digests[: 4 - less]:
        write_text(files / one[:2] / one[2:], "x")
    return root


def make_version(root: Path, number: str = "1", **tags: str) -> Version:
    """A version of the project at `root` as it lies there; its run's files are in runs/NUMBER."""
    run = root / "runs" / number
    gather_source(root, run / "source")
    rows = members(root / "data/splits/members.parquet")
    (run / "splits").mkdir()
    (run / "splits/members.parquet").write_bytes((root / "data/splits/members.parquet").read_bytes())
    state = git_state(root)
    if state.diff:
        write_text(run / "git/changes.diff", state.diff)
    told = {
        "model": "cnn", "git.commit": state.commit, "git.dirty": state.dirty,
        "dvc_lock": dvc_lock_digest(root / "dvc.lock", but="publish"),
        "data": digest_json([row[:3] for row in rows]), "sides": digest_sides(rows),
        "requirements_lock": digest_file(root / "requirements.lock"), "device": "cpu", "python": "3.9",
        "torch": "1", "protocol": "one split", "verdict": "accepted", "verdict.sentence": "all is well",
    }  # fmt: skip
    settings = yaml.safe_load((root / "params.yaml").read_text())

    def fetch(name: str) -> Path | None:
        return run / name if (run / name).is_file() else None

    return Version(
        name="cells",
        version=number,
        aliases=("challenger",),
        created="2030-01-01T00:00:00+00:00",
        run_id="f" * 32,
        status="FINISHED",
        tags={f"convflow.{name}": value for name, value in (told | tags).items()},
        params=flat_params(settings),
        store="sqlite:///mlflow.db",
        fetch=fetch,
    )


def add_results(
    version: Version, root: Path, prob_N: list[float], *, images: list[str], labels: list[str] | None = None
) -> Version:
    """Predictions of class "b" on test, and figures; tagged with the digest of the predictions."""
    run = root / "runs" / version.version
    n = len(images)
    p_b = np.array(prob_N, np.float32)
    table = {
        "path": images, "sha256": images, "split": ["test"] * n,
        "label": labels or [("a", "b")[place % 2] for place in range(n)],
        "group": pa.array([None] * n, pa.string()), "weight": [1.0] * n, "p_a": 1 - p_b, "p_b": p_b,
    }  # fmt: skip
    about = {"classes": ["a", "b"], "model": "cnn"}
    write_table(run / "predictions/cnn.parquet", pa.table(table), about=about)
    entry = {"value": 0.5, "low": 0.25, "high": 0.75}
    write_json(
        run / "evaluation/metrics.json",
        {"cnn": {"test": {"accuracy": entry}, "intervals": {"n_draws": 500, "seed": 1}}},
    )
    cost = {"size_bytes": 1000, "latency_ms": {"1": {"median": 2.0}}}
    write_json(run / "evaluation/leaderboard.json", {"models": [{"name": "cnn", "cost": cost}]})
    return with_tags(version, **{"digest.predictions": digest_file(run / "predictions/cnn.parquet")})


def with_tags(version: Version, **tags: str) -> Version:
    """The same version with other tags."""
    more: Mapping[str, str] = {f"convflow.{name}": value for name, value in tags.items()}
    return replace(version, tags={**version.tags, **more})
