"""A small MLflow store in SQLite, as publish leaves it: runs, models and versions without a network."""

from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from convflow.files import digest_json, write_json
from convflow.registry.keeping import EVALUATION_TAG, SPLIT_TAG
from convflow.registry.ledger import KEY_TAG
from convflow.registry.opening import connect, experiment_id
from convflow.registry.store import Store, Tracking, open_store

PARAMS = """\
publish: {name: cells, alias: challenger, check_images: 4, tolerance: 1.0e-4}
tracking: {uri: "sqlite:///mlflow.db", artifacts: mlartifacts, experiment: tests, live: true}
gc: {keep: 1}
"""


def the_store(root: Path) -> Store:
    """The store of the project at `root`."""
    made = Tracking(uri="sqlite:///mlflow.db", artifacts="mlartifacts", experiment="tests", live=True)
    return open_store(made, root, {})


@dataclass(frozen=True)
class Shop:
    """Makes runs and versions in one store."""

    client: MlflowClient
    experiment: str
    scratch: Path

    def candidate(
        self, figures: dict[str, object], *, split: str = "s", name: str = "cells"
    ) -> tuple[str, str]:
        """A finished run with its logged model and its version; the run's id and the model's."""
        tags = {KEY_TAG: "k", "convflow.model": "cnn", SPLIT_TAG: split, "convflow.digest.params": "p"}
        run_id = self.run("cnn", tags)
        write_json(self.scratch / "metrics.json", figures)
        self.client.log_artifact(run_id, str(self.scratch / "metrics.json"), "evaluation")
        model_id = self.model(run_id)
        if name not in {one.name for one in self.client.search_registered_models()}:
            self.client.create_registered_model(name)
        self.client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
        return run_id, model_id

    def rival(self, figures: object, *, split: str = "s") -> str:
        """The finished run of an SVM with these figures."""
        evaluation = digest_json(figures)
        tags = {KEY_TAG: "r", "convflow.model": "svm", SPLIT_TAG: split, EVALUATION_TAG: evaluation}
        return self.run("svm", tags)

    def run(
        self, name: str, tags: dict[str, str], *, status: str = "FINISHED", start_ms: int | None = None
    ) -> str:
        """A run with 1,000 bytes of its own."""
        run = self.client.create_run(self.experiment, run_name=name, tags=tags, start_time=start_ms)
        run_id = str(run.info.run_id)
        (self.scratch / "one.txt").write_bytes(b"x" * 1000)
        self.client.log_artifact(run_id, str(self.scratch / "one.txt"))
        if status != "RUNNING":
            self.client.set_terminated(run_id, status, end_time=start_ms)
        return run_id

    def model(self, run_id: str) -> str:
        """A logged model of 2,000 bytes."""
        model = self.client.create_logged_model(self.experiment, source_run_id=run_id)
        folder = self.scratch / "model"
        folder.mkdir(exist_ok=True)
        (folder / "MLmodel").write_bytes(b"y" * 2000)
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)


def open_shop(root: Path) -> Shop:
    """A shop in the project at `root`, whose database and params.yaml are made where they are missing."""
    root.mkdir(exist_ok=True)
    if not (root / "params.yaml").exists():
        (root / "params.yaml").write_text(PARAMS)
    store = the_store(root)
    client = connect(store)
    mlflow.set_tracking_uri(store.uri)  # a version looks its logged model up there
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    return Shop(client, experiment_id(client, store), scratch)
