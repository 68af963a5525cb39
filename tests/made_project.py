"""A finished project in little: all that publish reads, and a package with a predictor in numpy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from convflow import errors
from convflow.data import images
from convflow.data.packed import Contract, write_contract
from convflow.evaluation import operating_point, ranking
from convflow.files import digest_file, read_json, write_json, write_text
from convflow.manifest import save_manifest
from convflow.serving.record import write_record
from convflow.tables import write_table

CLASSES = ["bad one", "good"]
SIDE = 8
POINT = 0.25  # "good" from this probability on; the pictures lie on both sides of it
PATHS = [f"a b/{n}.png" for n in range(12)]
ARGUMENTS = (
    "data/splits",
    "data/packed/val",
    "models/cnn",
    "predictions/cnn.parquet",
    "reports/evaluation",
    "reports/validation",
    "reports/timing",
    "reports/verdict.json",
    "exported/cnn",
)
VERDICT = {"accepted": False, "sentence": "accuracy 0.9 is below 0.95.", "rules": []}
PARAMS = """\
train: {lr: 0.1, epochs: 3}
publish: {name: cells, alias: challenger, check_images: 4, tolerance: 1.0e-4}
tracking: {uri: "sqlite:///mlflow.db", artifacts: mlartifacts, experiment: tests, live: true}
"""
STAND_IN = """
import io, json
from pathlib import Path
import numpy as np
from PIL import Image

class Predictor:
    def __init__(self, folder):
        self.card = json.loads((folder / "card.json").read_text())
        self.classes = self.card["classes"]
        self.scale = float((folder / "weights.txt").read_text())

    def decode(self, source):
        side = self.card["input"]["size_px"]
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        return np.asarray(Image.open(stream).convert("L").resize((side, side)))[..., None]

    def predict_proba(self, images):
        p = images.mean(axis=(1, 2, 3)) / 255 * self.scale
        return np.stack([1 - p, p], axis=1).astype(np.float32)

def load_predictor(folder, device="cpu"):
    return Predictor(Path(folder))
"""


def make_project(root: Path) -> Path:
    """Write a project with the stand-in model below `root`."""
    pixels = np.random.default_rng(0).integers(0, 256, (len(PATHS), SIDE, SIDE, 1), dtype=np.uint8)
    packed = root / f"data/packed/val/{SIDE}"
    packed.mkdir(parents=True)
    np.save(packed / "pixels.npy", pixels)
    write_contract(packed / "contract.json", Contract(CLASSES, SIDE, 1, "stretch"))
    write_table(packed / "rows.parquet", pa.table({"path": PATHS}))
    members = {"path": PATHS, "sha256": PATHS, "label": ["good"] * 12, "side": ["val"] * 12}
    write_table(root / "data/splits/members.parquet", pa.table(members))
    write_model(root / "models/cnn")
    good = (pixels.mean(axis=(1, 2, 3)) / 255 * 0.5).astype(np.float32)
    answers = {"path": PATHS, "p_bad one": 1 - good, "p_good": good}
    write_table(root / "predictions/cnn.parquet", pa.table(answers))
    point = {"criterion": "f1", "positive": "good", "threshold": POINT, "value_on_val": None}
    test = {"accuracy": 0.9, "recall@0.5": {"bad one": 0.5}}
    figures = {"cnn": {"test": test, "n": 12, "ok": True, "operating_point": point}}
    write_json(root / "reports/evaluation/metrics.json", figures)
    write_json(root / "reports/validation/result.json", {"success": True})
    write_text(root / "reports/validation/index.html", "<p>fine</p>")
    write_text(root / "reports/validation/data_docs/index.html", "<p>needs the network</p>")
    write_json(root / "reports/timing/fit-cnn.json", {"device": "cuda", "python": "3.99", "seconds": 1.5})
    write_json(root / "reports/verdict.json", VERDICT)
    write_record(root / "exported/cnn", read_json(root / "models/cnn/card.json"), {})
    write_text(root / "params.yaml", PARAMS)
    return root


def add_rival(root: Path, name: str = "svm") -> Path:
    """Put another model on the leaderboard of the project at `root`, as the baseline stage leaves it."""
    folder = write_model(root / "models" / name)
    (folder / "history.jsonl").unlink()
    network = read_json(folder / "card.json")
    made = {part: network[part] for part in ("classes", "format", "input", "weights")}
    made |= {"kind": "baseline", "name": name, "arch": name, "chosen": {"c": 1.5}, "search": [{"c": 1.5}]}
    calibration = {"scale": 1.0, "bias": [0.0, 0.0], "note": None}
    write_json(folder / "card.json", made | {"calibration": calibration, "features": {"hog_cells": 8}})
    save_manifest(folder)
    shutil.copy(root / "predictions/cnn.parquet", root / f"predictions/{name}.parquet")
    metrics = root / "reports/evaluation/metrics.json"
    write_json(metrics, read_json(metrics) | {name: {"test": {"accuracy": 0.8}}})
    write_json(root / f"reports/timing/fit-{name}.json", {"device": "cpu", "seconds": 0.5})
    return folder


def write_model(folder: Path) -> Path:
    """Write the stand-in's model folder."""
    write_text(folder / "weights.txt", "0.5")
    weights = {"file": "weights.txt", "sha256": digest_file(folder / "weights.txt")}
    contract = {"size_px": SIDE, "channels": 1, "fit": "stretch"}
    card = {"kind": "network", "name": "cnn", "arch": "residual", "arch_args": {}, "normalise": "dataset"}
    card |= {"format": 1, "classes": CLASSES, "input": contract, "weights": weights}
    write_json(folder / "card.json", card)
    lines = [json.dumps({"epoch": n, "train_loss": 1 / n}) + "\n" for n in (1, 2, 3)]
    write_text(folder / "history.jsonl", "".join(lines))
    save_manifest(folder)
    return folder


def make_package(root: Path) -> Path:
    """Write a package `convflow` that holds nothing but the stand-in predictor and what decides."""
    write_text(root / "convflow/__init__.py", "")
    write_text(root / "convflow/models.py", STAND_IN)
    write_text(root / "convflow/evaluation/__init__.py", "")
    write_text(root / "convflow/data/__init__.py", "")
    for module in (errors, images, operating_point, ranking):
        shutil.copy(module.__file__, root / Path(*module.__name__.split(".")).with_suffix(".py"))
    return root / "convflow"


def write_image(path: Path, brightness: int) -> Path:
    """Write a plain grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (SIDE, SIDE), brightness).save(path)
    return path
