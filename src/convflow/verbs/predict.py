"""`convflow predict`: classify images with a registered model or a model folder."""

import argparse
import csv
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from convflow.data.layout import natural_key
from convflow.errors import DataError
from convflow.evaluation.operating_point import OperatingPoint, told_point
from convflow.registry.choice import Project, choose_model

if TYPE_CHECKING:
    from convflow.learning.predictor import Predictor

BATCH = 64
Answer = tuple[Path, list[float], int]  # an image, one probability per class, the class decided on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE_OR_FOLDER",
        help="folders are searched to the bottom",
    )
    parser.add_argument(
        "--model",
        help="models:/NAME@ALIAS, models:/NAME/VERSION or a model folder "
        "(default: the registered champion, else the challenger, else the only folder in models/)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", dest="form", action="store_const", const="json", help="a JSON list of objects"
    )
    form.add_argument(
        "--csv", dest="form", action="store_const", const="csv", help="a CSV table with a header"
    )
    parser.set_defaults(form="table")


def run(args: argparse.Namespace) -> int:
    """Answer for every image; status 2 when some could not be read.

    Raises:
        DataError: a path that does not exist, or no image in any of them.
        ModelError: a model that is not there or not whole.
    """
    paths = list_images(args.images)
    folder, named, told = choose_model(args.model, Project())
    # torch takes seconds: loaded now that the paths and the model are known to be there
    predictor: Predictor = importlib.import_module("convflow.learning.predictor").load_predictor(folder)
    point = told_point(told, predictor.classes, named)
    print(f"model: {named}{_rule(point, predictor.classes)}", file=sys.stderr)
    writer = _WRITERS[args.form](predictor.classes, paths)
    n_failed = 0
    for answers, failures in _answers(predictor, point, paths):
        for failure in failures:
            print(f"convflow: {failure}", file=sys.stderr)
        n_failed += len(failures)
        writer.write(answers)
    writer.close()
    return 2 if n_failed else 0


def _rule(point: OperatingPoint, classes: list[str]) -> str:
    if point.positive is None:
        return ""
    return f", {classes[point.positive]!r} from probability {point.threshold:.3g} on"


def list_images(given: Sequence[Path]) -> list[Path]:
    """The files given, and the images below the folders given, in natural order.

    Raises:
        DataError: a path that does not exist, or nothing found at all.
    """
    paths: list[Path] = []
    for path in given:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; check the path")
        paths += _below(path) if path.is_dir() else [path]
    if not paths:
        raise DataError(f"{given[0]}: no image in it; name image files, or a folder that holds some")
    return paths


def _below(folder: Path) -> list[Path]:
    suffixes = Image.registered_extensions()
    found = []
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(here, name) for name in names if os.path.splitext(name)[1].lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path.as_posix()))


def _answers(
    predictor: "Predictor", point: OperatingPoint, paths: list[Path]
) -> Iterator[tuple[list[Answer], list[str]]]:
    """Answers and failures, one batch at a time: memory does not grow with the number of images."""
    bar = tqdm(total=len(paths), unit=" images", disable=not sys.stderr.isatty(), leave=False)
    with bar:
        for start in range(0, len(paths), BATCH):
            read, failures = _decoded(predictor, paths[start : start + BATCH])
            answers = _decided(predictor, point, read) if read else []
            bar.update(len(read) + len(failures))
            bar.clear()
            yield answers, failures


def _decided(predictor: "Predictor", point: OperatingPoint, read: dict[Path, Any]) -> list[Answer]:
    prob_NK = predictor.predict_proba(np.stack(list(read.values()))).astype(np.float64)
    return list(zip(read, prob_NK.tolist(), point.decide(prob_NK).tolist(), strict=True))


def _decoded(predictor: "Predictor", paths: list[Path]) -> tuple[dict[Path, Any], list[str]]:
    read: dict[Path, Any] = {}
    failures = []
    for path in paths:
        try:
            read[path] = predictor.decode(path)
        except DataError as error:
            failures.append(str(error))
    return read, failures


class _Table:
    """Path, label and probability in columns, for people."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._width = min(60, max(len(str(path)) for path in paths))
        self._label_width = max(len(name) for name in classes)

    def write(self, answers: list[Answer]) -> None:
        for path, row, best in answers:
            print(f"{path!s:<{self._width}}  {self._classes[best]:<{self._label_width}}  {row[best]:.3f}")

    def close(self) -> None:
        sys.stdout.flush()


class _Csv:
    """One line per image with all probabilities."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._out = csv.writer(sys.stdout, lineterminator="\n")
        self._out.writerow(["path", "label", "probability", *(f"p_{name}" for name in classes)])

    def write(self, answers: list[Answer]) -> None:
        for path, row, best in answers:
            numbers = [f"{value:.6f}" for value in (row[best], *row)]
            self._out.writerow([path, self._classes[best], *numbers])

    def close(self) -> None:
        sys.stdout.flush()


class _Json:
    """A JSON list, written as it grows."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._before = "["

    def write(self, answers: list[Answer]) -> None:
        for path, row, best in answers:
            shares = {name: round(value, 6) for name, value in zip(self._classes, row, strict=True)}
            one = {
                "path": str(path),
                "label": self._classes[best],
                "probability": round(row[best], 6),
            }
            print(
                f"{self._before}\n{json.dumps({**one, 'probabilities': shares}, ensure_ascii=False)}",
                end="",
            )
            self._before = ","

    def close(self) -> None:
        print("[]" if self._before == "[" else "\n]", flush=True)


class _Writer(Protocol):
    def __init__(self, classes: list[str], paths: list[Path]) -> None: ...
    def write(self, answers: list[Answer]) -> None: ...
    def close(self) -> None: ...


_WRITERS: dict[str, type[_Writer]] = {"table": _Table, "csv": _Csv, "json": _Json}
