"""data/approved -> data/splits: a side for every image, and the leak probe's answer."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from convflow.data.leaks import Probe, Rows, probe_all, sentence, tripped
from convflow.data.splitting import (
    EXCLUDED,
    Fractions,
    assign_by_column,
    assign_by_hash,
    check_sides,
    families,
    torn_families,
)
from convflow.errors import DataError
from convflow.files import whole_folder, write_json
from convflow.params import Fraction, Section
from convflow.tables import read_about, read_table, write_table

Columns = dict[str, list[Any]]


class Params(Section):
    """`split:` in params.yaml."""

    method: Literal["grouped", "stratified", "column"]
    seed: int
    val_fraction: Fraction
    test_fraction: Fraction
    near_duplicate_distance: Annotated[int, Field(ge=0, le=15)]
    leak_probe: Literal["warn", "fail"]
    leak_limit: Fraction

    @model_validator(mode="after")
    def _leave_some_to_train_on(self) -> "Params":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction + test_fraction leave nothing to train on")
        return self


def run(approved: Path, splits: Path, *, params: Params) -> None:
    """Assign sides, probe them for leaks, write members and findings."""
    table = read_table(approved / "rows.parquet")
    rows: Columns = table.to_pydict()
    group = rows["group"] if params.method == "grouped" else [None] * table.num_rows
    family = families(rows["sha256"], rows["dhash"], group, params.near_duplicate_distance)
    sides, why = _assign(rows, group, family, params, splits / "members.parquet")
    check_sides(sides, rows["label"])
    probes, majority = _probe(rows, family, sides, params.seed)
    finding = sentence(probes, majority, params.leak_limit)
    has_tripped = bool(tripped(probes, params.leak_limit))
    if has_tripped and params.leak_probe == "fail":
        raise DataError(f"split: leak probe {finding}; split by group, or set split.leak_probe: warn")
    with whole_folder(splits) as folder:
        members = table.append_column("side", pa.array(sides)).append_column("why", pa.array(why))
        write_table(folder / "members.parquet", members, about=_settings(params))
        write_json(
            folder / "leak.json",
            _report(probes, majority, finding, has_tripped, torn_families(family, sides)),
        )
    _tell(rows["label"], sides, finding, has_tripped)


def _settings(params: Params) -> dict[str, Any]:
    return params.model_dump(exclude={"leak_probe", "leak_limit"})


def _assign(
    rows: Columns, group: Sequence[str | None], family: Any, params: Params, memory: Path
) -> tuple[list[str], list[str]]:
    if params.method == "column":
        return assign_by_column(rows["split"], rows["path"]), [""] * len(rows["path"])
    key = [g if g is not None else s for g, s in zip(group, rows["sha256"], strict=True)]
    fractions = Fractions(params.val_fraction, params.test_fraction)
    before = _recall(memory, rows["sha256"], group, params)
    return assign_by_hash(family, key, fractions, seed=params.seed, before=before)


def _recall(
    memory: Path, sha256: Sequence[str], group: Sequence[str | None], params: Params
) -> list[str | None]:
    """Sides in the last split, if it had the same settings; None for new images and new groups."""
    if not memory.is_file() or read_about(memory) != _settings(params):
        return [None] * len(sha256)
    last: Columns = read_table(memory, columns=["sha256", "group", "side"]).to_pydict()
    groups = last["group"] if params.method == "grouped" else [None] * len(last["group"])
    known = dict(zip(zip(last["sha256"], groups, strict=True), last["side"], strict=True))
    sides = [known.get(image) for image in zip(sha256, group, strict=True)]
    return [None if side == EXCLUDED else side for side in sides]


def _probe(rows: Columns, family: Any, sides: Sequence[str], seed: int) -> tuple[list[Probe], float]:
    names = sorted(set(rows["label"]))
    place = {name: index for index, name in enumerate(names)}
    label_N = np.asarray([place[label] for label in rows["label"]])
    file_NF = np.column_stack([rows["bytes"], rows["width"], rows["height"]]).astype(np.float64)
    light_NF = np.column_stack([rows["brightness_mean"], rows["brightness_spread"]])
    everything = Rows(rows["path"], label_N, names, file_NF, light_NF, family)
    fit = np.flatnonzero(np.asarray(sides) == "train")
    ask = np.flatnonzero(np.isin(sides, ["val", "test"]))
    train, held = everything.take(fit), everything.take(ask)
    majority = float((held.label_N == np.bincount(train.label_N).argmax()).mean())
    return probe_all(train, held, seed=seed), majority


def _report(
    probes: list[Probe], majority: float, finding: str, has_tripped: bool, torn: int
) -> dict[str, Any]:
    return {
        "tripped": has_tripped,
        "sentence": finding,
        "majority_accuracy": majority,
        "probes": [vars(probe) for probe in probes],
        "families_on_several_sides": torn,
    }


def _tell(labels: Sequence[str], sides: Sequence[str], finding: str, has_tripped: bool) -> None:
    counts = Counter(zip(sides, labels, strict=True))
    for side, n_images in sorted(Counter(sides).items()):
        shares = ", ".join(f"{label} {counts[side, label]:,}" for label in sorted(set(labels))[:8])
        print(f"split: {side} {n_images:,} images ({shares})")
    print(f"split: leak probe {finding}", file=sys.stderr if has_tripped else sys.stdout)
