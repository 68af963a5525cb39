"""A run that shows a training while it goes on; the publication of the finished model takes its place."""

from pathlib import Path

from convflow.registry.follow import Epoch
from convflow.registry.ledger import LIVE_TAG
from convflow.registry.leftovers import retire_live
from convflow.registry.opening import connect, experiment_id, only_one
from convflow.registry.store import Store
from convflow.registry.writing import write_epochs


class LiveRun:
    """The MLflow run `live-<model>`; a former one of the same model is deleted."""

    def __init__(self, store: Store, model: str) -> None:
        with only_one(store, Path.cwd()):
            self._client = connect(store)
            experiment = experiment_id(self._client, store)
            retire_live(self._client, experiment, model)
            tags = {
                LIVE_TAG: model,
                "mlflow.note.content": "A training as it goes on; deleted when it is published.",
            }
            run = self._client.create_run(experiment, run_name=f"live-{model}", tags=tags)
        self._run_id = str(run.info.run_id)

    def show(self, epochs: list[Epoch]) -> None:
        """Log further epochs."""
        write_epochs(self._client, self._run_id, epochs)

    def close(self) -> None:
        """End the run, unless the publication has deleted it."""
        if self._client.get_run(self._run_id).info.lifecycle_stage == "active":
            self._client.set_terminated(self._run_id, "FINISHED")
