"""export.json: what the folder of an exported network says of itself, checked before anything else is read.

A candidate without a network leaves a record that names no file.
"""

from pathlib import Path
from typing import Any, NamedTuple

from convflow.cards import CARD
from convflow.errors import ConvflowError, ModelError
from convflow.files import digest_file, read_json, write_json

RECORD, TIMING = "export.json", "timing.json"
PLAIN, SMALL = "fp32", "int8"
FILES = {PLAIN: "model.onnx", SMALL: "model.int8.onnx"}
OPSET = 20
MOST_BYTES = 2**31 - 1  # of one protobuf message
_FORMAT = 1
_REMEDY = "run `dvc checkout` or `dvc repro --force export`, or use --runtime torch"


class Exported(NamedTuple):
    """Where an exported network lies, and where the times are that tell which of its files is the fastest."""

    folder: Path
    timing: Path


def write_record(folder: Path, card: dict[str, Any], said: dict[str, Any]) -> None:
    """Write the record of the ONNX files in `folder`, made from the model that has this `card`.

    `said` is what else there is to say: how many pictures to ask at once, the figures of the check.
    """
    files = {
        kind: {"file": name, "sha256": digest_file(folder / name), "bytes": (folder / name).stat().st_size}
        for kind, name in FILES.items()
        if (folder / name).is_file()
    }
    about = {"format": _FORMAT, "kind": card["kind"], "weights_sha256": card["weights"]["sha256"]}
    contract = {"classes": card["classes"], "input": card["input"], "opset": OPSET}
    write_json(folder / RECORD, {**said, **about, **contract, "files": files})


def stands_for(folder: Path, card: dict[str, Any]) -> bool:
    """Whether `folder` holds the network of the model that has this `card`, not of an earlier one."""
    if not (folder / RECORD).is_file():
        return False
    record = read_record(folder)
    return bool(record["files"]) and record["weights_sha256"] == card["weights"]["sha256"]


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record in `folder`.

    Raises:
        ModelError: there is none, or it does not describe an exported network.
    """
    path = folder / RECORD
    try:
        record: Any = read_json(path)
    except ConvflowError as error:
        raise ModelError(str(error)) from None
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        found = record.get("format") if isinstance(record, dict) else record
        raise ModelError(f"{path}: format {found!r:.40}, this convflow reads {_FORMAT}; {_REMEDY}")
    files = record.get("files")
    if not isinstance(files, dict) or not all(
        kind in FILES and _is_file(entry, FILES[kind]) for kind, entry in files.items()
    ):
        raise ModelError(f"{path}: files is {files!r:.80}; {_REMEDY}")
    at_once = record.get("at_once")
    if files and not (type(at_once) is int and 1 <= at_once <= 4096 and record.get("opset") == OPSET):
        raise ModelError(f"{path}: at_once {at_once!r:.40}, opset {record.get('opset')!r:.40}; {_REMEDY}")
    if not isinstance(record.get("weights_sha256"), str):
        raise ModelError(f"{path}: no sha256 of {CARD}'s weights; {_REMEDY}")
    return record


def whole_file_of(folder: Path, record: dict[str, Any], kind: str) -> bytes:
    """The bytes of the file `kind` that the record vouches for; nothing of another length is read.

    Raises:
        ModelError: it is missing, or not the one.
    """
    entry = record["files"].get(kind)
    if entry is None:
        raise ModelError(f"{folder / RECORD}: no {kind} file; {_REMEDY}")
    path = folder / entry["file"]
    if not path.is_file():
        raise ModelError(f"{path}: missing; {_REMEDY}")
    if path.stat().st_size != entry["bytes"]:
        raise ModelError(f"{path}: {path.stat().st_size:,} bytes, not {entry['bytes']:,}; {_REMEDY}")
    if digest_file(path) != entry["sha256"]:
        raise ModelError(f"{path}: its sha256 is not the one in {RECORD}; {_REMEDY}")
    content: bytes = path.read_bytes()
    return content


def fastest(exported: Exported, record: dict[str, Any]) -> str:
    """The kind of file that was measured to answer first, `fp32` where nothing was measured."""
    try:
        timing: Any = read_json(exported.timing) if exported.timing.is_file() else {}
    except ConvflowError:
        timing = {}
    used = timing.get("use") if isinstance(timing, dict) else None
    return SMALL if used == SMALL and SMALL in record["files"] else PLAIN


def _is_file(entry: Any, name: str) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("file") == name
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("bytes")) is int
        and 0 < entry["bytes"] <= MOST_BYTES
    )
