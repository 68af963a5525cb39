"""Log a model folder as an MLflow model that stands alone."""

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.utils import environment

from convflow.evaluation.operating_point import told_point
from convflow.files import write_json
from convflow.registry import served
from convflow.registry.kinds import needs_of
from convflow.registry.provenance import NONE, version_of
from convflow.registry.resolve import EXPORTED, POINT
from convflow.registry.scratch import scratch_folder
from convflow.serving.record import TIMING, Exported, read_record

_COMPARISON = "warn_dependency_requirement_mismatches"


def log_model(
    folder: Path, classes: list[str], package: Path, point: Any, exported: Exported | None = None
) -> Any:
    """Log `folder` with the code in `package` to the active run; returns MLflow's ModelInfo.

    `point` is what metrics.json says under "operating_point"; it travels as a file beside the folder,
    and so does the network as ONNX, where there is one.
    """
    numbers = ["probability", *(f"p_{name}" for name in classes)]
    # No input schema: MLflow's would admit either a table or an array, and this model takes both.
    outputs = Schema([ColSpec("string", "label"), *(ColSpec("double", name) for name in numbers)])
    with warnings.catch_warnings(), scratch_folder(Path.cwd()) as scratch, _nothing_compared():
        told_point(point, classes, POINT)  # refused here rather than by the proof
        write_json(Path(scratch, POINT), point)
        # As addresses: MLflow would take a % in a plain path for the start of a code.
        artifacts = {"model": folder.resolve().as_uri(), "operating_point": Path(scratch, POINT).as_uri()}
        if exported is not None and read_record(exported.folder)["files"]:
            artifacts["exported"] = _gathered(exported, Path(scratch, EXPORTED)).as_uri()
        warnings.simplefilter("ignore")  # advice on type hints and examples; see the schema above
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(served.__file__)),
            artifacts=artifacts,
            code_paths=[str(package)],
            signature=ModelSignature(outputs=outputs),
            pip_requirements=_pinned(needs_of(folder).distributions),
        )


def _gathered(exported: Exported, folder: Path) -> Path:
    """A copy of the ONNX folder under one name for all models, with the times beside it."""
    shutil.copytree(exported.folder, folder)
    if exported.timing.is_file():
        shutil.copyfile(exported.timing, folder / TIMING)
    return folder


def _pinned(distributions: Sequence[str]) -> list[str]:
    versions = {name: version_of(name) for name in distributions}
    return [f"{name}=={number}" for name, number in versions.items() if number != NONE]


@contextmanager
def _nothing_compared() -> Iterator[None]:
    """Spare MLflow its look whether the requirements are those installed: they have been read off these.

    For that look it reads the file list of every installed distribution, a third of the time that logging
    takes. Where a later MLflow has moved the function, it looks as before.
    """
    before = getattr(environment, _COMPARISON, None)
    if before is None:
        yield
        return
    setattr(environment, _COMPARISON, lambda _: None)
    try:
        yield
    finally:
        setattr(environment, _COMPARISON, before)
