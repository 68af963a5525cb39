"""How long each split took, kept beside the results of an interrupted run."""

from pathlib import Path
from typing import Any

from convflow.errors import ConvflowError
from convflow.files import read_json, write_json
from convflow.studying.jobs import Done


class Timing:
    """Seconds and device by split, in a JSON file; the one output that differs between equal runs."""

    def __init__(self, path: Path, key_of: dict[str, str]) -> None:
        """Go on from `path`, less what belongs to other keys than `key_of` now gives each split."""
        self.path, self._key_of = path, key_of
        try:
            found: dict[str, dict[str, Any]] = read_json(path)
        except ConvflowError:  # none yet, or damaged: it only tells of the past
            found = {}
        self._splits = {name: one for name, one in found.items() if one.get("key") == key_of.get(name)}

    def add(self, name: str, done: Done, *, side_by_side: int) -> None:
        """Note that split `name` is done, while so many ran side by side."""
        about: dict[str, Any] = {
            "key": self._key_of[name],
            "seconds": round(done.seconds, 2),
            "device": done.device,
        }
        if done.steps:
            about["steps"] = {step: round(seconds, 2) for step, seconds in done.steps.items()}
        self._splits[name] = about | {"side_by_side": side_by_side}
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_json(self.path, self._splits)
