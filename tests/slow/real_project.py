"""The made project with a network of our own, servers to publish it to, and the commands run in it."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from convflow.files import read_json, write_json
from convflow.learning.bundle import save_bundle
from convflow.learning.predictor import load_predictor
from convflow.nets.registry import build
from convflow.tables import read_table, write_table
from made_project import CLASSES, SIDE, make_project

_ARCH_ARGS = {"width": 8, "dropout": 0.0}


def make_real_project(root: Path, seed: int = 0) -> Path:
    """The made project at `root`, with a network of our own in place of the stand-in."""
    make_project(root)
    (root / "models/cnn/weights.txt").unlink()
    train(root, seed)
    return root


def train(root: Path, seed: int) -> None:
    """Put another network there, with its predictions; the figures change with it."""
    torch.manual_seed(seed)
    network = build("residual", 2, 1, SIDE, _ARCH_ARGS)
    contract = {"size_px": SIDE, "channels": 1, "fit": "stretch"}
    card = {
        "kind": "network",
        "name": "cnn",
        "arch": "residual",
        "arch_args": _ARCH_ARGS,
        "normalise": "dataset",
    }
    card |= {"classes": CLASSES, "input": contract, "best_epoch": 2, "n_parameters": 1}
    save_bundle(root / "models/cnn", network.state_dict(), card)
    predictor, paths, probs = load_predictor(root / "models/cnn"), [], []
    for side in ("val", "test"):
        packed = root / f"data/packed/{side}/{SIDE}"
        if packed.is_dir():
            paths += read_table(packed / "rows.parquet", columns=["path"])["path"].to_pylist()
            probs.append(predictor.predict_proba(np.load(packed / "pixels.npy")))
    prob_NK = np.concatenate(probs)
    answers = {
        "path": paths,
        "sha256": paths,
        **{f"p_{name}": prob_NK[:, k] for k, name in enumerate(CLASSES)},
    }
    write_table(root / "predictions/cnn.parquet", pa.table(answers))
    if seed:
        metrics = root / "reports/evaluation/metrics.json"
        figures = read_json(metrics)
        figures["cnn"]["test"]["accuracy"] = 0.9 + seed / 100
        write_json(metrics, figures)


@contextmanager
def served(backend: str, artifacts: Path) -> Iterator[str]:
    """The address of a real `mlflow server` on `backend` that keeps artifacts in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--backend-store-uri", backend, "--artifacts-destination", str(artifacts)]
    command = ["-m", "mlflow", "server", *place, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(
        [sys.executable, *command], env=environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        uri = f"http://127.0.0.1:{port}"
        try:
            _wait(uri, process)
            yield uri
        finally:
            process.terminate()


def _wait(uri: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()  # noqa: S310
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "mlflow server ended"
            time.sleep(0.5)
    raise AssertionError("mlflow server does not answer within two minutes")


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database in a PostgreSQL of its own, reached by a socket in its folder."""
    tools = _tools()
    with tempfile.TemporaryDirectory(
        prefix="pg", ignore_cleanup_errors=True
    ) as home:  # a socket's path is short
        user = _somebody()
        if user is not None:
            os.chown(home, *user)
        run = _Run(tools, user)
        run("initdb", "-D", f"{home}/data", "-U", "convflow", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -c fsync=off -k {home}"
        run("pg_ctl", "start", "-w", "-D", f"{home}/data", "-l", f"{home}/log", "-o", options)
        try:
            yield f"postgresql+psycopg2://convflow@/postgres?host={home}"
        finally:
            run("pg_ctl", "stop", "-m", "immediate", "-D", f"{home}/data")


def _tools() -> Path:
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [Path(found).resolve().parent] if found else debian
    if not places or not (places[0] / "initdb").exists():
        pytest.skip("PostgreSQL is not installed (no initdb on PATH or in /usr/lib/postgresql/*/bin)")
    return places[0]


def _somebody() -> tuple[int, int] | None:
    """Whom initdb runs as where we are root, whom it refuses; None where we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    pytest.skip("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


class _Run:
    """Runs PostgreSQL's tools as somebody who is not root."""

    def __init__(self, tools: Path, user: tuple[int, int] | None) -> None:
        self._tools = tools
        self._as = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}

    def __call__(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._tools / tool, *arguments],
            cwd="/", stdout=subprocess.PIPE if tool != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT, text=True, check=False, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
