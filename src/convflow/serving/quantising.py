"""The same network in whole numbers of 8 bits: smaller, often faster, and its answers differ slightly.

Shape letters: N images, S side, C channels.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from convflow.serving.session import IMAGES

_AT_ONCE = 8
_QUANTISED = ["Conv", "Gemm", "MatMul"]


class _Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images_NSSC: NDArray[np.uint8]) -> None:
        parts = range(0, len(images_NSSC), _AT_ONCE)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{IMAGES: np.ascontiguousarray(images_NSSC[at : at + _AT_ONCE])} for at in parts]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def quantise(plain: Path, small: Path, images_NSSC: NDArray[np.uint8]) -> None:
    """Write the model in `plain` with weights and activations of 8 bits to `small`.

    Args:
        plain: an ONNX file.
        small: the file to write.
        images_NSSC: uint8, whose activations give the ranges; some dozens that look like all.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # advice of the quantiser
    try:
        with tempfile.TemporaryDirectory(dir=small.parent) as scratch:
            prepared = Path(scratch, "prepared.onnx")
            quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(small),
                _Pictures(images_NSSC),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            _tidy(small)
    finally:
        root.setLevel(level)


def _tidy(path: Path) -> None:
    """Drop the operator sets that the runtime lists and the model does not use, and its notes."""
    model = onnx.load(path)
    own = [one for one in model.opset_import if not one.domain]
    del model.opset_import[:], model.metadata_props[:]
    model.opset_import.extend(own)
    path.write_bytes(model.SerializeToString(deterministic=True))
