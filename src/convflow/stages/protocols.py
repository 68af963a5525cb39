"""data/scan -> data/splits: every protocol's splits as a table, and what the leak probe finds on each"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from convflow.data.groups import group_names, numbered
from convflow.data.leaks import Rows, probe_all
from convflow.errors import DataError
from convflow.files import whole_folder
from convflow.params import PositiveInt, Section
from convflow.studying.protocols import grouped_splits, random_splits
from convflow.studying.splits import Split, split_table
from convflow.tables import read_table, write_table

Share = Annotated[float, Field(gt=0, lt=1)]
Columns = dict[str, list[Any]]


class Random(Section):
    """Each image by itself, every stratum shared out alike."""

    splits: PositiveInt
    test_fraction: Share


class Grouped(Section):
    """Repeated cross-validation over groups."""

    folds: Annotated[int, Field(ge=2)]
    repeats: PositiveInt


class Params(Section):
    """`protocols:` in params.yaml."""

    strata: list[str]
    val_fraction: Share
    seed: Annotated[int, Field(ge=0)]
    random: dict[str, Random]
    grouped: dict[str, Grouped]


def run(scan: Path, splits: Path, *, params: Params) -> None:
    """Write <protocol>.parquet, a row per split and image, and leaks.parquet, one per split and probe."""
    rows: Columns = read_table(scan / "rows.parquet").to_pydict()
    strata = _strata(rows, params.strata)
    with whole_folder(splits) as folder:
        leaks: list[dict[str, Any]] = []
        both: dict[str, Random | Grouped] = {**params.random, **params.grouped}
        for name, protocol in both.items():
            found = list(_splits(rows, strata, protocol, params))
            method = type(protocol).__name__.lower()
            about = params.model_dump(include={"strata", "val_fraction", "seed"}) | protocol.model_dump()
            table = split_table(rows["path"], rows["sha256"], found)
            write_table(folder / f"{name}.parquet", table, about={"method": method} | about)
            for split in tqdm(found, unit="split", desc=f"leak probe {name}", disable=None):
                leaks += _probe(name, rows, split, params.seed)
            _tell(name, found)
        write_table(folder / "leaks.parquet", pa.Table.from_pylist(leaks))


def _strata(rows: Columns, names: list[str]) -> list[str]:
    """The combination of the columns `names` for each image, as one name."""
    known = {key.removeprefix("tag_"): values for key, values in rows.items()}
    for name in names:
        if name not in known:
            raise DataError(f"protocols.strata: no column {name!r}; there are {', '.join(sorted(known))}")
    columns = [known[name] for name in names]
    return [" / ".join(map(str, values)) for values in zip(*columns, strict=True)]


def _splits(rows: Columns, strata: list[str], protocol: Random | Grouped, params: Params) -> Iterator[Split]:
    if isinstance(protocol, Random):
        return random_splits(
            strata,
            n_splits=protocol.splits,
            test_fraction=protocol.test_fraction,
            val_fraction=params.val_fraction,
            seed=params.seed,
        )
    return grouped_splits(
        strata,
        group_names(rows["group"], rows["sha256"]),
        n_folds=protocol.folds,
        n_repeats=protocol.repeats,
        val_fraction=params.val_fraction,
        seed=params.seed,
    )


def _probe(protocol: str, rows: Columns, split: Split, seed: int) -> list[dict[str, Any]]:
    """What each probe reaches on test, having learnt from the rest; `gain` as in `convflow.data.leaks`."""
    names = sorted(set(rows["label"]))
    label_N = np.asarray([names.index(label) for label in rows["label"]])
    everything = Rows(
        rows["path"],
        label_N,
        names,
        np.column_stack([rows["bytes"], rows["width"], rows["height"]]).astype(np.float64),
        np.column_stack([rows["brightness_mean"], rows["brightness_spread"]]),
        numbered(group_names(rows["group"], rows["sha256"])),
    )
    fit, ask = (everything.take(split.rows(*sides)) for sides in (("train", "val"), ("test",)))
    commonest = np.bincount(fit.label_N).argmax()
    base = {"protocol": protocol, "repeat": split.repeat, "fold": split.fold}
    base["majority"] = float((ask.label_N == commonest).mean())
    return [
        base | {"probe": probe.name, "sees": probe.sees, "accuracy": probe.accuracy, "gain": probe.gain}
        for probe in probe_all(fit, ask, seed=seed)
    ]


def _tell(name: str, splits: list[Split]) -> None:
    sizes = {side: {len(split.rows(side)) for split in splits} for side in ("train", "val", "test")}
    text = ", ".join(
        f"{side} {min(found):,}" + (f"-{max(found):,}" if len(found) > 1 else "")
        for side, found in sizes.items()
    )
    print(f"protocols: {name}: {len(splits)} splits of {len(splits[0].side_N):,} images ({text})")
