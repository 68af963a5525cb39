"""What one run is made from, and the one digest that names it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convflow.errors import ModelError
from convflow.files import digest_file, digest_folder, digest_json

# Raise it when the run written from the same files would look different: every model is published anew.
FORMAT = 2
_NOT_IN_THE_KEY = ("tracking",)  # where to publish says nothing about what


@dataclass(frozen=True)
class Evidence:
    """The files one MLflow run is written from."""

    splits: Path
    val: Path
    model: Path
    predictions: Path
    evaluation: Path
    validation: Path
    timing: Path


class Request(NamedTuple):
    """What is asked of the registry: the model's name there, its alias, and how it is checked first."""

    name: str
    alias: str
    check_images: int
    tolerance: float


def digests(evidence: Evidence, params: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each input that decides what is published; no clock and no git commit among them.

    Raises:
        ModelError: there is no model.
    """
    if not (evidence.model / "card.json").is_file():
        raise ModelError(f"{evidence.model}: no model there; run `dvc repro` to make it")
    kept = {name: section for name, section in params.items() if name not in _NOT_IN_THE_KEY}
    return {
        "model": digest_folder(evidence.model),
        "predictions": digest_file(evidence.predictions),
        "evaluation": digest_folder(evidence.evaluation),
        "validation": digest_file(evidence.validation / "result.json"),
        "split": digest_folder(evidence.splits),
        "params": digest_json(kept),
    }


def run_key(parts: dict[str, str]) -> str:
    """The digest of all `parts`: two runs with the same key would be the same run."""
    return digest_json({"format": FORMAT, **parts})
