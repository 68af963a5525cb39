"""Registered versions that only MLflow can find or copy: those on a server or in object storage."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.files import whole_folder
from convflow.registry import rest
from convflow.registry.store import Store


def fetch(store: Store, uri: str, downloads: Path) -> tuple[str, Path]:
    """Number and local folder of the version `uri` names; copied to `downloads` unless it is there.

    A copy of another store's version of the same number, or of one from before the store was made anew, is
    replaced: numbers repeat, runs do not.

    Raises:
        TrackingError: no such version, or its files cannot be had.
    """
    version = _version(store, uri)
    name, number = str(version.name), str(version.version)
    folder = downloads / name / number
    try:
        if not _is_of(str(version.run_id), folder / "MLmodel"):
            with whole_folder(folder) as partial:
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"models:/{name}/{number}",
                    dst_path=str(partial),
                    tracking_uri=store.uri,
                )
    except (MlflowException, OSError) as error:
        raise _refused(store, uri, error) from None
    return number, folder


def exists(store: Store, name: str, alias: str) -> bool:
    """Whether `alias` of model `name` exists."""
    try:
        _version(store, f"models:/{name}@{alias}")
    except TrackingError:
        return False
    return True


def _is_of(run_id: str, about: Path) -> bool:
    return about.is_file() and f"\nrun_id: {run_id}\n" in about.read_text(encoding="utf-8")


def _version(store: Store, uri: str) -> ModelVersion:
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{uri}: {store.shown} does not exist; run `dvc repro` to make it")
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    client = MlflowClient(store.uri, registry_uri=store.uri)
    mlflow.set_registry_uri(store.uri)
    name, _, alias = uri.removeprefix("models:/").partition("@")
    try:
        if alias:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(*name.rsplit("/", 1))
    except MlflowException as error:
        raise _refused(store, uri, error) from None


def _refused(store: Store, uri: str, error: Exception) -> TrackingError:
    text = " ".join(str(error).split())[:200]
    return TrackingError(f"{uri}: not to be had from {store.shown} ({text}); see `make ui` for what is there")
