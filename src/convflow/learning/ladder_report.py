"""What is told of a climb: the card, the history, the minutes."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from convflow.learning.climbing import Climbed, Note
from convflow.learning.ladder import Rung
from convflow.learning.tuning import Tuning


def card_of(climbed: Climbed, tuning: Tuning) -> dict[str, Any]:
    """What the model's card says of the ladder: each rung with its reason, and the one chosen."""
    standing, probe = climbed.ladder.standing, climbed.stand.probe
    lines = history_of(climbed)
    n_epochs = {rung.name: [len(run) for run in note.epochs] for rung, note in noted(climbed) if note.epochs}
    blocks = "all" if tuning.blocks is None else tuning.blocks
    tuned = {"method": tuning.method, "blocks": blocks, "asked": tuning.epochs, "epochs": n_epochs}
    return {
        "rungs": climbed.ladder.as_json(),
        "skipped": [{"name": one.name, "why": one.why} for one in climbed.skipped],
        "chosen_rung": standing.name,
        "probe": {"depths": list(probe.depths), "c": probe.c, "search": probe.figures},
        "tune": tuned if n_epochs else None,
        "temperature": climbed.stand.temperature,
        "val": {"loss": standing.loss, "accuracy": standing.accuracy},
        "best_epoch": [(line["rung"], line["run"]) for line in lines].index((standing.name, None)) + 1,
        "epochs": len(lines),
    }


def history_of(climbed: Climbed) -> list[dict[str, Any]]:
    """A line per epoch of each run, and one per rung; `epoch` counts lines, `run_epoch` a run's epochs."""
    lines: list[dict[str, Any]] = []
    run = 0
    for rung, note in noted(climbed):
        for epochs in note.epochs:
            run += 1
            for epoch in epochs:
                line = {k: v for k, v in asdict(epoch).items() if k not in ("epoch", "lr")}
                lines.append({"rung": rung.name, "run": run, "run_epoch": epoch.epoch, **line})
        lines.append(
            {
                "rung": rung.name,
                "run": None,
                "run_epoch": None,
                "train_loss": note.train_loss,
                "train_accuracy": note.train_accuracy,
                "val_loss": rung.loss,
                "val_accuracy": rung.accuracy,
            }
        )
    return [{"epoch": number, **line} for number, line in enumerate(lines, start=1)]


def minutes_of(climbed: Climbed) -> dict[str, Any]:
    """What must not enter a model's folder: when each rung was done, and reasons with minutes in them."""
    return {
        "rungs": [
            {"name": rung.name, "minutes": round(note.seconds / 60, 3), "val_accuracy": rung.accuracy}
            for rung, note in noted(climbed)
        ],
        "skipped": [{"name": one.name, "why": one.spoken} for one in climbed.skipped],
    }


def told(climbed: Climbed) -> Iterator[str]:
    """A line per rung, for people."""
    for rung, note in noted(climbed):
        kept = "kept" if rung.kept else "left out"
        spoken = "" if note.spoken is None else f"; {note.spoken}"
        figures = f"val loss {rung.loss:.4f}, accuracy {rung.accuracy:.4f}"
        yield f"{rung.name} {kept}, {rung.why}; {figures}{spoken}"
    for skipped in climbed.skipped:
        yield f"{skipped.name} not tried, {skipped.spoken}"


def noted(climbed: Climbed) -> list[tuple[Rung, Note]]:
    """Each rung that was tried with the note on it."""
    return list(zip(climbed.ladder.rungs, climbed.notes, strict=True))
