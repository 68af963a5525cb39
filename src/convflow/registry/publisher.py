"""One MLflow run and one registered version from files, however often and by however many it is asked."""

from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.data.packed import Contract, packed_as
from convflow.errors import TrackingError
from convflow.files import read_json
from convflow.registry import wrapped
from convflow.registry.comparing import write_rival
from convflow.registry.findings import findings
from convflow.registry.key import Rival
from convflow.registry.known import known_answers, package_folder
from convflow.registry.ledger import KEY_TAG, Published
from convflow.registry.leftovers import (
    Leftovers,
    aliases_of,
    clear,
    find_leftovers,
    retire_live,
    same_model,
)
from convflow.registry.opening import connect, experiment_id, only_one
from convflow.registry.order import Order, look
from convflow.registry.provenance import facts, git_state, trained_with
from convflow.registry.proving import Proof
from convflow.registry.store import Store
from convflow.registry.writing import (
    write_data,
    write_params,
    write_results,
    write_source,
    write_tags,
    write_text,
)
from convflow.serving.record import Exported


def publish(store: Store, order: Order, proof: Proof) -> Published:
    """Publish exactly once, and point the alias there; whatever an earlier, killed attempt left is replaced.

    Raises:
        TrackingError: the store cannot be opened, or the logged model does not answer as predicted.
    """
    with only_one(store, Path.cwd()):
        state = look(store, order)
        if state.whole is not None:  # another process was first
            return state.whole
        client = connect(store)
        try:
            publication = Publication(client, store, order, proof)
            found = state.published or publication.run()
            if not order.verdict.stands_in(found.tags):  # measured times may turn it round for the same model
                publication.renew_verdict(found)
            if not state.has_origin:
                publication.renew_origin(found)
            for rival in state.missing:
                publication.add(rival)
            if not found.has_alias:  # an earlier model is the latest again
                client.set_registered_model_alias(order.request.name, order.request.alias, found.version)
            return found
        except MlflowException as error:
            text = " ".join(str(error).split())[:300]
            raise TrackingError(f"{store.shown}: {text}; the next `dvc repro` tries again") from error


