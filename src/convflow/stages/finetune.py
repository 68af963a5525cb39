"""data/embedded and data/packed/{train,val} -> models/<name>: a pretrained network, fitted rung by rung"""

import importlib
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from pydantic import Field

from convflow.data.groups import group_numbers
from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.files import digest_file, digest_folder, digest_json, whole_folder, write_json, write_text
from convflow.learning.assembling import assemble
from convflow.learning.augment import Augment
from convflow.learning.bundle import save_bundle
from convflow.learning.climbing import HEADS, RUNGS, TUNED, Climbed, Plan, RungName, Side, climb
from convflow.learning.devices import (
    be_deterministic,
    device_name,
    one_line,
    peak_memory_mib,
    pick_device,
)
from convflow.learning.embedded import About, Embedded
from convflow.learning.embedding import Mode
from convflow.learning.ladder_report import card_of, history_of, minutes_of, told
from convflow.learning.pretrained import open_pretrained
from convflow.learning.probing import Search, Taught, last_depths
from convflow.learning.tuner import Place, Tuner
from convflow.learning.tuning import Tuning, training_precision
from convflow.nets.registry import REBUILT, Classifier
from convflow.nets.transfer import Transfer
from convflow.params import Fraction, PositiveInt, Section
from convflow.tables import read_about

LOCK = Path("requirements.lock")
WORK = Path(".convflow/tuning")
_PICTURE = "convflow.learning.ladder_figure"  # matplotlib, loaded when all else is done
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ProbeParams(Section):
    """`finetune.probe:`; see `convflow.learning.probing.Search`."""

    depths: Literal["auto"] | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    c: Annotated[list[Positive], Field(min_length=1)]
    folds: PositiveInt
    seed: Seed
    unsure: Literal["weight", "soft", "ignore"]


class AugmentParams(Section):
    """`finetune.tune.augment:`; see `convflow.learning.augment.Augment`. Flips are those of `embed.views`."""

    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Fraction
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Annotated[float, Field(ge=0, le=255)]
    contrast: Fraction


class TuneParams(Section):
    """`finetune.tune:`; see `convflow.learning.tuning.Tuning`."""

    method: Literal["lp_ft", "plain", "gradual"]
    blocks: Literal["all"] | PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: Positive
    decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed
    runs: Annotated[int, Field(ge=2)]
    augment: AugmentParams
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    deterministic: bool


class Params(Section):
    """`finetune:` in params.yaml; dvc.yaml makes a path of the name in `models`."""

    models: Annotated[list[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]], Field(max_length=1)]
    rungs: Annotated[list[Literal["probe", "views", "tune", "soup", "temperature"]], Field(min_length=1)]
    budget_minutes: Positive | None
    keep_errors: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    probe: ProbeParams
    tune: TuneParams


@dataclass(frozen=True)
class _Clock:
    """The time since the stage began, and what is left of what it may take."""

    started: float
    budget_minutes: float | None

    def look(self) -> tuple[float, bool]:
        return time.monotonic() - self.started, self.left() > 0

    def left(self) -> float:
        if self.budget_minutes is None:
            return math.inf
        return self.started + 60 * self.budget_minutes - time.monotonic()


def run(  # noqa: PLR0913  one path for each dependency in dvc.yaml
    embedded: Path, train: Path, val: Path, model: Path, timing: Path, ladder: Path, *, params: Params
) -> None:
    """Climb the ladder, then write the network that its last rung stands for.

    `ladder` is a picture of accuracy against minutes, beside `timing`: of clocks nothing enters the model,
    but that a budget which binds leaves less to be done.
    """
    clock = _Clock(time.monotonic(), params.budget_minutes)
    sides = {"train": Packed(train), "val": Packed(val)}
    _check(sides, train, val)
    features = Embedded(embedded)
    inputs = {"train": digest_folder(train), "val": digest_folder(val)}
    features.check(inputs, embedded)
    about, packed = features.about, sides["train"]
    rungs = _rungs(params, about)
    pretrained = open_pretrained(about.source, about.wanted())
    ready = {name: Side(features.sides[name], _taught(side), side.pixels) for name, side in sides.items()}
    widths = dict(zip(about.depths, about.widths, strict=True))
    plan = Plan(rungs, _search(params.probe, about.depths), params.keep_errors)
    place = _place(rungs, about, params.tune)
    left = None if params.budget_minutes is None else clock.left
    tuning = _tuning(params, len(pretrained.trunk.stages))
    tuner = Tuner(pretrained.trunk, (ready["train"], ready["val"]), tuning, place, seconds_left=left)
    with one_line("finetune.tune"):
        climbed = climb(ready["train"], ready["val"], widths, plan, in_time=clock.look, tuner=tuner)
    network = assemble(pretrained.trunk, climbed.stand, packed.contract.channels, about.views)
    card = {
        "kind": "network",
        "name": model.name,
        **_network_card(network),
        "classes": packed.contract.classes,
        "n_by_class": packed.n_by_class(),
        "input": {k: v for k, v in asdict(packed.contract).items() if k != "classes"},
        "backbone": {"source": about.source, "sha256": about.sha256, "computed_in": about.mode},
        **card_of(climbed, tuning),
        "precision": "fp32" if climbed.stand.tuned is None else place.precision,
        "inputs": inputs | {"params": digest_json(params.model_dump())},
    }
    with whole_folder(model) as folder:
        write_text(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history_of(climbed)))
        save_bundle(folder, network.state_dict(), card)
    _write_timing(timing, climbed, clock.look()[0], len(packed.pixels), place.device)
    importlib.import_module(_PICTURE).draw_ladder(ladder, climbed)
    for line in told(climbed):
        print(f"finetune: {line}")


