"""What one run is made from, and the one digest that names it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convflow.errors import ModelError
from convflow.files import digest_file, digest_folder, digest_json, read_json

# Raise it when the run written from the same files would look different: every model is published anew.
FORMAT = 4
_NOT_IN_THE_KEY = ("promote", "tracking", "gc")  # where to publish, and what follows, says nothing about what
_FIGURES = ("metrics.json", "slices.json")  # the leaderboard beside them holds measured times


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
    verdict: Path
    exported: Path  # of the candidate; a baseline leaves a folder without a network


class Request(NamedTuple):
    """What is asked of the registry: the model's name there, its alias, and how it is checked first."""

    name: str
    alias: str
    check_images: int
    tolerance: float


@dataclass(frozen=True)
class Rival:
    """Another model of the leaderboard: it gets a run to be compared by, and is never registered."""

    name: str
    model: Path
    predictions: Path
    figures: dict[str, Any]
    parts: dict[str, str]

    @property
    def key(self) -> str:
        """The digest that names its run."""
        return run_key(self.parts)


def digests(evidence: Evidence, params: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each input that decides what is published; no clock and no git commit among them.

    Raises:
        ModelError: there is no model.
    """
    if not (evidence.model / "card.json").is_file():
        raise ModelError(f"{evidence.model}: no model there; run `dvc repro` to make it")
    kept = {name: section for name, section in params.items() if name not in _NOT_IN_THE_KEY}
    figures = [evidence.evaluation / name for name in _FIGURES]
    return {
        "model": digest_folder(evidence.model),
        "exported": digest_folder(evidence.exported),
        "predictions": digest_file(evidence.predictions),
        "evaluation": digest_json({path.name: digest_file(path) for path in figures if path.is_file()}),
        "validation": digest_file(evidence.validation / "result.json"),
        "split": digest_folder(evidence.splits),
        "params": digest_json(kept),
    }


def run_key(parts: dict[str, str]) -> str:
    """The digest of all `parts`: two runs with the same key would be the same run."""
    return digest_json({"format": FORMAT, **parts})


def rivals(evidence: Evidence) -> list[Rival]:
    """The other models that were evaluated and lie beside the candidate, by name.

    Their keys follow their own files and figures alone: another network is no new run of the SVM.
    """
    figures = read_json(evidence.evaluation / "metrics.json")
    split = digest_folder(evidence.splits)
    found = []
    for name in sorted(set(figures) - {evidence.model.name}):
        model = evidence.model.with_name(name)
        predictions = evidence.predictions.with_name(f"{name}{evidence.predictions.suffix}")
        if (model / "card.json").is_file() and predictions.is_file():
            parts = {
                "model": digest_folder(model),
                "predictions": digest_file(predictions),
                "evaluation": digest_json(figures[name]),
                "split": split,
            }
            found.append(Rival(name, model, predictions, figures[name], parts))
    return found
