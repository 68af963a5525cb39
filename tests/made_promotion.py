"""A finished project in little whose versions can be compared: grey pictures, models that find a threshold.

A picture is "good" where its grey is at least 128. A model of scale s says good from grey 63.75 / s on: 0.5
is always right, and others are wrong for the greys between.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from sqlalchemy import Engine, event

from convflow.data.packed import Contract, write_contract
from convflow.files import digest_file, read_json, write_json, write_text
from convflow.manifest import save_manifest
from convflow.registry import blessing, promotion, rescoring
from convflow.registry.limits import Promote
from convflow.registry.store import Tracking, open_store
from convflow.tables import write_table
from made_project import CLASSES, PARAMS, POINT, SIDE, STAND_IN, make_project

N_IMAGES = 120
LIMITS = Promote(
    metric="balanced_accuracy", margin=0.0, max_class_drop=0.05, max_slice_drop=0.1, min_slice=20,
    min_rows=50, allow_dirty=False, tolerance=1e-5, check_images=4, max_load_s=60.0, max_size_mb=100.0,
)  # fmt: skip
ACCEPTED = {"accepted": True, "sentence": "cnn is accepted: all 3 rules hold", "rules": []}
_MADE: dict = {}
exec(STAND_IN, _MADE)  # noqa: S102  what the packaged stand-in is


class Quiet:
    """A proof that asks nobody: the fresh process costs seconds."""

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None: ...
    def ask(self, *_: object) -> None: ...
    def check(self, *_: object) -> float:
        return 1e-7

    def load_s(self) -> float:
        return 1.5


class Broken(Quiet):
    """A proof whose model answers otherwise."""

    def check(self, *_: object) -> float:
        return 0.25


def make(root: Path) -> Path:
    """Write the project below `root` and commit it; its first model is right 80 times of 100."""
    make_project(root)
    pack(root, "val", 0, 24)
    pack(root, "test", 1000, N_IMAGES)
    write_members(root)
    write_model(root, 0.4)
    write_text(root / ".gitignore", "*\n!params.yaml\n!.gitignore\n")
    text = PARAMS + yaml.safe_dump({"promote": LIMITS.model_dump()})
    write_text(root / "params.yaml", text)
    git(root, "init", "-q")
    commit(root)
    return root


def pack(root: Path, side: str, first: int, n_images: int) -> None:
    """Plain grey pictures from dark to bright, packed."""
    folder = root / f"data/packed/{side}/{SIDE}"
    folder.mkdir(parents=True, exist_ok=True)
    grey_N = np.linspace(0, 255, n_images).astype(np.uint8)
    np.save(folder / "pixels.npy", np.broadcast_to(grey_N[:, None, None, None], (n_images, SIDE, SIDE, 1)))
    np.save(folder / "labels.npy", (grey_N >= 128).astype(np.int64))
    np.save(folder / "weights.npy", np.ones(n_images, np.float32))
    write_contract(folder / "contract.json", Contract(CLASSES, SIDE, 1, "stretch"))
    names = [f"a b/{first + n}.png" for n in range(n_images)]
    write_table(
        folder / "rows.parquet", pa.table({"path": names, "sha256": names, "brightness_mean": grey_N})
    )


def write_members(root: Path, **sides: list[str]) -> None:
    """The images of val and test, and others by side, as split lists them."""
    names, where = [], []
    for side, first, n_images in (("val", 0, 24), ("test", 1000, N_IMAGES)):
        names += [f"a b/{first + n}.png" for n in range(n_images)]
        where += [side] * n_images
    for side, more in sides.items():
        where = [side if name in more else old for name, old in zip(names, where, strict=True)]
    members = {"path": names, "sha256": names, "label": ["good"] * len(names), "side": where}
    write_table(root / "data/splits/members.parquet", pa.table(members))


def write_model(root: Path, scale: float, accepted: bool = True) -> None:
    """The model of this scale, what it says of val and test, and its verdict."""
    folder = root / "models/cnn"
    write_text(folder / "weights.txt", str(scale))
    weights = {"file": "weights.txt", "sha256": digest_file(folder / "weights.txt")}
    write_json(folder / "card.json", read_json(folder / "card.json") | {"weights": weights})
    save_manifest(folder)
    names, prob = [], []
    for side, first in (("val", 0), ("test", 1000)):
        pixels = np.load(root / f"data/packed/{side}/{SIDE}/pixels.npy")
        names += [f"a b/{first + n}.png" for n in range(len(pixels))]
        prob.append(predictor(folder).predict_proba(pixels))
    prob_NK = np.concatenate(prob)
    answers = {
        "path": names,
        "sha256": names,
        **{f"p_{name}": prob_NK[:, k] for k, name in enumerate(CLASSES)},
    }
    write_table(root / "predictions/cnn.parquet", pa.table(answers))
    point = {"criterion": "f1", "positive": "good", "threshold": POINT, "value_on_val": None}
    accuracy = {"value": 0.9, "low": 0.85, "high": 0.94}
    write_json(
        root / "reports/evaluation/metrics.json",
        {"cnn": {"test": {"accuracy": accuracy}, "scale": scale, "operating_point": point}},
    )
    write_json(root / "reports/verdict.json", ACCEPTED | {"accepted": accepted})


def predictor(folder: Path, device: str = "cpu") -> object:
    """The stand-in, loaded in this process."""
    return _MADE["load_predictor"](folder)


def patch_all(patch, proof: type = Quiet) -> None:
    """Let promotion ask stand-ins: no fresh process, no network."""
    patch.setattr(rescoring, "load_predictor", predictor)
    patch.setattr(blessing, "needs_of", lambda _: type("Needs", (), {"modules": ()}))
    patch.setattr(promotion, "user", lambda: "ann")


def house(root: Path, limits: Promote = LIMITS, ask: type = Quiet, uri: str = "sqlite:///mlflow.db"):
    """What an act needs."""
    tracking = Tracking(uri=uri, artifacts="mlartifacts", experiment="tests", live=False)
    return promotion.House(open_store(tracking, root, {}), "cells", "challenger", limits, None, ask=ask)


@contextmanager
def unsynced() -> Iterator[None]:
    """SQLite does not wait for the disk: a killed process loses nothing by it, only a power cut would."""

    def hurry(link, _) -> None:
        link.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hurry)


def git(root: Path, *arguments: str) -> None:
    """Run git in `root`."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    """Commit what is there."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")
