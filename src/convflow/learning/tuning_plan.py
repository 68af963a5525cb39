"""What tune and soup take, from plain settings as params.yaml has them; errors name the section.

Apart from `convflow.learning.planning`, so that a frozen network does not depend on how others are tuned.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from convflow.errors import ParamsError
from convflow.learning.augment import Augment
from convflow.learning.devices import be_deterministic, pick_device
from convflow.learning.embedded import About
from convflow.learning.embedding import Mode
from convflow.learning.probing import Unsure
from convflow.learning.tuner import Place
from convflow.learning.tuning import Tuning, training_precision

_WORK = Path(".convflow/tuning")


def place_of(tune: Mapping[str, Any], about: About, *, place: str) -> Place:
    """Where to compute; from here on with equal results, where that is asked for.

    Args:
        tune: device, precision, deterministic.
        about: what the features say of themselves.
        place: the section of params.yaml that has them, for errors.

    Raises:
        TrainingError: the device is missing, or fp16 without a GPU.
    """
    device = pick_device(tune["device"], require_gpu=False, place=place)
    precision = training_precision(tune["precision"], device, place=place)
    if tune["deterministic"]:
        be_deterministic()
    return _at(device, precision, about)


def idle_place(about: About) -> Place:
    """For rungs that train nothing: a device that is not there does not matter to them."""
    return _at("cpu", "fp32", about)


def tuning_of(tune: Mapping[str, Any], *, unsure: Unsure, seed: int) -> Tuning:
    """How to fine-tune.

    Args:
        tune: the attributes of `Tuning`; blocks may be `all`, and others stand among them.
        unsure: as of the probe.
        seed: of the first run.
    """
    known = {field.name: tune[field.name] for field in fields(Tuning) if field.name in tune}
    blocks = None if tune["blocks"] == "all" else tune["blocks"]
    own = {"blocks": blocks, "augment": Augment(**tune["augment"]), "unsure": unsure, "seed": seed}
    return Tuning(**known | own)


def check_blocks(tuning: Tuning, n_stages: int, *, place: str) -> None:
    """See that so many of a network's stages can be trained.

    Raises:
        ParamsError: more than there are, or all, which is said by `all`.
    """
    if tuning.blocks is not None and tuning.blocks >= n_stages:
        raise ParamsError(f"{place}.blocks: {tuning.blocks} of {n_stages} stages; set it to all, or to less")


def _at(device: str, precision: str, about: About) -> Place:
    return Place(device, precision, cast("Mode", about.mode), about.views, _WORK)
