"""Ask MLflow for a version and its run."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.registry import rest
from convflow.registry.leftovers import aliases_of
from convflow.registry.store import Store, local_path
from convflow.registry.version import Version


def look_up(store: Store, name: str, asked: str, downloads: Path) -> Version:
    """Version `asked` (its number or alias) of model `name`.

    Files that lie elsewhere than on this disk are copied below `downloads` when they are asked for.

    Raises:
        TrackingError: no such version, or the store does not answer.
    """
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    try:
        client = MlflowClient(store.uri, registry_uri=store.uri)
        found = _found(client, name, asked)
        if found is None:
            raise TrackingError(f"{name} {asked}: no such version in {store.shown}; {_there(client, name)}")
        return _told(client, store, found, downloads)
    except MlflowException as error:
        text = " ".join(str(error).split())[:200]
        raise TrackingError(
            f"{store.shown}: does not tell about {name} {asked} ({text}); see `convflow ui` for what is there"
        ) from None


def _found(client: MlflowClient, name: str, asked: str) -> Any:
    try:
        if asked.isdecimal():
            return client.get_model_version(name, asked)
        return client.get_model_version_by_alias(name, asked)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _there(client: MlflowClient, name: str) -> str:
    versions = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
    if not versions:
        return f"nothing is registered as {name}"
    held = client.get_registered_model(name).aliases
    said = ", ".join(f"{alias} {number}" for alias, number in sorted(held.items()))
    numbers = ", ".join(map(str, versions))
    return f"there are {numbers}" + (f" (aliases: {said})" if said else "")


def _told(client: MlflowClient, store: Store, found: Any, downloads: Path) -> Version:
    run_id = str(found.run_id or "")
    run = _run(client, run_id)
    status = "gone" if run is None else str(run.info.status)
    if run is not None and run.info.lifecycle_stage != "active":
        status = "deleted"
    return Version(
        name=str(found.name),
        version=str(found.version),
        aliases=tuple(sorted(aliases_of(client, found.name, [str(found.version)]))),
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        run_id=run_id,
        status=status,
        tags={**(run.data.tags if run else {}), **found.tags},
        params=dict(run.data.params) if run else {},
        store=store.shown,
        fetch=_fetcher(store, run, downloads / run_id),
    )


def _run(client: MlflowClient, run_id: str) -> Any:
    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _fetcher(store: Store, run: Any, downloads: Path) -> Callable[[str], Path | None]:
    folder = local_path(str(run.info.artifact_uri)) if run else None

    def fetch(name: str) -> Path | None:
        if run is None:
            return None
        place = (folder or downloads) / name
        if folder is None and not place.is_file():
            downloads.mkdir(parents=True, exist_ok=True)
            try:
                mlflow.artifacts.download_artifacts(
                    run_id=run.info.run_id,
                    artifact_path=name,
                    dst_path=str(downloads),
                    tracking_uri=store.uri,
                )
            except (MlflowException, OSError):
                return None
        return place if place.is_file() else None

    return fetch
