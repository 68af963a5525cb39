"""Models that were never trained: tables of predictions, and the folders `evaluate` and `decide` read."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from convflow.stages.evaluate import Params, run
from convflow.tables import write_table

EPOCH = {
    "epoch": 1,
    "lr": 0.1,
    "train_loss": 0.9,
    "val_loss": 1.0,
    "train_accuracy": 0.5,
    "val_accuracy": 0.4,
}
LATENCY = {"1": {"median": 4.5, "p95": 6.0}, "64": {"median": 1.5, "p95": 2.0}}


def params(**changed) -> Params:
    known = {
        "models": ["cnn"], "candidate": "cnn", "operating_point": "argmax", "positive": None,
        "calibrate": "none", "n_draws": 200, "seed": 0, "min_slice": 5,
    }  # fmt: skip
    return Params.model_validate({**known, **changed})


def predictions(
    classes, label, *, group=None, weight=None, split=None, seed=0, skill=1.0, **more
) -> pa.Table:
    """A table as `predict` writes it; `skill` says how much the probabilities know of the labels."""
    rng = np.random.default_rng(seed)
    n_images = len(label)
    index_N = np.array([classes.index(name) for name in label])
    score_NK = rng.random((n_images, len(classes))) + skill * np.eye(len(classes))[index_N]
    prob_NK = (score_NK / score_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    columns = {
        "split": split or ["val", "test"] * (n_images // 2),
        "label": label,
        "group": pa.array(group or [None] * n_images, pa.string()),
        "weight": pa.array(weight or [1.0] * n_images, pa.float64()),
        "path": [f"{n}.png" for n in range(n_images)],
        "sha256": [f"{n:064x}" for n in range(n_images)],
    }
    columns |= {f"p_{name}": prob_NK[:, k] for k, name in enumerate(classes)}
    return pa.table({**columns, **more})


def write_model(root: Path, name: str, table: pa.Table, classes, *, kind="baseline") -> None:
    """Write predictions/NAME.parquet, models/NAME and reports/timing/*-NAME.json below `root`."""
    write_table(root / f"predictions/{name}.parquet", table, about={"classes": classes, "model": name})
    model, timing = root / "models" / name, root / "reports/timing"
    model.mkdir(parents=True, exist_ok=True)
    timing.mkdir(parents=True, exist_ok=True)
    card = {"kind": kind, "arch": name, "n_parameters": 1_500_000, "weights": {"file": "weights"}}
    if kind == "network":
        card |= {"arch": "small", "best_epoch": 1}
        (model / "history.jsonl").write_text(json.dumps(EPOCH) + "\n")
    (model / "card.json").write_text(json.dumps(card))
    (model / "weights").write_bytes(bytes(1000))
    asked = {"device": "CPU", "latency_ms": LATENCY, "flops": 2000, "threads": 1}
    (timing / f"predict-{name}.json").write_text(json.dumps(asked))
    (timing / f"fit-{name}.json").write_text(json.dumps({"device": "CPU", "seconds": 12.5}))


def evaluate(root: Path, **changed) -> dict:
    """Run the stage below `root`; returns metrics.json."""
    run(
        root / "predictions", root / "models", root / "reports/timing", root / "reports/evaluation",
        params=params(**changed),
    )  # fmt: skip
    return json.loads((root / "reports/evaluation/metrics.json").read_text())
