"""What the ladder takes, from plain settings as params.yaml has them; errors name the section."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from convflow.errors import ParamsError
from convflow.learning.climbing import HEADS, RUNGS, RungName
from convflow.learning.probing import Search, last_depths


def rungs_of(asked: Collection[str], *, place: str) -> tuple[RungName, ...]:
    """The rungs asked for, in the order in which they are climbed.

    Args:
        asked: names among `convflow.learning.climbing.RUNGS`.
        place: the section of params.yaml that has `rungs`, for errors.

    Raises:
        ParamsError: none that gives a head.
    """
    rungs = tuple(name for name in RUNGS if name in asked)
    if not set(rungs) & set(HEADS):
        raise ParamsError(f"{place}.rungs: {list(rungs)} has nothing to stand on; add probe or views")
    return rungs


def search_of(probe: Mapping[str, Any], stages: Sequence[int], *, seed: int, place: str) -> Search:
    """How a head is looked for.

    Args:
        probe: depths (`auto` or sets of stages), c, folds, unsure.
        stages: those whose features are kept.
        seed: of the folds.
        place: the section of params.yaml that has `depths`, for errors.

    Raises:
        ParamsError: stages that were not kept.
    """
    if probe["depths"] == "auto":
        depths = last_depths(stages)
    else:
        depths = tuple(tuple(sorted(set(one))) for one in probe["depths"])
        for one in depths:
            if not set(one) <= set(stages):
                raise ParamsError(
                    f"{place}.depths: {list(one)} is not among {list(stages)}, "
                    "the stages whose features are kept; set it to auto"
                )
    return Search(depths, tuple(sorted(probe["c"])), probe["folds"], seed, probe["unsure"])
