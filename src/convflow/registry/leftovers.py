"""What earlier attempts left in the store under the same key: found, and cleared away."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.registry.ledger import KEY_TAG, LIVE_TAG
from convflow.registry.store import local_path


@dataclass(frozen=True)
class Leftovers:
    """Ids of runs and numbers of versions made from one key, finished or not."""

    runs: tuple[str, ...]
    versions: tuple[str, ...]


def find_leftovers(client: MlflowClient, experiment: str, key: str, name: str) -> Leftovers:
    """All runs in `experiment` and all versions of model `name` that bear `key`."""
    versions = client.search_model_versions(f"name = '{name}' and tags.`{KEY_TAG}` = '{key}'")
    return Leftovers(find_runs(client, experiment, key), tuple(str(one.version) for one in versions))


def find_runs(client: MlflowClient, experiment: str, key: str) -> tuple[str, ...]:
    """All runs in `experiment` that bear `key`."""
    runs = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'")
    return tuple(str(run.info.run_id) for run in runs)


def clear(client: MlflowClient, experiment: str, name: str, old: Leftovers) -> None:
    """Delete runs and versions, and the files of those runs where they are local."""
    for version in old.versions:
        client.delete_model_version(name, version)
    for run_id in old.runs:
        _delete_run(client, experiment, run_id)


def aliases_of(client: MlflowClient, name: str, versions: Iterable[str]) -> set[str]:
    """The aliases that point to one of `versions`."""
    held: dict[str, object] = client.get_registered_model(name).aliases
    wanted = set(versions)
    return {alias for alias, version in held.items() if str(version) in wanted}


def retire_live(client: MlflowClient, experiment: str, model: str) -> None:
    """Delete the runs that showed the training of `model` live; the real run has taken their place."""
    for run in client.search_runs([experiment], f"tags.`{LIVE_TAG}` = '{model}'"):
        client.delete_run(run.info.run_id)


def _delete_run(client: MlflowClient, experiment: str, run_id: str) -> None:
    places = [client.get_run(run_id).info.artifact_uri]
    for model in client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"):
        places.append(model.artifact_location)
        client.delete_logged_model(model.model_id)
    client.delete_run(run_id)
    for place in places:
        folder = local_path(place)
        # .../<run or model id>/artifacts: never anything that MLflow did not make for this run alone
        if folder is not None and folder.name == "artifacts":
            shutil.rmtree(folder.parent, ignore_errors=True)


def same_model(client: MlflowClient, name: str) -> None:
    """Make the registered model `name` unless it is there."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
