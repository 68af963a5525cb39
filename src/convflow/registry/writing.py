"""Write the files of one model into one MLflow run: parameters, curves, figures, reports, data."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

from convflow.files import digest_json, read_json
from convflow.registry.key import Evidence
from convflow.registry.record import flat_metrics, flat_params, read_history
from convflow.registry.scratch import scratch_folder
from convflow.registry.source import MEMBERS, SOURCE, gather_source
from convflow.tables import read_table

_MEMBER = ("path", "sha256", "label", "side")
_PARAMS_A_CALL, _METRICS_A_CALL = 100, 1000  # MLflow's limits
_TOO_MANY_FILES = ("data_docs",)  # Great Expectations' own site: 4 MB of fonts, and it needs the network


def write_params(client: MlflowClient, run_id: str, params: dict[str, Any]) -> None:
    """Log all of params.yaml, flattened."""
    write_batches(client, run_id, params=[Param(name, value) for name, value in flat_params(params).items()])


def write_epochs(client: MlflowClient, run_id: str, epochs: list[tuple[int, dict[str, float]]]) -> None:
    """Log the figures of each epoch as points of a curve."""
    now = int(time.time() * 1000)
    points = [Metric(name, value, now, epoch) for epoch, row in epochs for name, value in row.items()]
    write_batches(client, run_id, metrics=points)


def write_results(client: MlflowClient, run_id: str, evidence: Evidence, model: str) -> None:
    """Log curves and final figures of `model`, and the files a person would want to look at."""
    write_epochs(client, run_id, read_history(evidence.model / "history.jsonl"))
    now = int(time.time() * 1000)
    figures = read_json(evidence.evaluation / "metrics.json")
    final = flat_metrics(figures.get(model, figures))  # one part per model, or one model's alone
    write_batches(client, run_id, metrics=[Metric(name, value, now, 0) for name, value in final.items()])
    for name in ("card.json", "history.jsonl"):
        if (evidence.model / name).is_file():
            client.log_artifact(run_id, str(evidence.model / name), "model_folder")
    client.log_artifact(run_id, str(evidence.predictions), "predictions")
    for place, folder in (
        ("evaluation", evidence.evaluation),
        ("validation", evidence.validation),
        ("timing", evidence.timing),
    ):
        _write_folder(client, run_id, folder, place)


def write_batches(
    client: MlflowClient, run_id: str, *, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()
) -> None:
    """Log figures and parameters in as few calls as MLflow allows: each waits for the disk or the network."""
    for at in range(0, len(params), _PARAMS_A_CALL):
        client.log_batch(run_id, params=params[at : at + _PARAMS_A_CALL])
    for at in range(0, len(metrics), _METRICS_A_CALL):
        client.log_batch(run_id, metrics=metrics[at : at + _METRICS_A_CALL])


def write_tags(client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    """Set all `tags` in one call."""
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def write_text(client: MlflowClient, run_id: str, name: str, text: str) -> None:
    """Log `text` as the artifact `name`."""
    with scratch_folder(Path.cwd()) as folder:
        path = Path(folder, Path(name).name)
        path.write_text(text, encoding="utf-8")
        client.log_artifact(run_id, str(path), str(Path(name).parent) if "/" in name else None)


def write_source(client: MlflowClient, run_id: str, splits: Path) -> None:
    """Log what the model can be made anew from: lock files, parameters, the side of each image."""
    with scratch_folder(Path.cwd()) as folder:
        gather_source(Path.cwd(), Path(folder))
        client.log_artifacts(run_id, folder, SOURCE)
    client.log_artifact(run_id, str(splits / Path(MEMBERS).name), str(Path(MEMBERS).parent))


def write_data(client: MlflowClient, run_id: str, splits: Path, name: str) -> dict[str, str]:
    """Log which images the model was made from; returns the digests of the data and of their sides."""
    rows = read_members(splits)
    data, sides = data_digests(rows)
    counts = {side: sum(row[3] == side for row in rows) for side in sorted({row[3] for row in rows})}
    source = CodeDatasetSource(tags={"convflow.data": data, "convflow.split": sides})
    dataset = MetaDataset(source, name=name, digest=data[:36])
    tags = [
        InputTag("mlflow.data.context", "training"),
        *(InputTag(f"n_{k}", str(v)) for k, v in counts.items()),
    ]
    client.log_inputs(run_id, [DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags)])
    return {"convflow.data": data, "convflow.sides": sides}


def read_members(splits: Path) -> list[tuple[str, str, str, str]]:
    """Path, SHA-256, label and side of every image, sorted."""
    table = read_table(splits / "members.parquet", columns=list(_MEMBER))
    return sorted(zip(*(table[column].to_pylist() for column in _MEMBER), strict=True))


def data_digests(rows: Sequence[tuple[str, str, str, str]]) -> tuple[str, str]:
    """The digest of the images with their labels, and that of their sides."""
    return digest_json([row[:3] for row in rows]), digest_json([(row[0], row[3]) for row in rows])


def _write_folder(client: MlflowClient, run_id: str, folder: Path, place: str) -> None:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name in _TOO_MANY_FILES or path.name.startswith("."):
            continue
        if path.is_dir():
            client.log_artifacts(run_id, str(path), f"{place}/{path.name}")
        else:
            client.log_artifact(run_id, str(path), place)
