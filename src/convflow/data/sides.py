"""The memory of the split: which side each image was given, kept in git so that a clone gives the same."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convflow.data.layout import SIDES
from convflow.errors import DataError
from convflow.files import write_text

_COLUMNS = ["sha256", "group", "side"]
_DIGITS = 24  # of the digest: enough to tell a billion images apart, and lines stay short

Key = tuple[str, str]


def write_sides(path: Path, settings: Mapping[str, Any], rows: Sequence[tuple[str, str | None, str]]) -> None:
    """Write (sha256, group, side) of every image that has a side, after a line with the split's settings."""
    text = io.StringIO()
    text.write(f"# {json.dumps(settings, sort_keys=True)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    known = {(sha256[:_DIGITS], group or "", side) for sha256, group, side in rows if side in SIDES}
    writer.writerows(sorted(known))
    write_text(path, text.getvalue())


def read_sides(path: Path, settings: Mapping[str, Any] | None = None) -> dict[Key, str]:
    """Sides by (digest, group) from the last split; empty when there was none, or with other `settings`.

    Raises:
        DataError: the file is not what `write_sides` writes; a wrong guess would move images unseen.
    """
    if not path.is_file():
        return {}
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    try:
        if json.loads(first.removeprefix("# ")) != settings and settings is not None:
            return {}
        rows = list(csv.reader(io.StringIO(rest)))
        if rows[0] != _COLUMNS or any(side not in SIDES for _, _, side in rows[1:]):
            raise ValueError("unknown columns or sides")
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{path}: not the memory of a split ({error}); `git checkout {path}`, or remove it to split anew"
        ) from None
    return {(digest, group): side for digest, group, side in rows[1:]}


def knows_any(path: Path, sha256: Iterable[str]) -> bool | None:
    """Whether the memory in `path` holds one of these images; None where it holds none at all.

    Raises:
        DataError: as `read_sides` does.
    """
    known = {digest for digest, _ in read_sides(path)}
    return any(digest[:_DIGITS] in known for digest in sha256) if known else None


def side_of(memory: Mapping[Key, str], sha256: str, group: str | None) -> str | None:
    """The remembered side of an image, or None for one not seen before in this group."""
    return memory.get((sha256[:_DIGITS], group or ""))
