"""data/embedded and data/packed/{train,val} -> models/<name>: a pretrained network, fitted rung by rung"""

import importlib
import json
import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from convflow.data.groups import group_numbers
from convflow.data.packed import Packed, open_sides
from convflow.errors import DataError
from convflow.files import digest_folder, digest_json, whole_folder, write_text
from convflow.learning.assembling import assemble
from convflow.learning.bundle import save_bundle
from convflow.learning.climbing import TUNED, Plan, Side, climb
from convflow.learning.devices import one_line
from convflow.learning.embedded import Embedded
from convflow.learning.ladder_report import card_of, history_of, minutes_of, told
from convflow.learning.planning import rungs_of, search_of
from convflow.learning.pretrained import open_pretrained
from convflow.learning.probing import Taught
from convflow.learning.timing import write_timing
from convflow.learning.tuner import Tuner
from convflow.learning.tuning_plan import check_blocks, idle_place, place_of, tuning_of
from convflow.nets.registry import REBUILT, Classifier
from convflow.nets.transfer import Transfer
from convflow.params import NotNegative, Positive, Section, Seed
from convflow.recipes.tuning import Probe, Rungs, Tune
from convflow.tables import read_about

_PICTURE = "convflow.learning.ladder_figure"  # matplotlib, loaded when all else is done


class SeededProbe(Probe):
    """`finetune.probe:`."""

    seed: Seed


class SeededTune(Tune):
    """`finetune.tune:`; `seed` is that of the first run."""

    seed: Seed


class Params(Section):
    """`finetune:` in params.yaml; dvc.yaml makes a path of the name in `models`."""

    models: Annotated[list[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]], Field(max_length=1)]
    rungs: Rungs
    budget_minutes: Positive | None
    keep_errors: NotNegative
    probe: SeededProbe
    tune: SeededTune


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
    sides = open_sides(train, val)
    _check(sides)
    features = Embedded(embedded)
    inputs = {"train": digest_folder(train), "val": digest_folder(val)}
    features.check(inputs, embedded)
    about, packed = features.about, sides["train"]
    rungs = rungs_of(_asked(params.rungs, about.views), place="finetune")
    pretrained = open_pretrained(about.source, about.wanted())
    ready = {name: Side(features.sides[name], _taught(side), side.pixels) for name, side in sides.items()}
    widths = dict(zip(about.depths, about.widths, strict=True))
    probe, tune = params.probe.model_dump(), params.tune.model_dump()
    search = search_of(probe, about.depths, seed=params.probe.seed, place="finetune.probe")
    plan = Plan(rungs, search, params.keep_errors)
    tuning = tuning_of(tune, unsure=params.probe.unsure, seed=params.tune.seed)
    place = idle_place(about)
    if set(rungs) & set(TUNED):
        place = place_of(tune, about, place="finetune.tune")
        check_blocks(tuning, len(pretrained.trunk.stages), place="finetune.tune")
    left = None if params.budget_minutes is None else clock.left
    tuner = Tuner(pretrained.trunk, (ready["train"], ready["val"]), tuning, place, seconds_left=left)
    with one_line("finetune.tune"):
        climbed = climb(ready["train"], ready["val"], widths, plan, in_time=clock.look, tuner=tuner)
    network = assemble(pretrained.trunk, climbed.stand, packed.contract.channels, about.views)
    card = {
        "kind": "network",
        "name": model.name,
        **_network_card(network),
        **packed.in_card(),
        "backbone": {"source": about.source, "sha256": about.sha256, "computed_in": about.mode},
        **card_of(climbed, tuning),
        "precision": "fp32" if climbed.stand.tuned is None else place.precision,
        "inputs": inputs | {"params": digest_json(params.model_dump())},
    }
    with whole_folder(model) as folder:
        write_text(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history_of(climbed)))
        save_bundle(folder, network.state_dict(), card)
    write_timing(timing, place.device, clock.look()[0], len(packed.pixels), minutes_of(climbed))
    importlib.import_module(_PICTURE).draw_ladder(ladder, climbed)
    for line in told(climbed):
        print(f"finetune: {line}")


def _asked(rungs: Collection[str], views: str) -> set[str]:
    """Where there is one view only, the probe looks at it."""
    asked = set(rungs)
    return asked - {"views"} | {"probe"} if views == "none" and "views" in asked else asked


def _check(sides: dict[str, Packed]) -> None:
    for side in sides.values():
        side.need_images()
    if len(np.unique(sides["train"].labels)) < 2:
        raise DataError(f"{sides['train'].folder}: images of one class only; add some of another")


def _taught(side: Packed) -> Taught:
    """Labels with their weights, and groups where the split keeps them together."""
    grouped = read_about(side.folder / "rows.parquet").get("method") == "grouped"
    group_N = group_numbers(side.folder) if grouped else None
    return Taught(side.labels, side.weights, group_N, len(side.contract.classes))


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
