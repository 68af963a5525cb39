"""A real MLflow server on SQLite and on PostgreSQL: published to, predicted from, swept."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType
from PIL import Image
from real_project import make_real_project, postgresql, served, train

from convflow.files import write_json
from made_project import ARGUMENTS, add_rival
from made_promotion import ACCEPTED, LIMITS, N_IMAGES, commit, git, pack, write_members

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SOURCE = Path(__file__).parents[2] / "src"
GC = "gc: {keep: 1}\n"


class Server(NamedTuple):
    """A running server: its address, its database, its artifacts."""

    uri: str
    backend: str
    artifacts: Path


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with ExitStack() as stack:
        sqlite = f"sqlite:///{tmp_path}/server.db"
        backend = sqlite if request.param == "sqlite" else stack.enter_context(postgresql())
        artifacts = tmp_path / "kept by the server"
        yield Server(stack.enter_context(served(backend, artifacts)), backend, artifacts)


@pytest.fixture
def project(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_real_project(tmp_path / "a project")
    with (root / "params.yaml").open("a") as file:
        file.write(GC)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return root


def convflow(root: Path, *arguments: str, status: int | None = 0) -> str:
    command = [sys.executable, "-m", "convflow", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert status in (None, done.returncode), done.stdout + done.stderr
    return done.stdout


def test_published_predicted_and_swept(project: Path, server: Server) -> None:
    add_rival(project)
    client = MlflowClient(server.uri, registry_uri=server.uri)
    convflow(project, "run", "publish", *ARGUMENTS)
    train(project, seed=1)
    said = convflow(project, "run", "publish", *ARGUMENTS)
    assert said.startswith("publish: cells version 2, alias challenger")
    Image.new("L", (9, 9), 255).save(project / "white.png")
    (answer,) = json.loads(convflow(project, "predict", "--json", "white.png"))
    assert (answer["path"], answer["label"] in {"good", "bad one"}) == ("white.png", True)
    convflow(project, "predict", "--json", "--model", "models:/cells/1", "white.png")
    assert sorted(path.name for path in (project / ".convflow/downloads/cells").iterdir()) == ["1", "2"]

    told = json.loads(convflow(project, "gc", "--dry-run", "--json"))
    assert told["keeps"] == [{"version": 2, "why": "challenger"}]
    assert [one["why"] for one in told["removes"]] == [
        "old", told["removes"][1]["why"], "of version 1", "the version is gone",
    ]  # fmt: skip
    assert told["n_bytes"] == sum(one["n_bytes"] for one in told["removes"]) > 20_000
    assert len(client.search_model_versions("name = 'cells'")) == 2
    before = size_of(server.artifacts)
    lines = convflow(project, "gc").splitlines()
    assert lines[-1].startswith(f"gc: 4 things gone from {server.uri}, ")
    assert lines[-3].startswith("left: 2 in the server's bin, until it runs `mlflow gc --backend-store-uri")
    assert [one.version for one in client.search_model_versions("name = 'cells'")] == ["2"]
    runs = client.search_runs(["1"], run_view_type=ViewType.ALL)
    assert sorted((run.info.run_name, run.info.lifecycle_stage) for run in runs) == [
        ("cnn", "active"), ("cnn", "deleted"), ("svm", "active"),
    ]  # fmt: skip
    assert sorted(path.name for path in (project / ".convflow/downloads/cells").iterdir()) == ["2"]
    assert size_of(server.artifacts) == before
    convflow(project, "predict", "--json", "white.png")

    empty_the_bin(server)
    told["removes"] = [one for one in told["removes"] if not one["what"].startswith(".convflow")]
    assert before - size_of(server.artifacts) == sum(one["n_bytes"] for one in told["removes"])
    assert convflow(project, "gc").splitlines()[-1].startswith("gc: 0 things gone")
    assert "is there already; nothing to add" in convflow(project, "run", "publish", *ARGUMENTS)


def empty_the_bin(server: Server) -> None:
    """What `convflow gc` says that remains to be done on the server's machine."""
    place = ["--backend-store-uri", server.backend, "--tracking-uri", server.uri]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", *place],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("has been permanently deleted") == 2


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_promoted_rolled_back_traced_and_compared(project: Path) -> None:
    pack(project, "val", 0, 24)
    pack(project, "test", 1000, N_IMAGES)
    write_members(project)
    write_json(project / "reports/verdict.json", ACCEPTED)
    with (project / "params.yaml").open("a") as file:
        file.write(yaml.safe_dump({"promote": LIMITS.model_dump()}))
    (project / ".gitignore").write_text("*\n!params.yaml\n!.gitignore\n")
    git(project, "init", "-q")
    commit(project)
    for seed in (1, 2):
        train(project, seed)
        convflow(project, "run", "publish", *ARGUMENTS)
        said = json.loads(convflow(project, "promote", str(seed), "--force", "--reason", "a test", "--json"))
        assert said["status"] == "promoted", said
    acts = json.loads(convflow(project, "history", "--json"))["acts"]
    assert [act["version"] for act in acts] == ["1", "2"]
    assert "version 1 is champion again" in convflow(project, "rollback", "--reason", "worse")
    assert convflow(project, "rollback", status=2) == ""
    told = json.loads(convflow(project, "trace", "champion", "--json", status=None))
    assert (told["version"], told["model"]) == ("1", "cells")
    told = json.loads(convflow(project, "compare", "champion", "challenger", "--json"))
    assert [one["version"] for one in told["versions"]] == ["1", "2"]
    told = json.loads(convflow(project, "gc", "--json"))
    assert {one["version"]: one["why"] for one in told["keeps"]} == {
        2: "challenger",
        1: "champion, champion of the log",
    }
