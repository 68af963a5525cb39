"""predictions/<name>.parquet as arrays: one `Side` for val, one for test; several models on the same images.

Shape letters: N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from convflow.errors import DataError
from convflow.evaluation.ranking import Floats, Indices
from convflow.tables import read_about, read_table

_TRAITS = ("width", "height", "brightness_mean")  # of a picture; and every column tag_*


@dataclass(frozen=True, eq=False)
class Side:
    """The images of one side and what a model said of them.

    Args:
        classes: K names, in the order of the columns of `prob_NK`.
        label_N: int, class indices in [0, K).
        prob_NK: float, each row sums to 1.
        weight_N: float, above 0; 1 where the label is sure.
        group_N: the group of each image, None where it has none.
        image_N: path and SHA-256 of each image.
        traits: what else is known of each image, by column: labels.csv's own, size, brightness.
    """

    classes: tuple[str, ...]
    label_N: Indices
    prob_NK: Floats
    weight_N: Floats
    group_N: list[str | None]
    image_N: list[tuple[str, str]]
    traits: Mapping[str, list[Any]]

    @property
    def n_images(self) -> int:
        """N."""
        return len(self.label_N)

    def absent(self) -> list[str]:
        """The classes without an image on this side."""
        present = set(self.label_N.tolist())
        return [name for index, name in enumerate(self.classes) if index not in present]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of the images of val (possibly none) and test (at least one)."""

    model: str
    protocol: str
    val: Side
    test: Side
    commonest: str | None = None  # class of the training images


def read_all(folder: Path, models: Sequence[str], candidate: str) -> dict[str, Predictions]:
    """Read what every model said, all in the order of the candidate's images and classes.

    Raises:
        DataError: a model's predictions are missing, or of other images, labels or classes.
    """
    lead = read_predictions(folder / f"{candidate}.parquet")
    found = {candidate: lead}
    for name in models:
        path = folder / f"{name}.parquet"
        found[name] = lead if name == candidate else aligned(read_predictions(path), lead, path)
    for name, one in found.items():
        if one.model != name:
            raise DataError(
                f"{folder / name}.parquet: holds what {one.model!r} said; run `dvc repro -f predict`"
            )
    return {name: found[name] for name in models}


def read_predictions(path: Path) -> Predictions:
    """Read a table of predictions.

    Raises:
        DataError: it lacks its metadata or a column, holds an unknown label, or no test image.
    """
    about = read_about(path)
    if not {"classes", "model"} <= about.keys():
        raise DataError(f"{path}: does not say its classes and model; run `dvc repro -f predict`")
    classes = tuple(about["classes"])
    table = read_table(path)
    wanted = ["path", "sha256", "split", "label", "group", "weight", *(f"p_{name}" for name in classes)]
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; run `dvc repro -f predict`")
    unknown = sorted(set(table["label"].to_pylist()) - set(classes))
    if unknown:
        raise DataError(
            f"{path}: label {unknown[0]!r} is none of the model's classes {', '.join(classes)}; "
            "train again with it, or leave its images out"
        )
    val, test = (_side(table, name, classes) for name in ("val", "test"))
    if test.n_images == 0:
        raise DataError(f"{path}: no test image; give split.test_fraction more, or add images")
    return Predictions(about["model"], about.get("protocol", "one split"), val, test, about.get("commonest"))


def aligned(found: Predictions, lead: Predictions, place: Path) -> Predictions:
    """`found` with its images and classes in the order of `lead`.

    Raises:
        DataError: the two are of other classes, or of other images or labels; `place` is named.
    """
    if sorted(found.test.classes) != sorted(lead.test.classes):
        raise DataError(
            f"{place}: classes {', '.join(found.test.classes)}, but {lead.model} knows "
            f"{', '.join(lead.test.classes)}; train and predict both on the same data (`dvc repro`)"
        )
    sides = (_aligned(getattr(found, name), getattr(lead, name), name, place) for name in ("val", "test"))
    val, test = sides
    return replace(found, val=val, test=test)


def _aligned(side: Side, lead: Side, name: str, place: Path) -> Side:
    row_of = {image: row for row, image in enumerate(side.image_N)}
    strange = sorted(set(lead.image_N) ^ row_of.keys())
    if strange or len(row_of) != len(side.image_N) or len(lead.image_N) != len(side.image_N):
        which = f", for instance {strange[0][0]}" if strange else ""
        raise DataError(
            f"{place}: other {name} images than the candidate's ({side.n_images:,} against "
            f"{lead.n_images:,}{which}); run `dvc repro -f predict` for all models"
        )
    row_N = [row_of[image] for image in lead.image_N]
    column_K = [side.classes.index(name) for name in lead.classes]
    said_N = [side.classes[label] for label in side.label_N[row_N].tolist()]
    for image, said, label in zip(lead.image_N, said_N, lead.label_N.tolist(), strict=True):
        if said != lead.classes[label]:
            raise DataError(
                f"{place}: {image[0]} is {said!r} there and {lead.classes[label]!r} for the candidate; "
                "run `dvc repro -f predict` for all models"
            )
    return replace(lead, prob_NK=side.prob_NK[np.ix_(row_N, column_K)])


def _side(table: pa.Table, name: str, classes: tuple[str, ...]) -> Side:
    rows = table.filter(np.array(table["split"].to_pylist()) == name)
    index_of = {label: index for index, label in enumerate(classes)}
    columns = [rows[f"p_{label}"].to_numpy().astype(np.float64) for label in classes]
    traits = [column for column in rows.column_names if column in _TRAITS or column.startswith("tag_")]
    return Side(
        classes=classes,
        label_N=np.array([index_of[label] for label in rows["label"].to_pylist()], dtype=np.int64),
        prob_NK=np.stack(columns, axis=1),
        weight_N=rows["weight"].to_numpy().astype(np.float64),
        group_N=rows["group"].to_pylist(),
        image_N=list(zip(rows["path"].to_pylist(), rows["sha256"].to_pylist(), strict=True)),
        traits={column: rows[column].to_pylist() for column in traits},
    )
