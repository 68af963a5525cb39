"""predictions/<name>.parquet as arrays: one `Side` for val, one for test.

Shape letters: N images, K classes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from convflow.errors import DataError
from convflow.evaluation.ranking import Floats, Indices
from convflow.tables import read_about, read_table


@dataclass(frozen=True, eq=False)
class Side:
    """The images of one side and what a model said of them.

    Args:
        classes: K names, in the order of the columns of `prob_NK`.
        label_N: int, class indices in [0, K).
        prob_NK: float, each row sums to 1.
        weight_N: float, above 0; 1 where the label is sure.
        group_N: the group of each image, None where it has none.
    """

    classes: tuple[str, ...]
    label_N: Indices
    prob_NK: Floats
    weight_N: Floats
    group_N: list[str | None]

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
    wanted = ["split", "label", "group", "weight", *(f"p_{name}" for name in classes)]
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


def _side(table: pa.Table, name: str, classes: tuple[str, ...]) -> Side:
    rows = table.filter(np.array(table["split"].to_pylist()) == name)
    index_of = {label: index for index, label in enumerate(classes)}
    columns = [rows[f"p_{label}"].to_numpy().astype(np.float64) for label in classes]
    return Side(
        classes=classes,
        label_N=np.array([index_of[label] for label in rows["label"].to_pylist()], dtype=np.int64),
        prob_NK=np.stack(columns, axis=1),
        weight_N=rows["weight"].to_numpy().astype(np.float64),
        group_N=rows["group"].to_pylist(),
    )
