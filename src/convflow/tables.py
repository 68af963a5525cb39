"""Parquet tables through pyarrow: one writer, so that equal content gives equal bytes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from convflow.errors import DataError
from convflow.files import whole_file


def write_table(path: Path, table: pa.Table, *, about: dict[str, Any] | None = None) -> None:
    """Write `table` to `path`, whole or not at all; `about` (JSON values) goes into its metadata."""
    if about is not None:
        text = json.dumps(about, sort_keys=True, ensure_ascii=False)
        table = table.replace_schema_metadata({"convflow": text})
    with whole_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or only its `columns`.

    Raises:
        DataError: when the file is missing or is not a whole Parquet table.
    """
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise DataError(f"{path}: no such table; run `dvc repro` to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable table ({error}); remove it and run `dvc repro`") from None


def read_about(path: Path) -> dict[str, Any]:
    """Read what `write_table` was told about the table.

    Raises:
        DataError: as `read_table` does.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise DataError(f"{path}: no such table; run `dvc repro` to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable table ({error}); remove it and run `dvc repro`") from None
    about: dict[str, Any] = json.loads(metadata.get(b"convflow", b"{}"))
    return about
