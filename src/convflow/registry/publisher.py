"""One MLflow run and one registered version from files, however often and by however many it is asked."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.files import read_json
from convflow.registry import wrapped
from convflow.registry.key import Evidence, Request, run_key
from convflow.registry.ledger import KEY_TAG, Published, find_published
from convflow.registry.leftovers import (
    Leftovers,
    aliases_of,
    clear,
    find_leftovers,
    retire_live,
    same_model,
)
from convflow.registry.opening import connect, experiment_id, only_one
from convflow.registry.provenance import facts, git_state
from convflow.registry.store import Store
from convflow.registry.writing import write_data, write_params, write_results, write_text


def publish(
    store: Store, evidence: Evidence, params: dict[str, Any], request: Request, parts: dict[str, str]
) -> Published:
    """Publish exactly once, and point the alias there; whatever an earlier, killed attempt left is replaced.

    `parts` are the `digests` of the evidence.

    Raises:
        TrackingError: the store cannot be opened, or the logged model does not answer as predicted.
    """
    with only_one(store, Path.cwd()):
        found = find_published(store, run_key(parts), request.name, request.alias)
        if found is not None and found.has_alias:  # another process was first
            return found
        client = connect(store)
        try:
            if found is None:
                found = Publication(client, store, evidence, request).run(params, parts)
            if not found.has_alias:  # an earlier model is the latest again
                client.set_registered_model_alias(request.name, request.alias, found.version)
            return found
        except MlflowException as error:
            text = " ".join(str(error).split())[:300]
            raise TrackingError(f"{store.shown}: {text}; the next `dvc repro` tries again") from error


class Publication:
    """The publication of one model; it holds the store's lock while it lives."""

    def __init__(self, client: MlflowClient, store: Store, evidence: Evidence, request: Request) -> None:
        self._client = client
        self._store = store
        self._evidence = evidence
        self._request = request
        self._card: dict[str, Any] = read_json(evidence.model / "card.json")
        self._experiment = experiment_id(client, store)

    def run(self, params: dict[str, Any], parts: dict[str, str]) -> Published:
        """Find the finished publication, or make it."""
        key = run_key(parts)
        old = find_leftovers(self._client, self._experiment, key, self._request.name)
        whole = self._standing(old)
        if whole is not None:
            return whole
        # Attempts without a version have nothing anybody could point to; those with one keep it, and
        # its aliases, until the new version stands.
        held = self._runs_behind(old.versions)
        halves = tuple(run_id for run_id in old.runs if run_id not in held)
        clear(self._client, self._experiment, self._request.name, Leftovers(halves, ()))
        git = git_state(Path.cwd())
        tags = self._tags(parts, key) | {
            "convflow.git.commit": git.commit,
            "convflow.git.dirty": git.dirty,
        }
        run_id = self._new_run(tags)
        mlflow.set_tracking_uri(self._store.uri)
        mlflow.set_registry_uri(self._store.uri)
        with mlflow.start_run(run_id=run_id):  # ends FINISHED, or FAILED when an exception passes
            version = self._write(run_id, params, tags, git.diff)
            rest = Leftovers(tuple(r for r in old.runs if r in held), old.versions)
            self._hand_over(version, rest)
        retire_live(self._client, self._experiment, str(self._card["name"]))
        return Published(run_id, version, has_alias=True)

    def _write(self, run_id: str, params: dict[str, Any], tags: dict[str, str], diff: str) -> str:
        """Everything into the run; the version comes last, when the model has proved itself."""
        classes = [str(name) for name in self._card["classes"]]
        figures = read_json(self._evidence.evaluation / "metrics.json")
        point = figures.get(str(self._card["name"]), {}).get("operating_point")
        known = wrapped.known_answers(
            self._evidence.val, self._evidence.predictions, classes, self._request.check_images, point
        )
        info = wrapped.log_model(self._evidence.model, classes, wrapped.package_folder(), point)
        with wrapped.Proof(self._store, info.model_uri, known) as proof:  # runs while the rest is written
            write_params(self._client, run_id, params)
            write_results(self._client, run_id, self._evidence, str(self._card["name"]))
            more = write_data(self._client, run_id, self._evidence.splits, str(self._card["name"]))
            if diff:
                write_text(self._client, run_id, "git/changes.diff", diff)
            difference = proof.check(self._request.tolerance)
        more["convflow.check"] = f"{len(known.pixels)} images, largest difference {difference:.1e}"
        for name, value in more.items():
            self._client.set_tag(run_id, name, value)
        same_model(self._client, self._request.name)
        version = self._client.create_model_version(
            self._request.name,
            info.model_uri,
            run_id,
            tags={**tags, **more},
            model_id=info.model_id,
        )
        return str(version.version)

    def _hand_over(self, version: str, old: Leftovers) -> None:
        """Give the new version its alias and those of the versions it replaces, then clear these away."""
        moved = aliases_of(self._client, self._request.name, old.versions)
        for alias in sorted({*moved, self._request.alias}):
            self._client.set_registered_model_alias(self._request.name, alias, version)
        clear(self._client, self._experiment, self._request.name, old)

    def _new_run(self, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=str(self._card["name"]), tags=tags)
        return str(run.info.run_id)

    def _tags(self, parts: dict[str, str], key: str) -> dict[str, str]:
        return {
            KEY_TAG: key,
            "mlflow.source.name": "convflow publish",
            "convflow.model": str(self._card["name"]),
            **{f"convflow.digest.{name}": value for name, value in parts.items()},
            **facts(Path.cwd(), self._evidence.timing),
        }

    def _runs_behind(self, versions: tuple[str, ...]) -> set[str]:
        name = self._request.name
        return {str(self._client.get_model_version(name, version).run_id) for version in versions}

    def _standing(self, old: Leftovers) -> Published | None:
        """The one finished publication, artifacts and all, asked through MLflow's client."""
        if len(old.runs) != 1 or len(old.versions) != 1:
            return None
        run_id, version = (
            old.runs[0],
            self._client.get_model_version(self._request.name, old.versions[0]),
        )
        finished = self._client.get_run(run_id).info.status == "FINISHED" and version.run_id == run_id
        if not finished or not self._client.list_artifacts(run_id):
            return None
        model = version.model_id or str(version.source).removeprefix("models:/")
        if not self._client.list_logged_model_artifacts(model):
            return None
        has_alias = self._request.alias in aliases_of(self._client, self._request.name, old.versions)
        return Published(run_id, str(version.version), has_alias)
