"""A trained network as one ONNX file: uint8 pixels in, probabilities out, any number of pictures.

Shape letters: B images, C channels, S side, K classes, V views.
"""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from convflow.errors import ModelError
from convflow.learning.bundle import load_bundle
from convflow.nets.backbones import VIEWS, views_of
from convflow.nets.registry import Classifier
from convflow.nets.transfer import Transfer

_PIXELS = 32 * 96 * 96  # that go through a network together: more are no faster on a processor
_NOISY = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._dynamo")


class Whole(nn.Module):
    """All that lies between packed pixels and probabilities."""

    def __init__(self, model: Classifier) -> None:
        """Take over `model`."""
        super().__init__()
        self.model = model

    def forward(self, image_BSSC: Tensor) -> Tensor:
        """Probabilities (B, K) of uint8 pixels."""
        logits_BK: Tensor = self.model(image_BSSC.permute(0, 3, 1, 2))
        return logits_BK.softmax(dim=1).float()


class AllViews(nn.Module):
    """Answers as `Transfer` does, but lets all views through in one pass: the graph holds the trunk once."""

    def __init__(self, net: Transfer) -> None:
        """Take over `net`."""
        super().__init__()
        self.net = net

    def forward(self, image_BCSS: Tensor) -> Tensor:
        """Logits (B, K)."""
        net = self.net
        views = list(views_of(net.trunk.prepare(image_BCSS), net.views))
        logits_VBK = net.head(net.trunk(torch.cat(views), net.depths)).unflatten(0, (len(views), -1))
        logits_BK: Tensor = logits_VBK.mean(dim=0)
        return logits_BK


def export_onnx(folder: Path, path: Path, names: tuple[str, str], opset: int) -> int:
    """Write the network of the model in `folder` to `path`, the same bytes wherever and whenever.

    Args:
        folder: of the model.
        path: of the ONNX file.
        names: of its input and its output.
        opset: version of ONNX's operators.

    Returns:
        how many pictures to ask at once.

    Raises:
        ModelError: the model is not whole, or has a part that ONNX cannot express.
    """
    model, card = load_bundle(folder)
    side, channels = card["input"]["size_px"], card["input"]["channels"]
    at_once = _at_once(model.net, side)
    if isinstance(model.net, Transfer):
        model.net = AllViews(model.net)
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010  same values, but the exporter takes half as long again to undo each
    example_BSSC = torch.zeros((2, side, side, channels), dtype=torch.uint8)
    try:
        with _silent(), torch.no_grad():
            program = torch.onnx.export(
                Whole(model).eval(),
                (example_BSSC,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                input_names=[names[0]],
                output_names=[names[1]],
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{folder}: {card['arch']} cannot be written as ONNX ({said}); choose another arch"
        ) from None
    path.write_bytes(_anonymous(program.model_proto))  # type: ignore[union-attr]
    return at_once


def _at_once(net: nn.Module, side: int) -> int:
    looked_at = len(VIEWS[net.views]) if isinstance(net, Transfer) else 1
    inside = net.trunk.spec.size_px if isinstance(net, Transfer) else side
    return max(1, min(64, _PIXELS // (inside**2 * looked_at)))


def _anonymous(model: "onnx.ModelProto") -> bytes:  # type: ignore[name-defined]  # noqa: F821
    """The model without notes on the source it came from, which name folders of this machine."""
    for holder in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        del holder.metadata_props[:]
        holder.doc_string = ""
    for end in [*model.graph.input, *model.graph.output]:
        del end.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def _silent() -> Iterator[None]:
    """No advice from the exporter, and no garbage collection, which finds nothing among a million objects."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    was_on = gc.isenabled()
    gc.disable()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if was_on:
            gc.enable()
