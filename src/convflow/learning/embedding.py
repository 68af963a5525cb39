"""Features of a frozen trunk, computed once, in the fastest way this machine has for them.

Shape letters: N images, V views, F features, S side, C channels.
"""

import copy
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from convflow.data.packed import Packed
from convflow.errors import ConvflowError
from convflow.files import digest_folder, digest_json, read_json, reserve, whole_folder, write_json
from convflow.learning.devices import device_name, one_line, pick_device, pick_precision
from convflow.learning.embedded import About, write_about
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.nets.backbones import VIEWS, Trunk, Views, at_once, views_of

Mode = Literal["fp32", "channels_last", "bf16"]
MODES: tuple[Mode, ...] = ("fp32", "channels_last", "bf16")
_SAMPLE = 16  # images of which the time is taken
_WORTH = 1.15  # a later mode must be this much faster: close calls fall the same way each time
# Features may differ by this share of their spread over images. A head is fitted on them and then asked with
# exact ones: at 0.1 its probabilities moved by 0.013 in the mean (EfficientNet-Lite0 in bf16, ELPV).
_NEAR = 0.03


@dataclass(frozen=True)
class How:
    """Whose features are wanted, and how they are computed.

    Attributes:
        source: of the weights, see `convflow.learning.pretrained`.
        wanted: what else is asked of the trunk.
        views: under which each picture is looked at.
        mode: how to compute; `auto` takes the fastest here.
        device: auto, cuda, mps or cpu.
    """

    source: str
    wanted: Wanted
    views: Views
    mode: Mode | Literal["auto"]
    device: str


@dataclass(frozen=True)
class Frozen:
    """A trunk that will not be trained any more, made ready for one way of computing.

    Batch norms are folded into the convolutions before them: the same function in fewer passes.
    """

    trunk: Trunk
    depths: tuple[int, ...]
    mode: Mode
    device: torch.device

    @property
    def n_features(self) -> int:
        """F, of all `depths` together."""
        return sum(self.trunk.widths[depth] for depth in self.depths)

    def __call__(self, prepared_BCSS: Tensor) -> Tensor:
        """Features float32 (B, F) of prepared pictures, on the device."""
        if self.mode == "fp32":
            prepared_BCSS = prepared_BCSS.contiguous()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mode == "bf16"):
            features: Tensor = self.trunk(prepared_BCSS, self.depths)
        return features


