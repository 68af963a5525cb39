"""Images whose answers are known, and whether a logged model answers the same.

Shape letters: N images, S side, C channels, K classes.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import convflow
from convflow.errors import TrackingError
from convflow.evaluation.operating_point import OperatingPoint, told_point
from convflow.tables import read_table

# Each image as an encoded file; every fourth also in the ways that differ from it by the decoding alone.
_EVERY = {"bytes": 1, "base64": 4, "arrays": 4}


@dataclass(frozen=True)
class Known:
    """Pixels uint8 (N, S, S, C), calibrated probabilities float64 (N, K), how to decide."""

    pixels: NDArray[np.uint8]
    prob_NK: NDArray[np.float64]
    classes: list[str]
    point: OperatingPoint

    def write_questions(self, path: Path) -> None:
        """Save the images as npz: once as they are, once as PNG files, and how many to ask in other ways."""
        encoded = {f"png_{n}": np.frombuffer(png(image), np.uint8) for n, image in enumerate(self.pixels)}
        np.savez(path, pixels=self.pixels, every=_EVERY["arrays"], **encoded)  # type: ignore[arg-type]

    def compare(self, answers: Path, model_uri: str, tolerance: float) -> float:
        """The largest difference of the probabilities in `answers` (npz) from these.

        Raises:
            TrackingError: it is above `tolerance`, another class is decided on, or our own code answered.
        """
        with np.load(answers) as found:
            self._check_source(str(found["source"]), list(found["columns"]), model_uri)
            return max(
                self._compare(
                    f"{model_uri}: asked with {way}",
                    self.prob_NK[::every],
                    (found[way], found[f"label_{way}"]),
                    tolerance,
                )
                for way, every in _EVERY.items()
            )

    def _check_source(self, source: str, columns: list[str], model_uri: str) -> None:
        expected = ["label", "probability", *(f"p_{name}" for name in self.classes)]
        if Path(source).parent == package_folder() or columns != expected:
            raise TrackingError(
                f"{model_uri}: the logged model does not stand alone (code {source}, gives {columns}); "
                "no version was registered"
            )

    def _compare(
        self,
        asked: str,
        expected_NK: NDArray[np.float64],
        answer: tuple[NDArray[np.float64], NDArray[np.str_]],
        tolerance: float,
    ) -> float:
        """The largest difference; `answer`: (N, 1 + K), that of the label first, and the labels (N,)."""
        (got, label_N), prob_NK = answer, answer[0][:, 1:]
        same_shape = prob_NK.shape == expected_NK.shape
        worst = float(np.abs(prob_NK - expected_NK).max()) if same_shape else float("inf")
        if not worst <= tolerance:
            raise TrackingError(
                f"{asked}, probabilities differ from the predictions by up to "
                f"{worst:.2g} (publish.tolerance is {tolerance:g}); no version was registered; run "
                "`dvc repro --force predict`, or raise the tolerance if predictions come from another device"
            )
        # From its own probabilities: one that lies on the threshold may fall on either side of it.
        chosen_N = self.point.decide(prob_NK)
        decided = np.array(self.classes)[chosen_N]
        if (decided != label_N).any() or (prob_NK[np.arange(len(prob_NK)), chosen_N] != got[:, 0]).any():
            raise TrackingError(
                f"{asked}, it does not decide at the operating point of the "
                "evaluation; no version was registered; run `dvc repro --force evaluate`"
            )
        return worst


def known_answers(
    val: Path, predictions: Path, classes: list[str], n_images: int, point: Any = None
) -> Known:
    """Packed validation images, evenly spread, with what the served model is to answer, and how to decide.

    Raises:
        TrackingError: no image is in both.
    """
    paths = read_table(val / "rows.parquet", columns=["path"])["path"].to_pylist()
    table = read_table(predictions, columns=["path", *(f"p_{name}" for name in classes)])
    columns = [table[f"p_{name}"].to_pylist() for name in classes]
    answer = dict(zip(table["path"].to_pylist(), zip(*columns, strict=True), strict=True))
    both = [row for row, path in enumerate(paths) if path in answer]
    if not both:
        raise TrackingError(f"{predictions}: no image of {val} is in it; run `dvc repro --force predict`")
    chosen = [both[at] for at in np.unique(np.linspace(0, len(both) - 1, n_images).astype(int))]
    pixels = np.load(val / "pixels.npy", mmap_mode="r")[chosen]
    prob_NK = np.array([answer[paths[row]] for row in chosen], np.float64)
    told = told_point(point, classes, str(predictions))
    return Known(pixels, told.calibrated(prob_NK), classes, told)


def package_folder() -> Path:
    """The folder of the convflow that runs here."""
    return Path(convflow.__file__).resolve().parent


def png(image: NDArray[np.uint8]) -> bytes:
    """One image (S, S, C) as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
