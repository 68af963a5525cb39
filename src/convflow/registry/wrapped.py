"""Log a model folder as an MLflow model, and prove that it answers as it did here.

Shape letters: N images, S side, C channels, K classes.
"""

import io
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from numpy.typing import NDArray
from PIL import Image

import convflow
from convflow.errors import TrackingError
from convflow.evaluation.operating_point import OperatingPoint, told_point
from convflow.files import write_json
from convflow.registry import proof, served
from convflow.registry.provenance import NONE, version_of
from convflow.registry.resolve import POINT
from convflow.registry.scratch import scratch_folder
from convflow.registry.store import Store
from convflow.tables import read_table

_WAIT_S = 600
# What the import closure of the predictor needs; a test compares.
_NEEDED = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pydantic",
    "pyyaml",
    "safetensors",
    "torch",
    "torchvision",
)


@dataclass(frozen=True)
class Known:
    """Images with known answers: pixels uint8 (N, S, S, C), probabilities float64 (N, K), how to decide."""

    pixels: NDArray[np.uint8]
    prob_NK: NDArray[np.float64]
    classes: list[str]
    point: OperatingPoint


def log_model(folder: Path, classes: list[str], package: Path, point: Any) -> Any:
    """Log `folder` with the code in `package` to the active run; returns MLflow's ModelInfo.

    `point` is what metrics.json says under "operating_point"; it travels as a file beside the folder.
    """
    numbers = ["probability", *(f"p_{name}" for name in classes)]
    # No input schema: MLflow's would admit either a table or an array, and this model takes both.
    outputs = Schema([ColSpec("string", "label"), *(ColSpec("double", name) for name in numbers)])
    versions = {name: version_of(name) for name in _NEEDED}
    with warnings.catch_warnings(), scratch_folder(Path.cwd()) as scratch:
        told_point(point, classes, POINT)  # refused here rather than by the proof
        write_json(Path(scratch, POINT), point)
        warnings.simplefilter("ignore")  # advice on type hints and examples; see the schema above
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(served.__file__)),
            # As addresses: MLflow would take a % in a plain path for the start of a code.
            artifacts={"model": folder.resolve().as_uri(), "operating_point": Path(scratch, POINT).as_uri()},
            code_paths=[str(package)],
            signature=ModelSignature(outputs=outputs),
            pip_requirements=[f"{name}=={number}" for name, number in versions.items() if number != NONE],
        )


def package_folder() -> Path:
    """The folder of the convflow that runs here."""
    return Path(convflow.__file__).resolve().parent


def known_answers(
    val: Path, predictions: Path, classes: list[str], n_images: int, point: Any = None
) -> Known:
    """Packed validation images, evenly spread, with the probabilities predicted for them, and how to decide.

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
    return Known(pixels, prob_NK, classes, told_point(point, classes, str(predictions)))


class Proof:
    """A fresh process that loads the logged model and answers the known images."""

    def __init__(self, store: Store, model_uri: str, known: Known) -> None:
        self._known = known
        self._model_uri = model_uri
        self._folder = scratch_folder(Path.cwd())
        asked, self._answers = (
            Path(self._folder.name, "asked.npz"),
            Path(self._folder.name, "answers.npz"),
        )
        encoded = {f"png_{n}": np.frombuffer(_png(image), np.uint8) for n, image in enumerate(known.pixels)}
        np.savez(asked, pixels=known.pixels, **encoded)  # type: ignore[arg-type]
        # Without PYTHONPATH and in a folder of its own, so that nothing of this checkout helps it along.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [
            sys.executable,
            "-P",
            proof.__file__,
            store.uri,
            model_uri,
            str(asked),
            str(self._answers),
        ]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder.name,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> "Proof":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def check(self, tolerance: float) -> float:
        """Wait for the answers and compare; returns the largest difference.

        Raises:
            TrackingError: it cannot be loaded, uses code from elsewhere, or answers otherwise.
        """
        try:
            _, errors = self._process.communicate(timeout=_WAIT_S)
        except subprocess.TimeoutExpired:
            raise TrackingError(
                f"{self._model_uri}: the logged model gave no answer in {_WAIT_S} s; no version was "
                "registered; run `dvc repro` again on a less busy machine, or lower publish.check_images"
            ) from None
        if self._process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise TrackingError(
                f"{self._model_uri}: the logged model cannot be loaded and asked ({last[0][:300]}); "
                "no version was registered"
            )
        with np.load(self._answers) as answers:
            self._check_source(str(answers["source"]), list(answers["columns"]))
            ways = ("bytes", "base64", "arrays")
            return max(self._compare(way, answers[way], answers[f"label_{way}"], tolerance) for way in ways)

    def _check_source(self, source: str, columns: list[str]) -> None:
        expected = ["label", "probability", *(f"p_{name}" for name in self._known.classes)]
        if Path(source).parent == package_folder() or columns != expected:
            raise TrackingError(
                f"{self._model_uri}: the logged model does not stand alone (code {source}, gives {columns}); "
                "no version was registered"
            )

    def _compare(
        self, way: str, got: NDArray[np.float64], label_N: NDArray[np.str_], tolerance: float
    ) -> float:
        """The largest difference; `got` is (N, 1 + K), the probability of the label first."""
        expected, prob_NK = self._known.prob_NK, got[:, 1:]
        worst = float(np.abs(prob_NK - expected).max()) if prob_NK.shape == expected.shape else float("inf")
        if not worst <= tolerance:
            raise TrackingError(
                f"{self._model_uri}: asked with {way}, probabilities differ from the predictions by up to "
                f"{worst:.2g} (publish.tolerance is {tolerance:g}); no version was registered; run "
                "`dvc repro --force predict`, or raise the tolerance if predictions come from another device"
            )
        # From its own probabilities: one that lies on the threshold may fall on either side of it.
        chosen_N = self._known.point.decide(prob_NK)
        decided = np.array(self._known.classes)[chosen_N]
        if (decided != label_N).any() or (prob_NK[np.arange(len(prob_NK)), chosen_N] != got[:, 0]).any():
            raise TrackingError(
                f"{self._model_uri}: asked with {way}, it does not decide at the operating point of the "
                "evaluation; no version was registered; run `dvc repro --force evaluate`"
            )
        return worst


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
