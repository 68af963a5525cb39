"""Challenger and champion asked anew about the same test images, those left out that one of them has learnt.

Figures of two runs may be of different images; these are of the same, today's. What keeps the two from being
compared (files that are missing, other classes, images nobody can tell learnt from unlearnt) comes back as a
sentence: it refuses a promotion and is no error.

Shape letters: N images, K classes.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from convflow.data.packed import Contract, Packed, packed_as
from convflow.errors import ConvflowError, DataError
from convflow.evaluation.entrants import positive_index, scored
from convflow.evaluation.metrics import Scored
from convflow.evaluation.operating_point import told_point
from convflow.evaluation.rematch import Rematch, rematch
from convflow.evaluation.sides import Side
from convflow.files import digest_json, read_json
from convflow.models import load_predictor
from convflow.tables import read_table

_BATCH = 256
_TRAITS = ("width", "height", "brightness_mean")


@dataclass(frozen=True)
class Contestant:
    """A registered version: its model folder, how it decides, and what it has learnt.

    Args:
        learnt: SHA-256 of the images in its train and val; None where its run does not tell.
        digests: of its images and of their sides, as its run tells them.
    """

    version: str
    folder: Path
    point: Any
    learnt: frozenset[str] | None
    digests: tuple[str, str]

    @property
    def card(self) -> dict[str, Any]:
        """What card.json says."""
        card: dict[str, Any] = read_json(self.folder / "card.json")
        return card


@dataclass(frozen=True)
class Ground:
    """What the two are compared on and by.

    Args:
        test: data/packed/test.
        digests: of today's images and of their sides.
        positive: the class a two-class task looks for; None for the last.
    """

    test: Path
    digests: tuple[str, str]
    metric: str
    positive: str | None
    min_rows: int


@dataclass(frozen=True)
class Rescored:
    """The comparison, or why there is none; `rows` is the digest of the images compared on."""

    found: Rematch | None = None
    n_rows: int = 0
    left_out: int = 0
    rows: str | None = None
    problem: str | None = None

    def record(self) -> dict[str, Any]:
        """In JSON values."""
        return asdict(self)


def rescore(ours: Contestant, theirs: Contestant, ground: Ground) -> Rescored:
    """Ask both about the test images of `ground` that neither has learnt, and compare."""
    try:
        card = ours.card
        contract = Contract([str(name) for name in card["classes"]], **card["input"])
        packed = Packed(packed_as(contract, ground.test))
        rows = read_table(packed.folder / "rows.parquet")
        learnt = _learnt(ours, ground) | _learnt(theirs, ground)
        kept_N = np.array([one not in learnt for one in rows["sha256"].to_pylist()], bool)
        n_rows, left_out = int(kept_N.sum()), int((~kept_N).sum())
        if n_rows < max(1, ground.min_rows):
            return Rescored(n_rows=n_rows, left_out=left_out)
        side = _side(rows.filter(pa.array(kept_N)), packed.labels[kept_N], contract.classes)
        positive = positive_index(side.classes, ground.positive)
        row_N = np.flatnonzero(kept_N)
        said = (_ask(ours, packed, row_N, side, positive), _ask(theirs, packed, row_N, side, positive))
        return Rescored(rematch(*said, side, ground.metric), n_rows, left_out, _digest(side))
    except (ConvflowError, OSError, KeyError) as error:
        return Rescored(problem=_in_short(error))


def _learnt(one: Contestant, ground: Ground) -> frozenset[str]:
    if one.learnt is not None:
        return one.learnt
    if one.digests == ground.digests:
        return frozenset()  # the same images on the same sides: test is test
    raise DataError(
        f"the run of version {one.version} does not tell which images it has learnt, and images or sides "
        "have changed since"
    )


def _ask(one: Contestant, packed: Packed, row_N: NDArray[np.intp], side: Side, positive: int) -> Scored:
    predictor = load_predictor(one.folder)
    parts = []
    bar = tqdm(
        total=len(row_N), desc=f"version {one.version}", unit=" images",
        disable=not sys.stderr.isatty(), leave=False,
    )  # fmt: skip
    with bar:
        for start in range(0, len(row_N), _BATCH):
            batch = row_N[start : start + _BATCH]
            parts.append(predictor.predict_proba(packed.pixels[batch]))
            bar.update(len(batch))
    point = told_point(one.point, predictor.classes, f"version {one.version}")
    return scored(_answered(side, np.concatenate(parts)), point, positive)


def _answered(side: Side, prob_NK: NDArray[np.float32]) -> Side:
    return Side(
        side.classes, side.label_N, prob_NK.astype(np.float64), side.weight_N, side.group_N, side.image_N,
        side.traits,
    )  # fmt: skip


def _side(rows: pa.Table, label_N: NDArray[np.int64], classes: Sequence[str]) -> Side:
    """The images as the evaluation has them; nobody has answered yet."""
    names = rows.column_names
    traits = [name for name in names if name in _TRAITS or name.startswith("tag_")]
    n_images = rows.num_rows
    return Side(
        classes=tuple(classes),
        label_N=np.asarray(label_N, np.int64),
        prob_NK=np.zeros((n_images, len(classes))),
        weight_N=rows["weight"].to_numpy().astype(np.float64) if "weight" in names else np.ones(n_images),
        group_N=rows["group"].to_pylist() if "group" in names else [None] * n_images,
        image_N=list(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True)),
        traits={name: rows[name].to_pylist() for name in traits},
    )


def _digest(side: Side) -> str:
    """Names the images compared on, with their labels."""
    labels = [side.classes[label] for label in side.label_N.tolist()]
    return digest_json(
        sorted([path, sha256, label] for (path, sha256), label in zip(side.image_N, labels, strict=True))
    )


def _in_short(error: Exception) -> str:
    """An error as part of a sentence: what is wrong, with its remedy."""
    return " ".join(str(error).split()).rstrip(".")
