"""promotions.jsonl: who made which version champion, when and why; one line per act, chained by hashes.

Each line holds the hash of the line before and its own, so that no line can be changed, left out or put in
without the next one telling. That the end was cut off only a hash kept elsewhere tells: the registered model
bears that of the newest line as a tag. The file is kept in git; a kill or a full disk may leave a torn last
line, which the next act mends.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from convflow.errors import TrackingError

LOG = Path("promotions.jsonl")
FIRST = "0" * 64  # what the first line holds in place of a line before
_REMEDY = "restore the file as git has it (git log -p promotions.jsonl)"


@dataclass(frozen=True)
class Act:
    """What was done: `version` of `model` became champion.

    Args:
        at: when, UTC, ISO 8601.
        action: "promote" or "rollback".
        previous: the champion before; None where there was none.
        by: who did it.
        forced: whether a refusal on quality was overridden.
        reason: in the words of who did it; may be empty.
        decision: SHA-256 of the decision that is kept in the version's run.
    """

    at: str
    action: Literal["promote", "rollback"]
    model: str
    version: str
    previous: str | None
    by: str
    forced: bool
    reason: str
    decision: str


@dataclass(frozen=True)
class Entry(Act):
    """A line of the log: an act, its number from 1, the hash of the line before, and its own."""

    number: int
    before: str
    hash: str


def read_log(path: Path) -> list[Entry]:
    """All acts, oldest first, the chain checked; none where there is no file. A torn last line is left out.

    Raises:
        TrackingError: a line that was changed, left out or put in; its number is named.
    """
    return _read(path)[0]


def append(path: Path, act: Act) -> Entry:
    """Write `act` as the next line, to the disk; a torn last line is mended first. Hold the store's lock.

    An act whose decision is in the log already is not written again.

    Raises:
        TrackingError: as `read_log`.
        OSError: the line could not be written; what stands there of it the next call mends.
    """
    entries, n_sound = _read(path)
    known = next((entry for entry in entries if entry.decision == act.decision), None)
    with path.open("r+b" if path.exists() else "x+b") as file:
        file.truncate(n_sound)
        file.seek(0, os.SEEK_END)
        if n_sound and entries and not _ends_line(path, n_sound):
            file.write(b"\n")  # the line is whole but for its end
        entry = known or _next(entries, act)
        if known is None:
            file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())
    return entry


def check_head(path: Path, entries: Sequence[Entry], head: str | None) -> None:
    """See that the newest act known to the registry is in the log.

    Args:
        path: of the log, for the message.
        entries: all of it.
        head: the hash on the registered model; None where it bears none.

    Raises:
        TrackingError: the end of the log is missing.
    """
    if head and head not in {entry.hash for entry in entries}:
        where = f"it ends with line {len(entries)}" if entries else "it is empty or not there"
        raise TrackingError(
            f"{path}: the newest act in the registry (hash {head[:12]}) is missing, {where}; pull or restore "
            "the file with git; is it lost, delete the tag convflow.promotions.head of the registered model"
        )


def champions(entries: Sequence[Entry], model: str) -> list[str]:
    """The versions of `model` that rollback can go back to, the present champion by the log last."""
    line: list[str] = []
    for entry in entries:
        if entry.model != model:
            continue
        if entry.action == "promote":
            line.append(entry.version)
            continue
        if line and line[-1] == entry.previous:
            line.pop()
        while line and line[-1] != entry.version:
            line.pop()
    return line


def _read(path: Path) -> tuple[list[Entry], int]:
    """The entries, and how many bytes of the file they take."""
    data = path.read_bytes() if path.exists() else b""
    *lines, rest = data.split(b"\n")
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        entries.append(_entry(line, path, number, entries))
    n_sound = len(data) - len(rest)
    if rest and not _is_torn(rest):  # a last line that lacks no more than its end
        entries.append(_entry(rest, path, len(lines) + 1, entries))
        n_sound = len(data)
    return entries, n_sound


def _entry(line: bytes, path: Path, number: int, entries: Sequence[Entry]) -> Entry:
    before = entries[-1].hash if entries else FIRST
    try:
        entry = Entry(**json.loads(line))
        sound = _line(entry) == line + b"\n" and _hash(entry) == entry.hash
    except (ValueError, TypeError):
        sound = False
    if not sound:
        raise TrackingError(f"{path}:{number}: this line is not as it was written; {_REMEDY}")
    if entry.number != number or entry.before != before:
        raise TrackingError(
            f"{path}:{number}: this line does not follow the one before it: lines are missing, moved or put "
            f"in; {_REMEDY}"
        )
    return entry


def _is_torn(rest: bytes) -> bool:
    """Whether a last line without its end is the beginning of one, rather than more than a whole one."""
    try:
        json.JSONDecoder().raw_decode(rest.decode("utf-8", errors="surrogateescape"))
    except ValueError:
        return True
    return False


def _ends_line(path: Path, n_bytes: int) -> bool:
    with path.open("rb") as file:
        file.seek(n_bytes - 1)
        return file.read(1) == b"\n"


def _next(entries: Sequence[Entry], act: Act) -> Entry:
    before = entries[-1].hash if entries else FIRST
    entry = Entry(**asdict(act), number=len(entries) + 1, before=before, hash="")
    return replace(entry, hash=_hash(entry))


def _hash(entry: Entry) -> str:
    told = {name: value for name, value in asdict(entry).items() if name != "hash"}
    return hashlib.sha256(_dump(told)).hexdigest()


def _line(entry: Entry) -> bytes:
    """The one way to write an entry: equal entries have equal bytes."""
    return _dump({field.name: getattr(entry, field.name) for field in fields(Entry)}) + b"\n"


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(", ", ": ")).encode()
