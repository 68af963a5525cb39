"""One light MLflow run for each other model of the leaderboard: to compare by, never to be served."""

import time
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from convflow.files import read_json
from convflow.registry.key import Rival
from convflow.registry.ledger import KEY_TAG
from convflow.registry.leftovers import Leftovers, clear, find_runs
from convflow.registry.record import flat_metrics, flat_params, read_history
from convflow.registry.writing import write_batches, write_epochs

# What was set or chosen; the rest of a card is what came of it.
_OF_THE_CARD = ("arch", "arch_args", "normalise", "chosen", "features", "input")


def write_rival(client: MlflowClient, experiment: str, rival: Rival, tags: dict[str, str]) -> None:
    """Write the run of `rival` with `tags`; what earlier attempts left under its key is replaced."""
    clear(client, experiment, "", Leftovers(find_runs(client, experiment, rival.key), ()))
    card: dict[str, Any] = read_json(rival.model / "card.json")
    run = client.create_run(experiment, run_name=rival.name, tags=_tags(rival, card) | tags)
    run_id = str(run.info.run_id)
    status = "FAILED"
    try:
        chosen = {name: card[name] for name in _OF_THE_CARD if name in card}
        now = int(time.time() * 1000)
        final = [Metric(name, value, now, 0) for name, value in flat_metrics(rival.figures).items()]
        params = [Param(name, value) for name, value in flat_params(chosen).items()]
        write_epochs(client, run_id, read_history(rival.model / "history.jsonl"))
        write_batches(client, run_id, metrics=final, params=params)
        client.log_artifact(run_id, str(rival.model / "card.json"), "model_folder")
        client.log_artifact(run_id, str(rival.predictions), "predictions")
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)


def _tags(rival: Rival, card: dict[str, Any]) -> dict[str, str]:
    return {
        KEY_TAG: rival.key,
        "mlflow.source.name": "convflow publish",
        "convflow.model": rival.name,
        "convflow.kind": str(card.get("kind")),
        **{f"convflow.digest.{name}": value for name, value in rival.parts.items()},
    }