class Publication:
    """The publication of one model; it holds the store's lock while it lives."""

    def __init__(self, client: MlflowClient, store: Store, order: Order, proof: Proof) -> None:
        self._client = client
        self._store = store
        self._order = order
        self._evidence = order.evidence
        self._request = order.request
        self._proof = proof
        self._card: dict[str, Any] = read_json(order.evidence.model / "card.json")
        self._model = str(self._card["name"])
        self._experiment = experiment_id(client, store)
        self._git = git_state(Path.cwd())
        self._facts = facts(Path.cwd(), self._git)

    def run(self) -> Published:
        """Find the finished publication, or make it."""
        old = find_leftovers(self._client, self._experiment, self._order.key, self._request.name)
        whole = self._standing(old)
        if whole is not None:
            return whole
        # Attempts without a version have nothing anybody could point to; those with one keep it, and
        # its aliases, until the new version stands.
        held = self._runs_behind(old.versions)
        halves = tuple(run_id for run_id in old.runs if run_id not in held)
        clear(self._client, self._experiment, self._request.name, Leftovers(halves, ()))
        tags = self._tags()
        run_id = self._new_run(tags)
        mlflow.set_tracking_uri(self._store.uri)
        mlflow.set_registry_uri(self._store.uri)
        with mlflow.start_run(run_id=run_id):  # ends FINISHED, or FAILED when an exception passes
            version = self._write(run_id, tags)
            rest = Leftovers(tuple(r for r in old.runs if r in held), old.versions)
            self._hand_over(version, rest)
        retire_live(self._client, self._experiment, self._model)
        return Published(run_id, version, has_alias=True, tags=tags)

    def add(self, rival: Rival) -> None:
        """Write the run of another model of the leaderboard."""
        write_rival(self._client, self._experiment, rival, self._about(rival.name))
        retire_live(self._client, self._experiment, rival.name)

    def renew_verdict(self, found: Published) -> None:
        """Put the verdict as it is now to the run and the version that are there."""
        tags = self._order.verdict.tags()
        self._write_verdict(found.run_id)
        write_tags(self._client, found.run_id, tags)
        for name, value in tags.items():
            self._client.set_model_version_tag(self._request.name, found.version, name, value)

    def renew_origin(self, found: Published) -> None:
        """Name the commit that what was published from changed files is in by now."""
        was = f"{found.tags.get('convflow.git.commit')}, with changes"
        tags = self._facts | {"convflow.git.published_from": was}
        write_tags(self._client, found.run_id, tags)
        for name, value in tags.items():
            self._client.set_model_version_tag(self._request.name, found.version, name, value)
        write_source(self._client, found.run_id, self._evidence.splits)  # as that commit has them

    def _write(self, run_id: str, tags: dict[str, str]) -> str:
        """Everything into the run; the version comes last, when the model has proved itself."""
        classes = [str(name) for name in self._card["classes"]]
        figures = read_json(self._evidence.evaluation / "metrics.json")
        point = figures.get(self._model, {}).get("operating_point")
        val = packed_as(Contract(classes, **self._card["input"]), self._evidence.val)
        known = known_answers(val, self._evidence.predictions, classes, self._request.check_images, point)
        info = wrapped.log_model(self._evidence.model, classes, package_folder(), point, self._exported())
        self._proof.ask(info.model_uri, known)  # it answers while the rest is written
        write_params(self._client, run_id, self._order.params)
        write_results(self._client, run_id, self._evidence, self._model)
        more = write_data(self._client, run_id, self._evidence.splits, self._model)
        write_source(self._client, run_id, self._evidence.splits)
        self._write_verdict(run_id)
        if self._git.diff:
            write_text(self._client, run_id, "git/changes.diff", self._git.diff)
        difference = self._proof.check(info.model_uri, known, self._request.tolerance)
        more["convflow.check"] = f"{len(known.pixels)} images, largest difference {difference:.1e}"
        write_tags(self._client, run_id, more)
        same_model(self._client, self._request.name)
        version = self._client.create_model_version(
            self._request.name,
            info.model_uri,
            run_id,
            tags={**tags, **more},
            model_id=info.model_id,
        )
        return str(version.version)

    def _exported(self) -> Exported:
        timing = self._evidence.timing / f"export-{self._model}.json"
        return Exported(self._evidence.exported, timing)

    def _write_verdict(self, run_id: str) -> None:
        text = self._evidence.verdict.read_text(encoding="utf-8")
        write_text(self._client, run_id, "verdict.json", text)

    def _hand_over(self, version: str, old: Leftovers) -> None:
        """Give the new version its alias and those of the versions it replaces, then clear these away."""
        moved = aliases_of(self._client, self._request.name, old.versions)
        for alias in sorted({*moved, self._request.alias}):
            self._client.set_registered_model_alias(self._request.name, alias, version)
        clear(self._client, self._experiment, self._request.name, old)

    def _new_run(self, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, run_name=self._model, tags=tags)
        return str(run.info.run_id)

    def _tags(self) -> dict[str, str]:
        return {
            KEY_TAG: self._order.key,
            "mlflow.source.name": "convflow publish",
            "convflow.model": self._model,
            "convflow.kind": str(self._card.get("kind")),
            **{f"convflow.digest.{name}": value for name, value in self._order.parts.items()},
            **self._about(self._model),
            **self._order.verdict.tags(),
        }

    def _about(self, model: str) -> dict[str, str]:
        """Where any model of the leaderboard comes from, and what the reports say of it."""
        trained = trained_with(self._evidence.timing, model)
        return self._facts | trained | findings(self._evidence, model)

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
        return Published(run_id, str(version.version), has_alias, dict(version.tags))
