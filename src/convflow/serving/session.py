"""A network answers through ONNX Runtime: without torch, from the one file that its record vouches for.

Shape letters: N images, S side, C channels, K classes.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from convflow.baselines.timing import processor
from convflow.data.packed import Contract
from convflow.data.workers import cpu_count
from convflow.errors import ModelError
from convflow.serving.record import FILES, OPSET, Exported, fastest, read_record, whole_file_of

IMAGES, PROBABILITIES = "images", "probabilities"
_ONLY_ERRORS = 3  # of ONNX Runtime's severities


class OnnxPredictor:
    """A loaded network, asked like any model (`convflow.models.Predictor`).

    Attributes:
        card: what card.json of the model says.
        contract: how images are decoded for it.
        kind: of the file that answers, fp32 or int8.
    """

    def __init__(self, exported: Exported, card: dict[str, Any], kind: str | None = None) -> None:
        """Load the file `kind` of the network in `exported`; None takes the fastest.

        Raises:
            ModelError: a file that is missing, altered, or no network with this card's input and output.
        """
        record = read_record(exported.folder)
        self.card = card
        self.contract = Contract(classes=card["classes"], **card["input"])
        self.kind = kind or fastest(exported, record)
        self._at_once: int = record["at_once"]
        content = whole_file_of(exported.folder, record, self.kind)
        self._session = open_session(content, self.contract, exported.folder / FILES[self.kind])

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.contract.classes

    def decode(self, source: bytes | Path) -> NDArray[np.uint8]:
        """Decode one image to uint8 (S, S, C), as training saw it."""
        return self.contract.decode(source)

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 (N, K), rows sum to 1, of images uint8 (N, S, S, C).

        Raises:
            ModelError: another shape or type than the model was trained on.
        """
        side, channels = self.contract.size_px, self.contract.channels
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, channels):
            raise ModelError(
                f"images: {images.dtype} {images.shape}; this model takes uint8 "
                f"(N, {side}, {side}, {channels})"
            )
        found = [np.empty((0, len(self.classes)), np.float32)]
        for start in range(0, len(images), self._at_once):
            batch = np.ascontiguousarray(images[start : start + self._at_once])
            found += self._session.run([PROBABILITIES], {IMAGES: batch})
        return np.concatenate(found)

    def flops(self) -> int | None:
        """Not counted here."""
        return None

    def hardware(self) -> tuple[str, int]:
        """The processor, and how many of its threads may take part."""
        return processor(), _threads() or cpu_count()


def open_session(content: bytes, contract: Contract, path: Path) -> Any:
    """An inference session of the ONNX model `content`, which was read from `path`.

    Raises:
        ModelError: it is no ONNX model of ours, names data outside itself, or takes or gives something else.
    """
    _check_inside(content, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = _ONLY_ERRORS
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  it has a class of its own for each of a dozen states
        said = " ".join(str(error).split())[:150]
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it ({said}); run `dvc repro --force export`"
        ) from None
    side = contract.size_px
    wanted = [
        (IMAGES, "tensor(uint8)", [side, side, contract.channels]),
        (PROBABILITIES, "tensor(float)", [len(contract.classes)]),
    ]
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = [(end.name, end.type, list(end.shape[1:])) for end in ends]
    if found != wanted or not all(isinstance(end.shape[0], str) for end in ends):
        raise ModelError(
            f"{path}: takes and gives {found!s:.150}, not {wanted}; run `dvc repro --force export`"
        )
    return session


def _check_inside(content: bytes, path: Path) -> None:
    """Refuse what would make the runtime look outside the file, or for operators that are not ONNX's own."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise ModelError(f"{path}: not an ONNX file; run `dvc repro --force export`") from None
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"{path}: {tensor.name!r:.60} lies in another file; only models that are one file are loaded"
            )
    opsets = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    if opsets != {"ai.onnx": OPSET}:
        raise ModelError(
            f"{path}: operator sets {opsets!s:.100}, not ai.onnx {OPSET}; run `dvc repro --force export`"
        )


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in `message`: of the graph, of graphs in its nodes, of functions."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if isinstance(value, Message) else value:
                yield from _tensors(one)


def _threads() -> int:
    """As many as torch would take where OMP_NUM_THREADS says so; 0 leaves it to ONNX Runtime."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else 0