def later_stages(n_stages: int) -> list[int]:
    """The stages whose features are kept: the last two thirds. The first see edges and little else."""
    return list(range(n_stages // 3, n_stages))


def freeze(trunk: Trunk, depths: Sequence[int], mode: Mode, device: str) -> Frozen:
    """Make a copy of `trunk` ready to give the features of `depths`, in `mode`, on `device`."""
    ready = copy.deepcopy(trunk).eval().requires_grad_(False)
    for stage in ready.stages:
        _fold(stage)
    ready = ready.to(device)
    if mode != "fp32":
        ready = ready.to(memory_format=torch.channels_last)
    return Frozen(ready, tuple(depths), mode, torch.device(device))


def embed_sides(out: Path, sides: Mapping[str, Packed], how: How, memory: Path) -> About:
    """Let every picture of `sides` through a frozen trunk once per view; write a folder of features.

    Args:
        out: the folder, see `convflow.learning.embedded`; whole or absent.
        sides: packed folders, all under one contract; the first has pictures.
        how: whose features, and how computed.
        memory: where the fastest mode is remembered.

    Raises:
        ParamsError: a source or an architecture that cannot be meant.
        ModelError: the weights are missing, altered, or do not fit.
        TrainingError: the device is missing, or its memory full.
    """
    found = open_pretrained(how.source, how.wanted)
    trunk = found.trunk
    device = pick_device(how.device, require_gpu=False, place="embed")
    depths = later_stages(len(trunk.stages))
    with one_line(), whole_folder(out) as folder:
        mode = how.mode
        if mode == "auto":
            mode = pick_mode(trunk, depths, next(iter(sides.values())).pixels, device, memory)
        frozen = freeze(trunk, depths, mode, device)
        for name, side in sides.items():
            embed_to(folder / f"{name}.npy", frozen, side.pixels, how.views, text=name)
        inputs = {name: digest_folder(side.folder) for name, side in sides.items()}
        widths = [trunk.widths[depth] for depth in depths]
        about = About(
            found.source, found.sha256, trunk.spec.as_json(), depths, widths, how.views, mode, inputs
        )
        write_about(folder, about)
    return about


def embed(
    frozen: Frozen, image_NSSC: NDArray[np.uint8], views: Views, out_NVF: NDArray[np.float32], *, text: str
) -> None:
    """Write the features under all views into `out_NVF`; pictures may lie on disk.

    Args:
        frozen: what computes them.
        image_NSSC: uint8, any side, 1 or 3 channels.
        views: see `convflow.nets.backbones.VIEWS`.
        out_NVF: float32, filled.
        text: what the progress bar says.
    """
    step = at_once(frozen.trunk.spec.size_px, frozen.device)
    with torch.inference_mode(), tqdm(total=len(image_NSSC), desc=text, unit="img", disable=None) as bar:
        for start in range(0, len(image_NSSC), step):
            pixels = torch.from_numpy(np.array(image_NSSC[start : start + step])).to(frozen.device)
            prepared = frozen.trunk.prepare(pixels.permute(0, 3, 1, 2))
            found = [frozen(view) for view in views_of(prepared, views)]
            out_NVF[start : start + len(pixels)] = torch.stack(found, dim=1).cpu().numpy()
            bar.update(len(pixels))


def embed_to(path: Path, frozen: Frozen, image_NSSC: NDArray[np.uint8], views: Views, *, text: str) -> None:
    """Write the features to `path` as .npy, float32 (N, V, F), without holding them all in memory."""
    shape = (len(image_NSSC), len(VIEWS[views]), frozen.n_features)
    if not shape[0]:
        np.save(path, np.empty(shape, np.float32))
        return
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        reserve(file, path.stat().st_size)
    embed(frozen, image_NSSC, views, out, text=text)
    out.flush()


def pick_mode(
    trunk: Trunk, depths: Sequence[int], image_NSSC: NDArray[np.uint8], device: str, memory: Path
) -> Mode:
    """The fastest mode for `trunk` here: measured once on these pictures, then read from `memory`.

    A mode whose features differ from the exact ones by more than a trifle is not taken, however fast.
    Remembered for this processor, its threads, this torch, these weights and pictures. bf16 is tried only
    where the processor computes in it. On a CPU one thread's processor time counts, which a busy machine does
    not lengthen.
    """
    sample = np.array(image_NSSC[:_SAMPLE])
    about = [
        device_name(device),
        torch.get_num_threads(),
        torch.__version__,
        trunk.spec.as_json(),
        list(depths),
        _digest(trunk, sample),
    ]
    key = digest_json(about)[:16]
    known = _remembered(memory)
    if key not in known:
        tried = MODES if pick_precision("auto", device) == "bf16" else MODES[:2]
        timed = {mode: _timed(freeze(trunk, depths, mode, device), sample) for mode in tried}
        exact_NF = timed["fp32"][1]
        away = {mode: deviation(feature_NF, exact_NF) for mode, (_, feature_NF) in timed.items()}
        known[key] = {
            "about": about,
            "mode": fastest({mode: timed[mode][0] for mode in tried if away[mode] <= _NEAR}),
            "ms_per_image": {mode: round(1000 * timed[mode][0] / len(sample), 3) for mode in tried},
            "deviation": {mode: round(away[mode], 6) for mode in tried},
        }
        write_json(memory, known)
    mode: Mode = known[key]["mode"]
    return mode


def fastest(seconds: dict[Mode, float]) -> Mode:
    """The first mode, unless a later one is clearly faster than the best so far."""
    modes = list(seconds)
    best = modes[0]
    for mode in modes[1:]:
        if seconds[best] > _WORTH * seconds[mode]:
            best = mode
    return best


def deviation(feature_NF: Tensor, exact_NF: Tensor) -> float:
    """Mean difference of features as a share of the spread that each has over the images."""
    spread_F = exact_NF.std(dim=0, correction=0)
    told = (
        spread_F > 0.01 * exact_NF.abs().mean(dim=0) + 1e-6
    )  # of features that hardly vary none is made use
    if not bool(told.any()):
        return 0.0
    return float(((feature_NF - exact_NF).abs().mean(dim=0) / spread_F)[told].mean())


def _digest(trunk: Trunk, sample_NSSC: NDArray[np.uint8]) -> str:
    """SHA-256 of the weights and of some pictures: how exact a mode is depends on both."""
    found = hashlib.sha256(sample_NSSC.tobytes())
    for tensor in trunk.state_dict().values():
        found.update(tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        known: Any = read_json(memory)
    except ConvflowError:
        return {}
    good = isinstance(known, dict) and all(
        isinstance(entry, dict) and entry.get("mode") in MODES for entry in known.values()
    )
    return known if good else {}


def _timed(frozen: Frozen, image_NSSC: NDArray[np.uint8]) -> tuple[float, Tensor]:
    """Seconds for these pictures, the least of three goes after one to warm up; and their features (N, F)."""
    on_cpu = frozen.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    n_threads = torch.get_num_threads()
    taken, found = [], torch.empty(0)
    try:
        torch.set_num_threads(1 if on_cpu else n_threads)
        with torch.inference_mode():
            for _ in range(4):
                begun = clock()
                pixels = torch.from_numpy(image_NSSC).to(frozen.device).permute(0, 3, 1, 2)
                for view in views_of(frozen.trunk.prepare(pixels), "none"):
                    found = frozen(view).cpu()
                taken.append(clock() - begun)
    finally:
        torch.set_num_threads(n_threads)
    return min(taken[1:]), found


def _fold(module: nn.Module) -> None:
    """Fold each batch norm of `module` into the convolution that is called right before it."""
    for child in module.children():
        _fold(child)
    names = [name for name, _ in module.named_children()]
    for name in names:
        after = _norm_after(module, name, names)
        conv, norm = getattr(module, name), getattr(module, after, None) if after else None
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, str(after), nn.Identity())


def _norm_after(module: nn.Module, name: str, names: list[str]) -> str | None:
    """The child that surely follows: the next of a Sequential, or bn1 and norm1 after conv1."""
    if isinstance(module, nn.Sequential):
        place = names.index(name) + 1
        return names[place] if place < len(names) else None
    if name.startswith("conv"):
        number = name.removeprefix("conv")
        return next((found for found in (f"bn{number}", f"norm{number}") if found in names), None)
    return None
