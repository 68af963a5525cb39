"""Which runtime answers for a model: ONNX Runtime where its network was exported, else what trained it."""

import importlib
from pathlib import Path
from typing import Literal, get_args

from convflow.cards import load_card
from convflow.errors import ModelError
from convflow.models import Predictor, load_predictor
from convflow.serving.record import Exported, stands_for

Runtime = Literal["auto", "onnx", "torch"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
_SESSION = "convflow.serving.session"  # imports ONNX Runtime: only where it answers


def open_predictor(folder: Path, exported: Exported | None, runtime: Runtime = "auto") -> Predictor:
    """Load the model in `folder`, or its exported network.

    Args:
        folder: of the model.
        exported: where its network may have been exported to.
        runtime: `auto` takes the exported network where there is one of this very model; `onnx` insists.

    Raises:
        ModelError: the model, or the exported network that is to answer, is not whole; or there is none.
    """
    card = load_card(folder)
    if runtime != "torch" and exported is not None and stands_for(exported.folder, card):
        predictor: Predictor = importlib.import_module(_SESSION).OnnxPredictor(exported, card)
        return predictor
    if runtime == "onnx":
        raise ModelError(f"{folder}: {_lacking(exported, card['kind'])}; use --runtime auto")
    return load_predictor(folder)


def _lacking(exported: Exported | None, kind: str) -> str:
    if kind == "baseline":
        return "a baseline has no network to export"
    return f"no exported network of it{'' if exported is None else f' in {exported.folder}'}"
