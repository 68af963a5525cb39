"""A study in little: two classes in modules, splits of both protocols, a feature that tells the label."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from convflow.data.packed import Contract, write_contract
from convflow.files import write_json
from convflow.stages import protocols
from convflow.tables import write_table

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
    """Write data/scan, data/splits, data/features and data/packed/networks below `root`.

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
    packed = root / "data/packed/networks"
    write_table(packed / "rows.parquet", table)
    pixels = rng.integers(0, 120, (N_IMAGES, 8, 8, 1)) + 100 * label_N[:, None, None, None]
    np.save(packed / "pixels.npy", pixels.astype(np.uint8))
    np.save(packed / "labels.npy", label_N)
    np.save(packed / "weights.npy", np.ones(N_IMAGES, np.float32))
    write_contract(packed / "contract.json", Contract(CLASSES, 8, 1, "stretch"))
    (root / "data/features").mkdir()
    feature_NF = np.column_stack([label_N + rng.normal(0, 0.35, N_IMAGES), rng.normal(size=N_IMAGES)])
    np.save(root / "data/features/all.npy", feature_NF.astype(np.float32))
    write_json(root / "data/features/features.json", {"blocks": [["told", 1], ["noise", 1]]})
    return root
