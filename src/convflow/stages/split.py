"""data/approved -> data/splits: a side for every image, and the leak probe's answer."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from convflow.data.layout import SIDES
from convflow.data.leaks import Probe, Rows, probe_all, sentence, tripped
from convflow.data.sides import read_sides, side_of, write_sides
from convflow.data.splitting import (
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
from convflow.tables import read_table, write_table

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


def run(approved: Path, splits: Path, sides: Path, *, params: Params) -> None:
    """Assign sides, probe them for leaks, write members, findings and the memory of the sides."""
    table = read_table(approved / "rows.parquet")
    rows: Columns = table.to_pydict()
    group = rows["group"] if params.method == "grouped" else [None] * table.num_rows
    family = families(rows["sha256"], rows["dhash"], group, params.near_duplicate_distance)
    side, why = _assign(rows, group, family, params, sides)
    check_sides(side, rows["label"])
    torn = _torn(rows, group, side, params)
    probes, majority = _probe(rows, family, side, params.seed)
    finding = sentence(probes, majority, params.leak_limit)
    has_tripped = bool(tripped(probes, params.leak_limit))
    _complain(rows["path"], side, torn, finding if has_tripped else "", fail=params.leak_probe == "fail")
    with whole_folder(splits) as folder:
        members = table.append_column("side", pa.array(side)).append_column("why", pa.array(why))
        write_table(folder / "members.parquet", members, about=_settings(params))
        write_json(folder / "leak.json", _report(probes, majority, finding, has_tripped, len(torn)))
    write_sides(sides, _settings(params), list(zip(rows["sha256"], group, side, strict=True)))
    _tell(rows["label"], side, finding)


def _settings(params: Params) -> dict[str, Any]:
    return params.model_dump(exclude={"leak_probe", "leak_limit"})


def _assign(
    rows: Columns, group: Sequence[str | None], family: Any, params: Params, sides: Path
) -> tuple[list[str], list[str]]:
    if params.method == "column":
        return assign_by_column(rows["split"], rows["path"]), [""] * len(rows["path"])
    key = [g if g is not None else s for g, s in zip(group, rows["sha256"], strict=True)]
    fractions = Fractions(params.val_fraction, params.test_fraction)
    memory = read_sides(sides, _settings(params))
    before = [side_of(memory, *image) for image in zip(rows["sha256"], group, strict=True)]
    return assign_by_hash(family, key, fractions, seed=params.seed, before=before)


def _torn(
    rows: Columns, group: Sequence[str | None], sides: Sequence[str], params: Params
) -> list[list[int]]:
    """Families on several sides, without the excluded images that would tie them together."""
    kept = [index for index, side in enumerate(sides) if side in SIDES]
    digests, hashes = ([rows[name][index] for index in kept] for name in ("sha256", "dhash"))
    family = families(digests, hashes, [group[index] for index in kept], params.near_duplicate_distance)
    torn = torn_families(family, [sides[index] for index in kept])
    return [[kept[index] for index in members] for members in torn]


def _complain(
    paths: Sequence[str], sides: Sequence[str], torn: Sequence[Sequence[int]], finding: str, *, fail: bool
) -> None:
    """Say on stderr what makes the accuracy an illusion, or stop.

    Raises:
        DataError: a leak, where `split.leak_probe` is fail.
    """
    remedy = (
        "keep together what was taken together (split.method: grouped), unless this clue is the label's own"
    )
    lines = [f"leak probe {finding}; {remedy}"] if finding else []
    if torn:
        members = ", ".join(f"{paths[index]} ({sides[index]})" for index in torn[0][:2])
        lines.append(
            f"{len(torn):,} sets of copies, look-alikes or groups lie on several sides, as {members}; "
            "give them one side"
        )
    if lines and fail:
        raise DataError(f"split: {lines[0]}")
    for line in lines:
        print(f"split: {line}", file=sys.stderr)


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


def _tell(labels: Sequence[str], sides: Sequence[str], finding: str) -> None:
    counts = Counter(zip(sides, labels, strict=True))
    for side, n_images in sorted(Counter(sides).items()):
        shares = ", ".join(f"{label} {counts[side, label]:,}" for label in sorted(set(labels))[:8])
        print(f"split: {side} {n_images:,} images ({shares})")
        missing = [label for label in sorted(set(labels)) if not counts[side, label]]
        if missing and side in SIDES:
            print(
                f"split: {side} has no image of {', '.join(missing)}; metrics leave it out", file=sys.stderr
            )
    if finding.startswith("clear"):
        print(f"split: leak probe {finding}")
