"""`convflow predict`: classify images with a registered model or a model folder."""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from convflow.data.layout import natural_key
from convflow.errors import DataError, ParamsError
from convflow.evaluation.operating_point import OperatingPoint, told_point
from convflow.models import Predictor
from convflow.registry.choice import Project, choose_model
from convflow.serving.runtimes import RUNTIMES, open_predictor

BATCH = 64
_HELP = """\
exit status: 0 when all images were answered; 2 when some were not, the others being answered all the same

--json: a list of objects, in the order given
  path           as given, or below the folder given
  label          the class decided on, or null when the image could not be read
  probability    of that class, 0 to 1, calibrated as the model's evaluation says; or null
  probabilities  the same of every class, by its name; or null
  error          why there is no answer, or null
--csv: path, label, probability, p_CLASS for every class, error; empty where --json has null
"""


class Answer(NamedTuple):
    """What became of one image: one probability per class and the class decided on, or an error."""

    path: Path
    prob_K: list[float]
    chosen: int
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched to the bottom"
    )
    parser.add_argument(
        "--model",
        help="models:/NAME@ALIAS, models:/NAME/VERSION or a model folder "
        "(default: the registered champion, else the challenger, else the only folder in models/)",
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="onnx: ONNX Runtime, which starts and answers sooner; torch: what trained the network; "
        "auto (default): onnx where the network was exported",
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
        DataError: no image in any of the paths.
        ParamsError: an empty name, or no project to take a model from.
        ModelError: a model that is not there or not whole.
    """
    if "" in args.images:
        raise ParamsError("an image's name is empty; name a file or a folder, as . for the one you are in")
    images = list_images([Path(name) for name in args.images])
    project = Project()
    if args.model is None and not (project.params.exists() or project.models.exists()):
        raise ParamsError(
            f"{project.params}: no such file; run convflow predict from the project's folder, "
            "or give --model FOLDER"
        )
    folder, named, told, exported = choose_model(args.model, project)
    # may import torch, which takes seconds: only now that the images and the model are known to be there
    predictor = open_predictor(folder, exported, args.runtime)
    point = told_point(told, predictor.classes, named)
    print(f"model: {named}{_rule(point, predictor.classes)}", file=sys.stderr)
    writer = _WRITERS[args.form](predictor.classes, [path for path, _ in images])
    n_failed = 0
    for answers in _answers(predictor, point, images):
        failed = [answer for answer in answers if answer.error]
        for answer in failed:
            print(f"convflow: {answer.path}: {answer.error}", file=sys.stderr)
        n_failed += len(failed)
        writer.write(answers)
    writer.close()
    return 2 if n_failed else 0


def _rule(point: OperatingPoint, classes: list[str]) -> str:
    if point.positive is None:
        return ""
    return f", {classes[point.positive]!r} from probability {point.threshold:.3g} on"


def list_images(given: Sequence[Path]) -> list[tuple[Path, str]]:
    """The files given, and the images below the folders given, in natural order; each with what is wrong.

    Raises:
        DataError: there is something wrong with all of them.
    """
    images: list[tuple[Path, str]] = []
    for path in given:
        if not path.exists():
            images.append((path, "no such file or folder; check the path"))
        elif not path.is_dir():
            images.append((path, ""))
        elif found := _below(path):
            images += [(image, "") for image in found]
        else:
            images.append((path, "no image in it; name image files, or a folder that holds some"))
    if all(fault for _, fault in images):
        raise DataError("{}: {}".format(*images[0]))
    return images


def _below(folder: Path) -> list[Path]:
    suffixes = Image.registered_extensions()
    found = []
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(here, name) for name in names if os.path.splitext(name)[1].lower() in suffixes]
    return sorted(found, key=lambda path: natural_key(path.as_posix()))


def _answers(
    predictor: Predictor, point: OperatingPoint, images: list[tuple[Path, str]]
) -> Iterator[list[Answer]]:
    """Answers in order, one batch at a time: memory does not grow with the number of images."""
    bar = tqdm(total=len(images), unit=" images", disable=not sys.stderr.isatty(), leave=False)
    with bar:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            answers = _answered(predictor, point, batch)
            bar.update(len(batch))
            bar.clear()
            yield answers


def _answered(predictor: Predictor, point: OperatingPoint, images: list[tuple[Path, str]]) -> list[Answer]:
    pixels: list[Any] = []
    answers: list[Answer] = []
    for path, fault in images:
        if not fault:
            try:
                pixels.append(predictor.decode(path))
            except DataError as error:
                fault = str(error).removeprefix(f"{path}: ")
        answers.append(Answer(path, [], -1, fault))
    if not pixels:
        return answers
    prob_NK = point.calibrated(predictor.predict_proba(np.stack(pixels)).astype(np.float64))
    found = zip(prob_NK.tolist(), point.decide(prob_NK).tolist(), strict=True)
    return [one if one.error else Answer(one.path, *next(found)) for one in answers]


class _Table:
    """Path, label and probability in columns, for people."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._width = min(60, max(len(str(path)) for path in paths))
        self._label_width = max(len(name) for name in classes)

    def write(self, answers: list[Answer]) -> None:
        for path, row, best, error in answers:
            if not error:
                label = f"{self._classes[best]:<{self._label_width}}"
                print(f"{path!s:<{self._width}}  {label}  {row[best]:.3f}")

    def close(self) -> None:
        sys.stdout.flush()


class _Csv:
    """One line per image with all probabilities."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._out = csv.writer(sys.stdout, lineterminator="\n")
        self._out.writerow(["path", "label", "probability", *(f"p_{name}" for name in classes), "error"])

    def write(self, answers: list[Answer]) -> None:
        for path, row, best, error in answers:
            if error:
                self._out.writerow([path, *[""] * (2 + len(self._classes)), error])
            else:
                numbers = [f"{value:.6f}" for value in (row[best], *row)]
                self._out.writerow([path, self._classes[best], *numbers, ""])

    def close(self) -> None:
        sys.stdout.flush()


class _Json:
    """A JSON list, written as it grows."""

    def __init__(self, classes: list[str], paths: list[Path]) -> None:
        self._classes = classes
        self._before = "["

    def write(self, answers: list[Answer]) -> None:
        for answer in answers:
            print(f"{self._before}\n{json.dumps(self._object(answer), ensure_ascii=False)}", end="")
            self._before = ","

    def _object(self, answer: Answer) -> dict[str, Any]:
        path, row, best, error = answer
        told: dict[str, Any] = dict.fromkeys(("label", "probability", "probabilities"))
        if not error:
            shares = {name: round(value, 6) for name, value in zip(self._classes, row, strict=True)}
            told = {
                "label": self._classes[best],
                "probability": round(row[best], 6),
                "probabilities": shares,
            }
        return {"path": str(path), **told, "error": error or None}

    def close(self) -> None:
        print("\n]", flush=True)


class _Writer(Protocol):
    def __init__(self, classes: list[str], paths: list[Path]) -> None: ...
    def write(self, answers: list[Answer]) -> None: ...
    def close(self) -> None: ...


_WRITERS: dict[str, type[_Writer]] = {"table": _Table, "csv": _Csv, "json": _Json}
