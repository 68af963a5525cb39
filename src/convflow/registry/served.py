"""The model as MLflow serves it: `mlflow.pyfunc` from this file, the package and the model folder; no pickle.

MLflow runs this file by itself, when a model is logged and when one is loaded.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from numpy.typing import NDArray
from PIL import Image

from convflow.data.images import MAX_BYTES, MAX_PIXELS
from convflow.evaluation.operating_point import OperatingPoint, told_point
from convflow.models import load_predictor

BATCH = 64
_BEFORE = "base64,"


class RefusedError(MlflowException, ValueError):  # type: ignore[misc]
    """What was asked cannot be answered: a server says so in one line with status 400.

    MLflow would put its traceback, or all that was sent, into the answer to any other error.
    """

    def __init__(self, text: str) -> None:
        """`text` names the position of the image."""
        super().__init__(text, INVALID_PARAMETER_VALUE)
        self.args = (text,)

    def serialize_as_json(self) -> str:
        """What the server sends."""
        return json.dumps({"error_code": self.error_code, "message": " ".join(str(self.args[0]).split())})


class Served(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Encoded images or uint8 arrays in; label, its probability and one probability per class out.

    Probabilities are calibrated, and the label is decided on, at the operating point that was published
    with the model.
    Shape letters: N images, H rows, W columns, C channels, S side, K classes.
    """

    point = OperatingPoint("argmax")

    def load_context(self, context: Any) -> None:
        """Load the model folder; what its kind needs is imported only now, not when the model is logged."""
        self.predictor = load_predictor(Path(context.artifacts["model"]))
        place = Path(context.artifacts["operating_point"])
        entry = json.loads(place.read_text(encoding="utf-8"))
        self.point = told_point(entry, self.predictor.classes, str(place))

    # MLflow takes no union for a hint and warns at every load about any other than this one.
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Classify.

        Args:
            context: not used; MLflow passes it.
            model_input: a table with the column `image` (bytes, base64 text or uint8 arrays), a list of
                these, or uint8 (N, H, W, C); one image as image[None].
            params: not used.

        Raises:
            RefusedError: an input that is none of these; the text names its position.
        """
        cells = _cells(model_input)
        parts = [self._answer(cells[at : at + BATCH], at) for at in range(0, len(cells), BATCH)]
        classes = list(self.predictor.classes)
        found_NK = np.concatenate(parts) if parts else np.zeros((0, len(classes)), np.float32)
        # as evaluated: a float32 would round the threshold, too
        prob_NK = self.point.calibrated(found_NK.astype(np.float64))
        chosen_N = self.point.decide(prob_NK)
        table = {
            "label": [classes[chosen] for chosen in chosen_N],
            "probability": prob_NK[np.arange(len(prob_NK)), chosen_N],
        }
        table |= {f"p_{name}": prob_NK[:, k] for k, name in enumerate(classes)}
        return pd.DataFrame(table).astype({name: "float64" for name in table if name != "label"})

    def _answer(self, cells: list[Any], start: int) -> NDArray[np.float32]:
        images = []
        for offset, cell in enumerate(cells):
            try:
                images.append(self._pixels(cell))
            except Exception as error:  # noqa: BLE001  whatever is wrong with one image, say which one it is
                raise RefusedError(f"image {start + offset}: {error}") from None
        answer: NDArray[np.float32] = self.predictor.predict_proba(np.stack(images))
        return answer

    def _pixels(self, cell: Any) -> NDArray[np.uint8]:
        """uint8 (S, S, C) as the network takes it; arrays of another size go through the decoder, too."""
        if isinstance(cell, str):
            cell = _decoded(cell)
        if isinstance(cell, (bytes, bytearray, memoryview)):
            pixels: NDArray[np.uint8] = self.predictor.decode(bytes(cell))
            return pixels
        array = _bytes_of(np.asarray(cell))
        size_px, channels = (self.predictor.card["input"][name] for name in ("size_px", "channels"))
        if array.shape == (size_px, size_px, channels):
            return array
        stream = io.BytesIO()
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(stream, "PNG")
        return self._pixels(stream.getvalue())


def _decoded(text: str) -> bytes:
    """The bytes that base64 stands for; four letters make three of them, so its length tells before."""
    at = text.find(_BEFORE, 0, 256)  # of a data: address
    start = at + len(_BEFORE) if at >= 0 else 0
    n_bytes = (len(text) - start) * 3 // 4
    if n_bytes > MAX_BYTES + 3:
        raise ValueError(f"text of {n_bytes:,} bytes, above the limit of {MAX_BYTES:,}; shrink the image")
    try:
        return base64.b64decode(text[start:], validate=True)
    except ValueError:
        raise ValueError(f"text that is not base64 ({text[:20]!r}); send the encoded file") from None


def _cells(model_input: Any) -> list[Any]:
    if isinstance(model_input, dict):
        return _cells(model_input["image"]) if "image" in model_input else _no_image(list(model_input))
    if isinstance(model_input, pd.DataFrame):
        names = list(model_input.columns)
        return list(model_input["image"]) if "image" in names else _no_image(names)
    if isinstance(model_input, (str, bytes)):
        return [model_input]
    return list(model_input)


def _no_image(names: list[Any]) -> list[Any]:
    raise RefusedError(f"no column 'image' among {names}; send encoded images or uint8 arrays as that")


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim < 2 or (array.ndim == 2 and array.shape[-1] in (1, 3, 4)):
        raise ValueError(
            f"an array {array.shape} is a row of pixels; give (N, H, W, C), one image as image[None]"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.dtype.kind not in "iu":
        raise ValueError(f"an array {array.shape} of {array.dtype}; expected whole numbers (H, W, 1, 3 or 4)")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise ValueError(f"an array {array.shape}, above the limit of {MAX_PIXELS:,} pixels; shrink it")
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError(f"values {array.min()} to {array.max()}; expected 0 to 255")
    return array.astype(np.uint8)


mlflow.models.set_model(Served())
