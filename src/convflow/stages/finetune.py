"""data/embedded and data/packed/{train,val} -> models/<name>: a pretrained network, fitted rung by rung"""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.files import digest_file, digest_folder, digest_json, whole_folder, write_json, write_text
from convflow.learning.assembling import assemble
from convflow.learning.bundle import save_bundle
from convflow.learning.climbing import RUNGS, Climbed, Plan, RungName, Side, climb
from convflow.learning.devices import device_name, peak_memory_mib
from convflow.learning.embedded import Embedded
from convflow.learning.pretrained import open_pretrained
from convflow.learning.probing import Search, Taught, last_depths
from convflow.nets.registry import REBUILT, Classifier
from convflow.nets.transfer import Transfer
from convflow.params import PositiveInt, Section
from convflow.tables import read_about, read_table

LOCK = Path("requirements.lock")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ProbeParams(Section):
    """`finetune.probe:`; see `convflow.learning.probing.Search`."""

    depths: Literal["auto"] | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    c: Annotated[list[Positive], Field(min_length=1)]
    folds: PositiveInt
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    unsure: Literal["weight", "soft", "ignore"]


class Params(Section):
    """`finetune:` in params.yaml."""

    rungs: Annotated[list[Literal["probe", "views", "temperature"]], Field(min_length=1)]
    budget_minutes: Positive | None
    keep_errors: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    probe: ProbeParams


def run(embedded: Path, train: Path, val: Path, model: Path, timing: Path, *, params: Params) -> None:
    """Climb the ladder on cached features, then write the network that its last rung stands for."""
    started = time.monotonic()
    rungs = _rungs(params)
    sides = {"train": Packed(train), "val": Packed(val)}
    _check(sides, train, val)
    features = Embedded(embedded)
    inputs = {"train": digest_folder(train), "val": digest_folder(val)}
    features.check(inputs, embedded)
    about = features.about
    pretrained = open_pretrained(about.source, about.wanted())

    def in_time() -> tuple[float, bool]:
        spent = time.monotonic() - started
        return spent, params.budget_minutes is None or spent < 60 * params.budget_minutes

    widths = dict(zip(about.depths, about.widths, strict=True))
    climbed = climb(
        Side(features.sides["train"], _taught(sides["train"])),
        Side(features.sides["val"], _taught(sides["val"])),
        widths,
        Plan(rungs, _search(params.probe, about.depths), params.keep_errors),
        in_time=in_time,
    )
    packed, stand = sides["train"], climbed.stand
    views = about.views if stand.all_views else "none"
    network = assemble(
        pretrained.trunk, stand.probe, packed.contract.channels, views, temperature=stand.temperature
    )
    card = {
        "kind": "network",
        "name": model.name,
        **_network_card(network),
        "classes": packed.contract.classes,
        "n_by_class": packed.n_by_class(),
        "input": {k: v for k, v in asdict(packed.contract).items() if k != "classes"},
        "backbone": {"source": about.source, "sha256": about.sha256, "computed_in": about.mode},
        **_ladder_card(climbed),
        "precision": "fp32",
        "inputs": inputs | {"params": digest_json(params.model_dump())},
    }
    with whole_folder(model) as folder:
        write_text(folder / "history.jsonl", _lines(climbed))
        save_bundle(folder, network.state_dict(), card)
    _write_timing(timing, climbed, time.monotonic() - started, len(packed.pixels))
    for rung in climbed.ladder.rungs:
        kept = "kept" if rung.kept else "left out"
        print(
            f"finetune: {rung.name} {kept}, {rung.why}; "
            f"val loss {rung.loss:.4f}, accuracy {rung.accuracy:.4f}"
        )


def _rungs(params: Params) -> tuple[RungName, ...]:
    rungs = tuple(name for name in RUNGS if name in params.rungs)
    if rungs[0] == "temperature":
        raise ParamsError("finetune.rungs: ['temperature'] has nothing to stand on; add probe or views")
    return rungs


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
    rows = side.folder / "rows.parquet"
    group_N = None
    if read_about(rows).get("method") == "grouped":
        images = read_table(rows, ["group", "sha256"]).to_pydict()
        names = [group or sha256 for group, sha256 in zip(images["group"], images["sha256"], strict=True)]
        group_N = np.unique(names, return_inverse=True)[1].astype(np.int64)
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


def _ladder_card(climbed: Climbed) -> dict[str, Any]:
    standing, probe = climbed.ladder.standing, climbed.stand.probe
    return {
        "rungs": climbed.ladder.as_json(),
        "chosen_rung": standing.name,
        "probe": {"depths": list(probe.depths), "c": probe.c, "search": probe.figures},
        "temperature": climbed.stand.temperature,
        "val": {"loss": standing.loss, "accuracy": standing.accuracy},
        "best_epoch": climbed.ladder.rungs.index(standing) + 1,
        "epochs": len(climbed.ladder.rungs),
    }


def _lines(climbed: Climbed) -> str:
    """One line per rung, as a training writes one per epoch."""
    lines = [
        {
            "epoch": number,
            "rung": rung.name,
            "train_loss": note.train_loss,
            "train_accuracy": note.train_accuracy,
            "val_loss": rung.loss,
            "val_accuracy": rung.accuracy,
        }
        for number, (rung, note) in enumerate(zip(climbed.ladder.rungs, climbed.notes, strict=True), start=1)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _write_timing(path: Path, climbed: Climbed, seconds: float, n_images: int) -> None:
    rungs = [
        {"name": rung.name, "minutes": round(note.seconds / 60, 3), "val_accuracy": rung.accuracy}
        for rung, note in zip(climbed.ladder.rungs, climbed.notes, strict=True)
    ]
    found = {
        "device": device_name("cpu"),
        "seconds": round(seconds, 3),
        "images_per_second": round(n_images / seconds, 1),
        "peak_memory_mib": round(peak_memory_mib("cpu"), 1),
        "rungs": rungs,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "requirements_lock": digest_file(LOCK) if LOCK.is_file() else "none",
    }
    write_json(path, found)
