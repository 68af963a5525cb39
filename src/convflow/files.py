"""Files that are whole or absent, the same bytes for the same content."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from convflow.errors import ConvflowError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the name `path` only once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces the folder `path` only once the block has ended well.

    What a killed process left beside `path` is swept away first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{path.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def reserve(file: IO[bytes], n_bytes: int) -> None:
    """Take the room on disk now: written to through a memory map, a disk that is full ends the process.

    Raises:
        OSError: there is not so much.
    """
    if n_bytes and hasattr(os, "posix_fallocate"):  # macOS has it not
        os.posix_fallocate(file.fileno(), 0, n_bytes)


def dump_json(value: Any) -> str:
    """Render `value` as JSON text: sorted keys, UTF-8, a final newline.

    Raises:
        ValueError: on NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as `dump_json` renders it, whole or not at all."""
    write_text(path, dump_json(value))


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON from `path`.

    Raises:
        ConvflowError: when the file is missing, is not JSON, or says one thing twice.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except FileNotFoundError:
        raise ConvflowError(f"{path}: no such file; run `dvc repro` to make it") from None
    except RecursionError:
        raise ConvflowError(f"{path}: not JSON (nested too deep); remove it and run `dvc repro`") from None
    except ValueError as error:
        raise ConvflowError(f"{path}: not JSON ({error}); remove it and run `dvc repro`") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r:.40} more than once")
    return found


def digest_file(path: Path) -> str:
    """SHA-256 of the bytes of `path`, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_folder(path: Path, *, skip: frozenset[str] = frozenset()) -> str:
    """SHA-256 over the relative names and bytes of all files below `path`, less the names in `skip`."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in skip):
        digest.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of `value` as `dump_json` renders it."""
    return hashlib.sha256(dump_json(value).encode()).hexdigest()
