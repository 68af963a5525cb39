"""models/, predictions/, reports/ -> MLflow run and version; the one stage that touches the world."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from convflow.params import PositiveInt, Section, load_section, read_params
from convflow.registry.door import open_door
from convflow.registry.key import Evidence, Request, digests, run_key
from convflow.registry.ledger import find_published
from convflow.registry.store import Tracking, open_store

PARAMS = Path("params.yaml")


class Params(Section):
    """The section `publish` of params.yaml."""

    name: Annotated[str, Field(pattern=r"""^[^/:.%"'@\s][^/:.%"'@]*$""")]
    alias: Annotated[str, Field(pattern=r"^[a-z][a-z_-]+$")]
    check_images: PositiveInt
    tolerance: Annotated[float, Field(gt=0, lt=1)]


def run(  # noqa: PLR0913, PLR0917  one path for each dependency in dvc.yaml
    splits: Path,
    val: Path,
    model: Path,
    predictions: Path,
    evaluation: Path,
    validation: Path,
    timing: Path,
    *,
    params: Params,
) -> None:
    """Publish the model in `model`, unless exactly this has been published already."""
    evidence = Evidence(splits, val, model, predictions, evaluation, validation, timing)
    everything = read_params(PARAMS)
    store = open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())
    parts = digests(evidence, everything)
    before = find_published(store, run_key(parts), params.name, params.alias)
    if before is not None and before.has_alias:
        print(f"publish: {params.name} version {before.version} is there already; nothing to add")
        return
    request = Request(**params.model_dump())
    now = open_door("publisher").publish(store, evidence, everything, request, parts)
    if before is None:
        print(f"publish: {params.name} version {now.version}, alias {params.alias}, in {store.shown}")
    else:
        moved = f"alias {params.alias} points to it again"
        print(f"publish: {params.name} version {now.version} is there already; {moved}")
