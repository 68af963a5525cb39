"""convflow ui: MLflow on the project's own store."""

import argparse
import os
from pathlib import Path

import pytest

from convflow.errors import ParamsError, TrackingError
from convflow.files import write_text
from convflow.verbs import ui
from made_project import PARAMS


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ui, "quiet_tools", lambda root: None)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    write_text(tmp_path / "params.yaml", PARAMS)
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda name, command: commands.append(command))
    return commands


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    ui.add_arguments(parser)
    return ui.run(parser.parse_args(arguments))


def test_mlflow_is_started_on_the_store_of_params(
    tmp_path: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").touch()
    assert run("--port", "5001") == 0
    assert capsys.readouterr().out == (
        "MLflow: http://127.0.0.1:5001 shows sqlite:///mlflow.db; Ctrl-C ends it\n"
    )
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    artifacts = ["--artifacts-destination", f"{tmp_path}/mlartifacts"]
    where = ["--host", "127.0.0.1", "--port", "5001", "--workers", "1"]
    assert started == [["mlflow", "server", *store, *artifacts, *where]]


def test_a_server_is_only_named(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pw@host/mlflow")
    assert run() == 0
    assert (started, capsys.readouterr().out) == ([], "MLflow: https://***@host/mlflow\n")


def test_before_anything_is_published_the_remedy_is_named(started: list[list[str]]) -> None:
    with pytest.raises(TrackingError, match=r"^sqlite:///mlflow.db: nothing is there yet; run `dvc repro`"):
        run()


def test_a_port_that_is_none_is_refused(started: list[list[str]]) -> None:
    with pytest.raises(ParamsError, match=r"^--port 70000: give a number from 1 to 65535$"):
        run("--port", "70000")
