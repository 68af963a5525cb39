"""Registered versions that only MLflow can find or copy: those on a server or in object storage."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.files import whole_folder
from convflow.registry import rest
from convflow.registry.store import Store


def fetch(store: Store, uri: str, downloads: Path) -> tuple[str, Path]:
    """Number and local folder of the version `uri` names; copied to `downloads` unless it is there.

    Raises:
        TrackingError: no such version, or its files cannot be had.
    """
    name, number = _version(store, uri)
    folder = downloads / name / number
    try:
        if not (folder / "MLmodel").is_file():
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


def _version(store: Store, uri: str) -> tuple[str, str]:
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{uri}: {store.shown} does not exist; run `dvc repro` to make it")
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    client = MlflowClient(store.uri, registry_uri=store.uri)
    mlflow.set_registry_uri(store.uri)
    name, _, alias = uri.removeprefix("models:/").partition("@")
    try:
        if alias:
            return name, str(client.get_model_version_by_alias(name, alias).version)
        name, _, number = name.rpartition("/")
        return name, str(client.get_model_version(name, number).version)
    except MlflowException as error:
        raise _refused(store, uri, error) from None


def _refused(store: Store, uri: str, error: Exception) -> TrackingError:
    text = " ".join(str(error).split())[:200]
    return TrackingError(f"{uri}: not to be had from {store.shown} ({text}); see `make ui` for what is there")
