"""Versions that lie elsewhere are copied once; a copy from another store does not pass for them."""

from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from convflow.registry import fetch as module
from convflow.registry.store import Store


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that versions were copied of; version 1 of each store has its own."""
    found: list[str] = []

    def client(uri: str, registry_uri: str) -> SimpleNamespace:
        version = SimpleNamespace(name="cells", version="1", run_id=f"run-of-{uri[-1]}")
        return SimpleNamespace(
            get_model_version_by_alias=lambda name, alias: version,
            get_model_version=lambda name, number: version,
        )

    def download(artifact_uri: str, dst_path: str, tracking_uri: str) -> None:
        found.append(f"run-of-{tracking_uri[-1]}")
        Path(dst_path, "MLmodel").write_text(f"model_id: m\nrun_id: {found[-1]}\nsignature: null\n")

    monkeypatch.setattr(module, "MlflowClient", client)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    monkeypatch.setattr(mlflow, "set_registry_uri", lambda uri: None)
    return found


def test_a_version_is_copied_once(tmp_path: Path, copied: list[str]) -> None:
    store = Store("databricks://a", "tests", tmp_path)
    for uri in ("models:/cells@champion", "models:/cells/1"):
        assert module.fetch(store, uri, tmp_path) == ("1", tmp_path / "cells/1")
    assert copied == ["run-of-a"]


def test_the_copy_of_another_store_is_replaced(tmp_path: Path, copied: list[str]) -> None:
    for uri in ("databricks://a", "databricks://b"):
        _, folder = module.fetch(Store(uri, "tests", tmp_path), "models:/cells/1", tmp_path)
    assert copied == ["run-of-a", "run-of-b"]
    assert "run_id: run-of-b" in (folder / "MLmodel").read_text()
