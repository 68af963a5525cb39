"""A study in little: two classes in modules, splits of both protocols, a feature that tells the label."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from convflow.files import digest_folder, write_json
from convflow.learning.embedded import About, write_about
from convflow.stages import protocols
from convflow.tables import write_table
from made_folder import write_packed

CLASSES = ["bad", "good"]
N_IMAGES, N_MODULES = 240, 24
PROTOCOLS = {
    "strata": ["label", "wafer"],
    "val_fraction": 0.2,
    "seed": 0,
    "random": {"P1": {"splits": 6, "test_fraction": 0.25}},
    "grouped": {"P2": {"folds": 3, "repeats": 2}},
}


def make_study(root: Path, *, seed: int = 0) -> Path:
    """Write data/scan, data/splits, data/features, data/encoded and two of data/packed below `root`.

    Labels run together within modules (the file order tells them), and a feature tells them, too.
    """
    rng = np.random.default_rng(seed)
    module_N = np.arange(N_IMAGES) // (N_IMAGES // N_MODULES)
    label_N = (rng.random(N_IMAGES) < np.where(module_N % 2, 0.9, 0.25)).astype(np.int64)
    rows = {
        "path": [f"images/{n:03d}.png" for n in range(N_IMAGES)],
        "sha256": [f"{n + 1000 * seed:064x}" for n in range(N_IMAGES)],
        "mode": ["L"] * N_IMAGES,
        "label": [CLASSES[label] for label in label_N],
        "group": [f"module-{module:02d}" for module in module_N],
        "tag_wafer": ["mono" if module % 3 else "poly" for module in module_N],
        "bytes": rng.integers(900, 1100, N_IMAGES),
        "width": [8] * N_IMAGES,
        "height": [8] * N_IMAGES,
        "brightness_mean": rng.normal(100, 10, N_IMAGES),
        "brightness_spread": rng.normal(20, 3, N_IMAGES),
        "weight": np.ones(N_IMAGES),
    }
    table = pa.table(rows)
    write_table(root / "data/scan/rows.parquet", table)
    protocols.run(root / "data/scan", root / "data/splits", params=protocols.Params(**PROTOCOLS))
    pixels = rng.integers(0, 120, (N_IMAGES, 8, 8, 1)) + 100 * label_N[:, None, None, None]
    for use in ("networks", "pretrained"):
        write_packed(root / "data/packed" / use, pixels, label_N, CLASSES, table)
    (root / "data/features").mkdir()
    feature_NF = np.column_stack([label_N + rng.normal(0, 0.35, N_IMAGES), rng.normal(size=N_IMAGES)])
    np.save(root / "data/features/all.npy", feature_NF.astype(np.float32))
    write_json(root / "data/features/features.json", {"blocks": [["told", 1], ["noise", 1]]})
    encode(root, label_N, rng)
    return root


def encode(root: Path, label_N: np.ndarray, rng: np.random.Generator) -> None:
    """Write data/encoded: two stages, of which the later tells the label, under two views."""
    told_NV = label_N[:, None] + rng.normal(0, 0.35, (N_IMAGES, 2))
    feature_NVF = np.concatenate([rng.normal(size=(N_IMAGES, 2, 3)), told_NV[..., None]], axis=2)
    (root / "data/encoded").mkdir()
    np.save(root / "data/encoded/all.npy", feature_NVF.astype(np.float32))
    inputs = {"all": digest_folder(root / "data/packed/pretrained")}
    write_about(root / "data/encoded", About("made", "0" * 64, {}, [1, 2], [3, 1], "mirror", "fp32", inputs))
