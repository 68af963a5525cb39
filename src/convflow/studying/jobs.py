"""One fold: a model made from the rows of train and val, asked about those of test, answers in a file."""

import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from convflow.errors import ConvflowError
from convflow.tables import read_about, read_table, write_table

Indices = NDArray[np.int64]
Rows = dict[str, Indices]

_KEPT = ("path", "sha256", "label", "group")


@dataclass(frozen=True)
class Task:
    """What a contestant is given.

    Attributes:
        packed: folder with the pixels, labels and weights of all images.
        features: folder with the features of all images, in the same order.
        rows: image numbers by side: train, val, test.
        settings: of this model, plain values.
        seed: of this fold.
        name: of the model.
        grouped: whether the protocol keeps groups together, as a search inside train then must, too.
    """

    packed: Path
    features: Path
    rows: Rows
    settings: dict[str, Any]
    seed: int
    name: str
    grouped: bool = False


@dataclass(frozen=True)
class Answer:
    """What a contestant gives back.

    Attributes:
        prob_MK: float, of the test rows.
        notes: what was found on the way, JSON values; the same for the same task, so no clock.
        device: on which it was made.
        steps: seconds of each step, where they are told apart.
    """

    prob_MK: NDArray[np.float32]
    notes: dict[str, Any]
    device: str
    steps: dict[str, float] = field(default_factory=dict)


class Contestant(Protocol):
    """A module of this room that can be asked to take part."""

    __name__: str

    def answer(self, task: Task) -> Answer:
        """Fit on train, tune on val, and answer for test."""

    def stamp(self, task: Task) -> dict[str, str]:
        """Digests of the inputs, and a library's version: all that is neither rows, settings nor code."""

    def most_at_once(self, settings: dict[str, Any]) -> int | None:
        """How many to run side by side at most; None: as many as there are cores and memory for."""

    def memory(self, task: Task) -> int:
        """Bytes of main memory that one process needs, on the safe side."""


@dataclass(frozen=True)
class Job:
    """A task, who does it, where its answers go and what they depend on (`about["key"]`)."""

    contestant: str
    task: Task
    path: Path
    about: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """How long a job took, its steps where they are told apart, and on which device."""

    seconds: float
    device: str
    steps: dict[str, float] = field(default_factory=dict)


def do(job: Job) -> Done:
    """Do `job` and write its answers, whole or not at all.

    Raises:
        ConvflowError: whatever the contestant could not do, with the fold's name.
    """
    started = time.monotonic()
    contestant: Contestant = importlib.import_module(job.contestant)
    try:
        answer = contestant.answer(job.task)
    except ConvflowError as error:
        raise type(error)(f"{job.path}: {error}") from None
    images = read_table(job.task.packed / "rows.parquet").take(pa.array(job.task.rows["test"]))
    kept = [name for name in images.column_names if name in _KEPT or name.startswith("tag_")]
    table = images.select(kept)
    for place, name in enumerate(job.about["classes"]):
        table = table.append_column(f"p_{name}", pa.array(np.ascontiguousarray(answer.prob_MK[:, place])))
    write_table(job.path, table, about=job.about | {"notes": answer.notes})
    return Done(time.monotonic() - started, answer.device, answer.steps)


def is_done(job: Job) -> bool:
    """Whether its answers are there, whole, and made from what the job depends on now."""
    try:
        return bool(read_about(job.path).get("key") == job.about["key"])
    except ConvflowError:
        return False
