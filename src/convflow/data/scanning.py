"""Measure all images below a folder: in parallel, each file opened once, unchanged files not at all."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa
from tqdm import tqdm

from convflow import __version__
from convflow.data import images, measuring
from convflow.data.layout import Labelled, Layout, Reject
from convflow.data.measuring import Measured, measure
from convflow.data.workers import map_in_processes
from convflow.errors import DataError
from convflow.files import digest_file
from convflow.tables import read_about, read_table, write_table

# A file touched this shortly before it was measured could change again without a new time stamp.
_SETTLED_NS = 2_000_000_000
# Another decoder may see another picture.
_DECODER = {
    "convflow": __version__,
    "pillow": PIL.__version__,
    "images": digest_file(Path(images.__file__)),
    "measuring": digest_file(Path(measuring.__file__)),
}
# Reasons that may pass while the file stays as it is: permissions, a missing disk, too little memory.
_PASSING = ("missing", "unreadable", "too-large")

REJECT_SCHEMA = pa.schema({name: pa.string() for name in ("path", "label", "reason", "detail")})
ROW_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "sha256": pa.string(),
        "dhash": pa.string(),
        "format": pa.string(),
        "mode": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "bytes": pa.int64(),
        "brightness_mean": pa.float64(),
        "brightness_spread": pa.float64(),
        "label": pa.string(),
        "group": pa.string(),
        "weight": pa.float64(),
        "split": pa.string(),
    }
)

Stamp = tuple[int, int, int]


def measure_all(root: Path, paths: list[str], memory: Path) -> list[Measured]:
    """Measure the files `paths` below `root`, in their order; `memory` keeps results for the next time.

    A file whose size, time stamp and inode are those in `memory` is not opened again.

    Raises:
        DataError: when a decoder took its whole process down.
    """
    known = _recall(memory)
    stamps = [_stamp(root / path) for path in paths]
    found = [known.get((path, stamp)) for path, stamp in zip(paths, stamps, strict=True)]
    new = [index for index, measured in enumerate(found) if measured is None]
    n_bytes = sum(stamps[index][0] for index in new)
    results = _measured(root, [paths[index] for index in new], n_bytes)
    for index, measured in zip(new, results, strict=True):
        found[index] = measured
    whole = [measured for measured in found if measured is not None]
    if new or len(known) != len(whole):
        _remember(memory, paths, stamps, whole)
    return whole


def memory_of(root: Path, folder: Path) -> Path:
    """Where the measurements of `root` are remembered below `folder`; disposable."""
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return folder / f"{name}.parquet"


def tables(layout: Layout, measured: list[Measured]) -> tuple[pa.Table, pa.Table]:
    """Join labels and measurements: (rows, rejects), each sorted by path."""
    rows: list[tuple[Labelled, Measured]] = []
    rejects = list(layout.rejects)
    for item, seen in zip(layout.items, measured, strict=True):
        if seen.reason:
            rejects.append(Reject(item.path, item.label, seen.reason, seen.detail))
        else:
            rows.append((item, seen))
    rejects.sort(key=lambda reject: reject.path)
    return _row_table(rows, layout.tags), pa.Table.from_pylist(
        [vars(reject) for reject in rejects], schema=REJECT_SCHEMA
    )


def summarise(layout: Layout, rows: pa.Table, rejects: pa.Table) -> dict[str, Any]:
    """Counts that add up: files = rows + rejects + ignored; classes with no image are there with 0."""
    classes = dict.fromkeys(layout.classes, 0)
    for label in rows["label"].to_pylist():
        classes[label] = classes.get(label, 0) + 1
    return {
        "layout": layout.kind,
        "files": rows.num_rows + rejects.num_rows + layout.ignored.total(),
        "rows": rows.num_rows,
        "rejects": rejects.num_rows,
        "ignored": dict(layout.ignored),
        "classes": classes,
        "tags": list(layout.tags),
    }


def _row_table(rows: list[tuple[Labelled, Measured]], tags: tuple[str, ...]) -> pa.Table:
    columns: dict[str, Any] = {}
    for column in ROW_SCHEMA:
        source = 0 if column.name in ("path", "label", "group", "weight", "split") else 1
        columns[column.name] = pa.array([getattr(row[source], column.name) for row in rows], column.type)
    for place, tag in enumerate(tags):
        columns[f"tag_{tag}"] = pa.array([item.tags[place] for item, _ in rows], pa.string())
    return pa.table(columns)


def _measured(root: Path, paths: list[str], n_bytes: int) -> Iterator[Measured]:
    results = map_in_processes(measure, [root / path for path in paths])
    return iter(
        tqdm(results, total=len(paths), unit="img", desc=f"scan ({n_bytes / 1e6:,.0f} MB)", disable=None)
    )


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_size, status.st_mtime_ns, status.st_ino)


def _recall(memory: Path) -> dict[tuple[str, Stamp], Measured]:
    if not memory.is_file():
        return {}
    try:
        if read_about(memory) != _DECODER:
            return {}
        columns = read_table(memory).to_pydict()
        paths = columns.pop("path")
        stamps = zip(
            columns.pop("stat_size"), columns.pop("stat_time"), columns.pop("stat_inode"), strict=True
        )
        values = zip(*(columns[name] for name in Measured._fields), strict=True)
        return {(p, s): Measured(*v) for p, s, v in zip(paths, stamps, values, strict=True)}
    except (DataError, KeyError):  # damaged, or of an older convflow: it is only a memory
        return {}


def _remember(memory: Path, paths: list[str], stamps: list[Stamp], measured: list[Measured]) -> None:
    newest = time.time_ns() - _SETTLED_NS
    keep = [
        index
        for index, (stamp, seen) in enumerate(zip(stamps, measured, strict=True))
        if 0 < stamp[1] < newest and seen.reason not in _PASSING
    ]
    columns: dict[str, list[Any]] = {"path": [paths[index] for index in keep]}
    for place, name in enumerate(("stat_size", "stat_time", "stat_inode")):
        columns[name] = [stamps[index][place] for index in keep]
    for place, name in enumerate(Measured._fields):
        columns[name] = [measured[index][place] for index in keep]
    write_table(memory, pa.table(columns), about=_DECODER)
