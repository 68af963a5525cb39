"""What is in a store: runs, versions and logged models, with the little that decides whether they stay."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from convflow.errors import ConvflowError
from convflow.files import digest_json, read_json
from convflow.registry.keeping import Figures, Logged, Run, Version, is_rival
from convflow.registry.ledger import KEY_TAG
from convflow.registry.opening import MOVED
from convflow.registry.scratch import scratch_folder
from convflow.registry.store import Store, local_path

_METRICS = "evaluation/metrics.json"
_PAGE = 500


class Inventory:
    """Reads a store through MLflow's client; nothing is changed."""

    def __init__(self, client: MlflowClient, store: Store) -> None:
        self._client = client
        self._store = store
        found = _all(lambda token: client.search_experiments(view_type=ViewType.ALL, page_token=token))
        own = {
            store.experiment,
            *(one.name for one in found if one.name.startswith(store.experiment + MOVED)),
        }
        self._experiments = [str(one.experiment_id) for one in found if one.name in own]
        self._others = [str(one.experiment_id) for one in found if one.name not in own]

    def runs(self) -> list[Run]:
        """All runs of the project's experiment; of the others what lies in the bin of the same database."""
        found = self._search(self._experiments, ViewType.ALL)
        if not self._store.is_server:
            found += self._search(self._others, ViewType.DELETED_ONLY)
        return [self._run(one) for one in found]

    def versions(self) -> list[Version]:
        """All versions of all registered models."""
        found = _all(lambda token: self._client.search_model_versions(max_results=_PAGE, page_token=token))
        aliases = self._aliases({str(one.name) for one in found})
        return [
            Version(
                str(one.name),
                int(one.version),
                str(one.run_id or ""),
                str(one.model_id or str(one.source or "").removeprefix("models:/")),
                tuple(alias for alias, number in aliases[one.name].items() if number == str(one.version)),
            )
            for one in found
        ]

    def models(self) -> list[Logged]:
        """All logged models of the project's experiment; those in the bin, too, where that can be asked."""
        found = _all(
            lambda token: (
                self._client.search_logged_models(self._experiments, page_token=token)
                if self._experiments
                else []
            )
        )
        active = [
            Logged(str(one.model_id), str(one.source_run_id or ""), str(one.artifact_location), active=True)
            for one in found
        ]
        return active + self._binned()

    def figures(self, runs: Sequence[Run], stay: Sequence[Version]) -> dict[str, Figures]:
        """What the versions that stay were compared with: the digests of all figures, by the run's id."""
        referred = {one.run_id for one in stay}
        candidates = [run for run in runs if run.run_id in referred and KEY_TAG in run.tags]
        return {run.run_id: self._figures(run) for run in candidates if not is_rival(run)}

    def n_bytes_of_run(self, run: Run) -> int:
        """What the artifacts of a run on a server take."""
        return _listed(lambda path: self._client.list_artifacts(run.run_id, path))

    def n_bytes_of_model(self, model: Logged) -> int:
        """What the files of a logged model on a server take."""
        return _listed(lambda path: self._client.list_logged_model_artifacts(model.model_id, path))

    def _search(self, experiments: list[str], view: int) -> list[Any]:
        if not experiments:
            return []
        ask = self._client.search_runs
        return _all(lambda token: ask(experiments, run_view_type=view, max_results=_PAGE, page_token=token))

    def _run(self, run: Any) -> Run:
        info = run.info
        written = [info.start_time or 0, info.end_time or 0]
        if info.status == "RUNNING":  # the last epoch that is shown live is younger than its run
            points = (self._client.get_metric_history(info.run_id, name) for name in run.data.metrics)
            written += [point.timestamp for curve in points for point in curve]
        is_active = info.lifecycle_stage == "active"
        place = str(info.artifact_uri)
        return Run(
            info.run_id, str(info.run_name), info.status, is_active, run.data.tags, max(written), place
        )

    def _aliases(self, names: set[str]) -> dict[str, Mapping[str, str]]:
        return {
            name: {
                alias: str(number)
                for alias, number in self._client.get_registered_model(name).aliases.items()
            }
            for name in names
        }

    def _binned(self) -> list[Logged]:
        """Logged models in the bin, which only a database can be asked for."""
        if self._store.is_server:
            return []
        behind = self._client._tracking_client.store
        found = (behind.get_logged_model(name, True) for name in behind._get_deleted_logged_models())
        return [
            Logged(str(one.model_id), str(one.source_run_id or ""), str(one.artifact_location), active=False)
            for one in found
        ]

    def _figures(self, run: Run) -> Figures:
        place = local_path(run.place)
        try:
            if place is not None:
                return _digests(place / _METRICS)
            with scratch_folder(Path.cwd()) as folder:
                return _digests(Path(self._client.download_artifacts(run.run_id, _METRICS, folder)))
        except (ConvflowError, MlflowException, OSError):
            return None


def _digests(path: Path) -> Figures:
    found = read_json(path)
    return {name: digest_json(part) for name, part in found.items()} if isinstance(found, dict) else None


def _all(search: Callable[[str | None], Any]) -> list[Any]:
    """Every page of an answer."""
    page = search(None)
    found = list(page)
    while token := getattr(page, "token", None):
        page = search(token)
        found += page
    return found


def _listed(list_at: Callable[[str | None], Any]) -> int:
    """The bytes of all files below, folder by folder."""
    waiting: list[str | None] = [None]
    total = 0
    while waiting:
        for one in list_at(waiting.pop()):
            total += 0 if one.is_dir else one.file_size or 0
            waiting += [one.path] if one.is_dir else []
    return total
