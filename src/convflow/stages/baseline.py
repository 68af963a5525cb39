"""data/features and data/packed/{train,val} -> models/<kind>: a baseline, its settings chosen inside train"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from convflow.baselines.figures import figure
from convflow.baselines.fitting import Fit, fit_baseline
from convflow.baselines.kinds import KINDS
from convflow.baselines.predictor import save_baseline
from convflow.baselines.rows import Rows, Search
from convflow.baselines.timing import write_timing
from convflow.data.packed import Packed, open_sides
from convflow.errors import DataError, ParamsError
from convflow.files import digest_folder, digest_json, read_json, whole_folder
from convflow.params import Section, Seed
from convflow.recipes.baselines import Baselines
from convflow.tables import read_about, read_table


class Params(Baselines):
    """`baseline:` in params.yaml."""

    kinds: Annotated[list[Literal["majority", "knn", "svm", "logistic"]], Field(min_length=1)]
    seed: Seed


def run(features: Path, train: Path, val: Path, model: Path, timing: Path, *, params: Params) -> None:
    """Fit the baseline that the folder `model` is called after."""
    started = time.monotonic()
    kind = model.name
    if kind not in KINDS:
        raise ParamsError(f"{model}: no baseline {kind!r}; name the folder {', '.join(KINDS)}")
    sides = open_sides(train, val)
    packed = sides["train"]
    packed.need_images()
    told: dict[str, Any] = read_json(features / "features.json")
    blocks = dict(told["blocks"])
    rows, rows_val = (_rows(features / f"{name}.npy", side, blocks) for name, side in sides.items())
    search = _search(kind, params)
    fit = _fit(kind, rows, rows_val, search)
    card = {
        "name": kind,
        "arch": kind,
        "chosen": fit.chosen,
        "search": fit.figures,
        "notes": list(fit.notes),
        **packed.in_card(),
        "features": told["spec"],
        "val": _judge(fit, rows_val),
        "inputs": {
            "features": digest_folder(features),
            "train": digest_folder(train),
            "val": digest_folder(val),
            "params": digest_json(asdict(search)),
        },
    }
    with whole_folder(model) as folder:
        save_baseline(folder, fit.baseline, card)
    write_timing(timing, time.monotonic() - started, len(packed.pixels))
    _tell(kind, fit, search, card["val"], rows.group_N is not None)


def _rows(path: Path, packed: Packed, blocks: dict[str, int]) -> Rows:
    try:
        feature_NF: NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error}); run `dvc repro -f features`") from None
    if feature_NF.shape != (len(packed.labels), sum(blocks.values())):
        raise DataError(f"{path}: not of the images in {packed.folder}; run `dvc repro -f features`")
    weight_N = packed.weights.astype(np.float64)
    classes = packed.contract.classes
    return Rows(
        feature_NF, packed.labels, weight_N, len(classes), blocks, _groups(packed.folder / "rows.parquet")
    )


def _groups(path: Path) -> NDArray[np.int64] | None:
    """The group of each image, by number, where the split keeps groups together; else None."""
    if read_about(path).get("method") != "grouped":
        return None
    rows = read_table(path, ["group", "path"])
    named = zip(rows["group"].to_pylist(), rows["path"].to_pylist(), strict=True)
    # not as `convflow.data.groups` numbers them: scikit-learn deals groups by number, and so other numbers
    # would make other folds, which choose other settings
    keys = [(0, group) if group is not None else (1, alone) for group, alone in named]
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], dtype=np.int64)


def _search(kind: str, params: Params) -> Search:
    grid: Section | None = getattr(params, kind, None)
    values = {} if grid is None else grid.model_dump()
    return Search(values, params.folds, params.seed, params.criterion, params.device)


def _fit(kind: str, train: Rows, val: Rows, search: Search) -> Fit:
    with tqdm(unit=" fits", desc=kind, disable=None) as bar:

        def advance(n_fits: int) -> None:
            bar.total = n_fits
            bar.update()

        return fit_baseline(kind, train, val, search, advance)


def _judge(fit: Fit, val: Rows) -> dict[str, float | None]:
    """Loss (nats) and accuracy over all images of val, calibrated on them; None where there are none."""
    if not len(val.label_N):
        return {"accuracy": None, "loss": None}
    prob_NK = fit.baseline.predict_proba(val.feature_NF).astype(np.float64)
    return {
        "accuracy": figure("accuracy", val.label_N, prob_NK),
        "loss": figure("log_loss", val.label_N, prob_NK),
    }


def _tell(kind: str, fit: Fit, search: Search, val: dict[str, float | None], grouped: bool) -> None:
    chosen = ", ".join(f"{name} {value}" for name, value in fit.chosen.items())
    lines = [f"baseline: {kind}"]
    if fit.figures:
        best = next(one for one in fit.figures if fit.chosen.items() <= one.items())[search.criterion]
        how = "cross-validation by group" if grouped else "cross-validation"
        lines.append(f"{chosen}; of {len(fit.figures)} candidates by {how}, {search.criterion} {best}")
    if val["loss"] is not None:
        lines.append(f"val loss {val['loss']:.4f}, accuracy {val['accuracy']:.4f}")
    print("; ".join([*lines, *fit.notes]))
