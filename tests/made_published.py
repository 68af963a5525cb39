"""A project that has been published, its copies, and what lies in their stores."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from convflow.stages import publish
from made_project import ARGUMENTS

PARAMS = publish.Params(name="cells", alias="challenger", check_images=4, tolerance=1e-4)
ONCE = ([("cnn", "FINISHED")], [("1", "FINISHED")], {"challenger": "1"})


class Unasked:
    """A proof that asks nobody: the fresh process costs seconds, and one template takes it."""

    started = 0

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> "Unasked":
        return self

    def __exit__(self, *_: object) -> None: ...
    def start(self) -> None:
        Unasked.started += 1

    def ask(self, *_: object) -> None: ...
    def check(self, *_: object) -> float:
        return 0.0


def run_stage() -> None:
    """Run publish in the current folder."""
    publish.run(*map(Path, ARGUMENTS), params=PARAMS)


def move(template: Path, root: Path) -> Path:
    """Copy a published project to `root`, in its database as well."""
    shutil.copytree(template, root)
    with sqlite3.connect(root / "mlflow.db") as link:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            link.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(template), str(root)))  # noqa: S608
    link.close()
    utils._artifact_repos_cache.clear()  # MLflow would write to the place that the run of this id had before
    return root


def client(root: Path) -> MlflowClient:
    """MLflow's client for the project's store."""
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)


def state(root: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, str]]:
    """Runs with their status, versions with their runs' status, aliases."""
    asked = client(root)
    found = asked.get_experiment_by_name("tests")
    runs = asked.search_runs([found.experiment_id])
    versions = asked.search_model_versions("name = 'cells'")
    status = [(run.info.run_name, run.info.status) for run in runs]
    behind = [(str(one.version), asked.get_run(one.run_id).info.status) for one in versions]
    return status, behind, {k: str(v) for k, v in asked.get_registered_model("cells").aliases.items()}


def the_run(root: Path, model: str = "cnn") -> Any:
    """The latest run of `model`."""
    asked = client(root)
    experiment = asked.get_experiment_by_name("tests").experiment_id
    return asked.search_runs([experiment], f"tags.`convflow.model` = '{model}'")[0]


def files_of(run: Any) -> dict[str, Path]:
    """The artifacts of a run by their names in it."""
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
