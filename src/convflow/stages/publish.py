"""models/, predictions/, reports/ -> MLflow runs and a version; the one stage that touches the world."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from convflow.params import PositiveInt, Section, load_section, read_params
from convflow.registry.door import open_door, unswept
from convflow.registry.key import Evidence, Request, digests, rivals
from convflow.registry.kinds import needs_of
from convflow.registry.order import Order, State, look
from convflow.registry.proving import Proof
from convflow.registry.store import Tracking, open_store
from convflow.registry.verdict import read_verdict

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
    verdict: Path,
    exported: Path,
    *,
    params: Params,
) -> None:
    """Publish the model in `model` and a run of each of its rivals, unless all this is there already."""
    evidence = Evidence(splits, val, model, predictions, evaluation, validation, timing, verdict, exported)
    everything = read_params(PARAMS)
    store = open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())
    request = Request(**params.model_dump())
    parts = digests(evidence, everything)
    order = Order(evidence, everything, request, parts, rivals(evidence), read_verdict(verdict))
    before = look(store, order)
    now = before.whole
    if now is None:
        with Proof(store, needs_of(model).modules) as proof, unswept():
            if before.published is None:
                proof.start()  # its imports take as long as ours: now, so that both go on at once
            now = open_door("publisher").publish(store, order, proof)
    print(f"publish: {_line(order, before, now.version, store.shown)}")


def _line(order: Order, before: State, version: str, place: str) -> str:
    named, alias = f"{order.request.name} version {version}", f"alias {order.request.alias}"
    runs = f"runs of {', '.join(rival.name for rival in before.missing)} added" if before.missing else ""
    if before.published is None:
        line = f"{named}, {alias}, {order.verdict}, in {place}"
        return f"{line}; {runs}" if runs else line
    moved = "" if before.published.has_alias else f"{alias} points to it again"
    said = "" if before.has_verdict else f"now {order.verdict}"
    committed = "" if before.has_origin else "its files are committed by now, its tags say so"
    changes = [change for change in (moved, said, committed, runs) if change]
    return f"{named} is there already; {', '.join(changes) or 'nothing to add'}"
