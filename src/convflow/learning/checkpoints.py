"""Where an interrupted training goes on from, keyed by everything its result depends on."""

import shutil
from pathlib import Path
from typing import Any

import torch

from convflow.files import digest_file, digest_json, whole_file

_NAME = "state.pt"


def checkpoint_folder(parent: Path, key: str) -> Path:
    """The folder of the training `key` below `parent`; those of other keys are of no use now and removed."""
    for other in parent.glob("*"):
        if other.is_dir() and other.name != key[:16]:
            shutil.rmtree(other, ignore_errors=True)
    folder = parent / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def code_digest() -> str:
    """SHA-256 of the code that trains: a run does not go on under other code than it began with."""
    package = Path(__file__).parent.parent
    rooms = [package / room for room in ("data", "learning", "nets")]
    files = sorted(file for room in rooms for file in room.glob("*.py"))
    return digest_json({file.relative_to(package).as_posix(): digest_file(file) for file in files})


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values, whole or not at all."""
    with whole_file(folder / _NAME) as partial:
        torch.save(state, partial)


def load_state(folder: Path) -> dict[str, Any] | None:
    """What `save_state` saved, read without executing anything; None when there is nothing whole."""
    try:
        state: dict[str, Any] = torch.load(folder / _NAME, weights_only=True, map_location="cpu")
    except Exception:  # noqa: BLE001  torch raises many types on broken bytes; they only cost time
        return None
    return state
