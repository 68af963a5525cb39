"""Demonstration sets, written as an owner would keep them: image files and, for ELPV, a labels.csv."""

import csv
import importlib.util
import io
import shutil
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convflow.errors import DataError
from convflow.files import write_text

_CELLS_PER_MODULE = 60
# Deitsch et al. 2019: cells whose expert was unsure count by the stated confidence.
_WEIGHT = {0.0: 1.0, 1 / 3: 0.33, 2 / 3: 0.67, 1.0: 1.0}


def write_elpv(folder: Path) -> int:
    """Write the ELPV solar cells (Deitsch et al., Solar Energy 2019) with labels.csv; returns their number.

    2,624 electroluminescence images, 300 x 300, 8-bit grey; label `defective` when the stated defect
    probability is above 0.5; `group` is the pseudo-module; tags `wafer` and `defect_probability`.

    Raises:
        DataError: when the package that carries the images is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise DataError(
            "elpv-dataset: not installed; run `pip install -e '.[demo]'` (images CC BY-NC-SA 4.0)"
        )
    source = Path(spec.origin).parent / "data"
    cells = [line.split() for line in (source / "labels.csv").read_text().splitlines() if line.strip()]
    groups = pseudo_modules([wafer for _, _, wafer in cells])
    lines = [["path", "label", "group", "weight", "wafer", "defect_probability"]]
    for (path, text, wafer), group in zip(cells, groups, strict=True):
        stated = float(text)
        nearest = min(_WEIGHT, key=lambda level: abs(level - stated))
        label = "defective" if nearest > 0.5 else "functional"
        lines.append([path, label, group, str(_WEIGHT[nearest]), wafer, f"{nearest:.2f}"])
    shutil.copytree(source / "images", folder / "images")
    _write_csv(folder / "labels.csv", lines)
    return len(cells)


def pseudo_modules(wafers: list[str]) -> list[str]:
    """Name the module each cell was cut from, for cells listed module by module.

    The set does not tell its 44 modules apart, but lists their cells one after the other: a change of
    wafer type starts a new module, and a run of one type is cut into equal parts of about 60 cells.
    """
    names: list[str] = []
    n_modules = 0
    for _, run in groupby(wafers):
        n_cells = len(list(run))
        for part in np.array_split(np.arange(n_cells), max(1, round(n_cells / _CELLS_PER_MODULE))):
            n_modules += 1
            names += [f"module-{n_modules:02d}"] * len(part)
    return names


def write_digits(folder: Path, images_NHW: NDArray[np.float64], digit_N: NDArray[np.int64]) -> int:
    """Write hand-written digits as PNG files, one folder per digit; returns their number.

    Args:
        folder: where `0/` to `9/` are made.
        images_NHW: float, 0..16, as scikit-learn keeps them.
        digit_N: int, 0..9.
    """
    for number, (image, digit) in enumerate(zip(images_NHW, digit_N, strict=True)):
        place = folder / str(digit)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(place / f"{number:04d}.png")
    return len(digit_N)


def _write_csv(path: Path, lines: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_text(path, text.getvalue())
