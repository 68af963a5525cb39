"""The candidate's network -> exported/<name>: one ONNX file that answers as the model did, or an error."""

import importlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convflow.cards import load_card
from convflow.data.packed import Contract, Packed, packed_as
from convflow.errors import DataError
from convflow.files import whole_folder, write_json
from convflow.params import Section
from convflow.serving.checking import MOST_POINTS, accuracy, largest_difference, milliseconds
from convflow.serving.record import FILES, OPSET, PLAIN, SMALL, Exported, write_record
from convflow.serving.session import IMAGES, PROBABILITIES, OnnxPredictor
from convflow.tables import read_table

_EXPORTING, _QUANTISING = "convflow.learning.exporting", "convflow.serving.quantising"
_CALIBRATING = 64  # training images, evenly spread, that tell the ranges of 8 bits


class Params(Section):
    """The section `export` of params.yaml."""

    int8: Literal["never", "auto"]


class Source(NamedTuple):
    """A model, and what it said of val and test."""

    model: Path
    card: dict[str, Any]
    predictions: Path


class Sides(NamedTuple):
    """The pictures as the model takes them."""

    train: Packed
    val: Packed
    test: Packed


def run(  # noqa: PLR0913, PLR0917  one path for each dependency in dvc.yaml
    model: Path,
    train: Path,
    val: Path,
    test: Path,
    predictions: Path,
    exported: Path,
    timing: Path,
    *,
    params: Params,
) -> None:
    """Export, and compare with the predictions for every image of val and test: nothing is chosen on test."""
    card = load_card(model)
    if card["kind"] == "baseline":
        with whole_folder(exported) as partial:
            write_record(partial, card, {"check": None})
        write_json(timing, {"latency_ms": None, "use": None})
        print(f"export: {model.name} is a baseline, which has no network to export")
        return
    contract = Contract(card["classes"], **card["input"])
    packed = Sides(*(Packed(packed_as(contract, side)) for side in (train, val, test)))
    with whole_folder(exported) as partial:
        check, times = _fill(partial, Source(model, card, predictions), packed, int8=params.int8 == "auto")
    write_json(timing, times)
    print(f"export: {_line(model.name, check, times)}")


def _fill(folder: Path, source: Source, sides: Sides, *, int8: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all that belongs into `folder`; returns the figures of the check, and the times."""
    exporting = importlib.import_module(_EXPORTING)  # imports torch: a baseline needs none
    at_once = exporting.export_onnx(source.model, folder / FILES[PLAIN], (IMAGES, PROBABILITIES), OPSET)

    def opened(kind: str, **check: Any) -> OnnxPredictor:
        write_record(folder, source.card, {"at_once": at_once, "check": check})
        return OnnxPredictor(Exported(folder, folder), source.card, kind)

    predictors = {PLAIN: opened(PLAIN)}
    check = _compared(predictors[PLAIN], sides, source.predictions)
    if int8:
        quantising = importlib.import_module(_QUANTISING)
        quantising.quantise(folder / FILES[PLAIN], folder / FILES[SMALL], _spread(sides.train.pixels))
        predictors[SMALL] = opened(SMALL)
        check[SMALL] = _lost(predictors, sides.val)
        if not check[SMALL]["kept"]:
            (folder / FILES[SMALL]).unlink()
            del predictors[SMALL]
    write_record(folder, source.card, {"at_once": at_once, "check": check})
    return check, _times(predictors, sides.val.pixels)


def _compared(predictor: OnnxPredictor, sides: Sides, predictions: Path) -> dict[str, Any]:
    """Ask about every image of val and test; the largest difference, to one digit: more is noise."""
    table = read_table(predictions, columns=["split", "path", *(f"p_{name}" for name in predictor.classes)])
    worst, n_images = 0.0, 0
    for side, packed in (("val", sides.val), ("test", sides.test)):
        rows = table.filter(np.array(table["split"].to_pylist()) == side)
        paths = rows["path"].to_pylist()
        if paths != read_table(packed.folder / "rows.parquet", columns=["path"])["path"].to_pylist():
            raise DataError(f"{predictions}: its {side} images are not those packed; run `dvc repro predict`")
        prob_KN = [rows[f"p_{name}"].to_numpy() for name in predictor.classes]
        worst = max(worst, largest_difference(predictor, packed.pixels, np.stack(prob_KN, axis=1), paths))
        n_images += len(paths)
    return {"largest_difference": float(f"{worst:.0e}"), "n_images": n_images}


def _lost(predictors: dict[str, OnnxPredictor], val: Packed) -> dict[str, Any]:
    """Accuracy on val of both files, in percent, and whether the small one is good enough."""
    found = {kind: 100 * accuracy(one, val.pixels, val.labels) for kind, one in predictors.items()}
    lost = found[PLAIN] - found[SMALL]
    points = {f"{kind}_accuracy_on_val": round(value, 3) for kind, value in found.items()}
    return {"kept": lost <= MOST_POINTS, "points_lost": round(lost, 3), **points}


def _times(predictors: dict[str, OnnxPredictor], images_NSSC: NDArray[np.uint8]) -> dict[str, Any]:
    """Milliseconds of one picture alone, by file, and which file is the fastest on this machine."""
    device, threads = predictors[PLAIN].hardware()
    about = {"device": device, "threads": threads}
    if not len(images_NSSC):
        return about | {"latency_ms": None, "use": PLAIN}
    latency_ms = milliseconds(predictors, images_NSSC[0])
    return about | {"latency_ms": latency_ms, "use": min(latency_ms, key=latency_ms.__getitem__)}


def _spread(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    chosen = np.unique(np.linspace(0, len(pixels) - 1, _CALIBRATING).astype(int))
    return np.array(pixels[chosen])


def _line(name: str, check: dict[str, Any], times: dict[str, Any]) -> str:
    worst = f"largest difference {check['largest_difference']:g}"
    same = f"{name} answers as before on {check['n_images']} images ({worst})"
    if SMALL not in check:
        return same
    lost = f"8 bits lose {check[SMALL]['points_lost']:g} points on val"
    return f"{same}; {lost}; {times['use']} is used"