def _rungs(params: Params, about: About) -> tuple[RungName, ...]:
    asked = set(params.rungs)
    if about.views == "none" and "views" in asked:  # there is one view only, which the probe looks at
        asked = asked - {"views"} | {"probe"}
    rungs = tuple(name for name in RUNGS if name in asked)
    if rungs[0] not in HEADS:
        raise ParamsError(f"finetune.rungs: {list(rungs)} has nothing to stand on; add probe or views")
    return rungs


def _place(rungs: Sequence[RungName], about: About, params: TuneParams) -> Place:
    """Where to compute; a device that is not there matters only to rungs that want it."""
    device, precision = "cpu", "fp32"
    if set(rungs) & set(TUNED):
        device = pick_device(params.device, require_gpu=False, place="finetune.tune")
        precision = training_precision(params.precision, device)
        if params.deterministic:
            be_deterministic()
    return Place(device, precision, cast("Mode", about.mode), about.views, WORK)


def _tuning(params: Params, n_stages: int) -> Tuning:
    known = params.tune.model_dump(include={field.name for field in fields(Tuning)})
    wanted = set(params.rungs) & set(TUNED)
    if wanted and params.tune.blocks != "all" and params.tune.blocks >= n_stages:
        raise ParamsError(
            f"finetune.tune.blocks: {params.tune.blocks} of {n_stages} stages; set it to all, or to less"
        )
    blocks = None if params.tune.blocks == "all" else params.tune.blocks
    augment = Augment(**params.tune.augment.model_dump())
    return Tuning(**known | {"blocks": blocks, "augment": augment, "unsure": params.probe.unsure})


def _check(sides: dict[str, Packed], train: Path, val: Path) -> None:
    for folder, side in zip((train, val), sides.values(), strict=True):
        if not len(side.pixels):
            raise DataError(f"{folder}: no images; add some, or give this side a larger share in split:")
    if sides["train"].contract != sides["val"].contract:
        raise DataError(f"{val}: packed otherwise than {train}; run `dvc repro -f pack`")
    if len(np.unique(sides["train"].labels)) < 2:
        raise DataError(f"{train}: images of one class only; add some of another")


def _taught(side: Packed) -> Taught:
    """Labels with their weights, and groups where the split keeps them together."""
    grouped = read_about(side.folder / "rows.parquet").get("method") == "grouped"
    group_N = group_numbers(side.folder) if grouped else None
    return Taught(side.labels, side.weights, group_N, len(side.contract.classes))


def _search(params: ProbeParams, stages: Sequence[int]) -> Search:
    if params.depths == "auto":
        depths = last_depths(stages)
    else:
        depths = tuple(tuple(sorted(set(one))) for one in params.depths)
        for one in depths:
            if not set(one) <= set(stages):
                raise ParamsError(
                    f"finetune.probe.depths: {list(one)} is not among {list(stages)}, "
                    "the stages whose features are kept; set it to auto"
                )
    return Search(depths, tuple(sorted(params.c)), params.folds, params.seed, params.unsure)


def _network_card(network: Classifier) -> dict[str, Any]:
    net = network.net
    if not isinstance(net, Transfer):
        raise TypeError(f"{type(net).__name__} is no transferred network")
    return {
        "arch": REBUILT,
        "arch_args": {"trunk": net.trunk.spec.as_json(), "depths": net.depths, "views": net.views},
        "normalise": "dataset",
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def _write_timing(path: Path, climbed: Climbed, seconds: float, n_images: int, device: str) -> None:
    found = {
        "device": device_name(device),
        "seconds": round(seconds, 3),
        "images_per_second": round(n_images / seconds, 1),
        "peak_memory_mib": round(peak_memory_mib(device), 1),
        **minutes_of(climbed),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "requirements_lock": digest_file(LOCK) if LOCK.is_file() else "none",
    }
    write_json(path, found)
