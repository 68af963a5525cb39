"""Which model answers: the one asked for, else the champion, the challenger, or the only local one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from convflow.errors import ModelError, ParamsError
from convflow.files import read_json
from convflow.params import load_section, read_params
from convflow.registry.resolve import registered, resolve
from convflow.registry.store import Store, Tracking, open_store
from convflow.serving.record import Exported

_IN_ORDER = ("champion", "challenger")


@dataclass(frozen=True)
class Project:
    """The places of a project that a choice looks at."""

    params: Path = Path("params.yaml")
    models: Path = Path("models")
    downloads: Path = Path(".convflow/downloads")
    metrics: Path = Path("reports/evaluation/metrics.json")
    exported: Path = Path("exported")
    timing: Path = Path("reports/timing")


class Chosen(NamedTuple):
    """The folder of the model that is to answer, what to call it, and what is known on how to decide."""

    folder: Path
    named: str
    point: Any  # the entry "operating_point" of its evaluation; None: the likeliest class
    exported: Exported | None = None  # where its network may be as ONNX


def choose_model(asked: str | None, project: Project) -> Chosen:
    """The model that is to answer.

    A registered version decides as published; a folder in the project's models/ as the project's latest
    evaluation of that name says, if there is one; any other folder for the likeliest class.

    Raises:
        ModelError: none is there, or several are and none is asked for.
        TrackingError: a registered version that does not exist or cannot be had.
    """
    if asked is not None and not asked.startswith("models:"):
        return _local(Path(asked), project)
    if asked is not None:
        return _resolved(_store(project), asked, project)
    if project.params.is_file():
        store, name = _store(project), registered_name(project.params)
        for alias in _IN_ORDER:
            if registered(store, name, alias):
                return _resolved(store, f"models:/{name}@{alias}", project)
    cards = sorted(project.models.glob("*/card.json"))
    if len(cards) != 1:
        what = f"{len(cards)} models" if cards else "no model"
        raise ModelError(
            f"{what} in {project.models}/ and none registered; run `dvc repro` or give --model FOLDER"
        )
    return _local(cards[0].parent, project)


def _store(project: Project) -> Store:
    return open_store(load_section(project.params, "tracking", Tracking), Path.cwd())


def registered_name(params: Path) -> str:
    """The name of the registered model, as params.yaml has it.

    Raises:
        ParamsError: it has none.
    """
    name = (read_params(params).get("publish") or {}).get("name")
    if not isinstance(name, str):
        raise ParamsError(f"{params}: publish.name: give the registered model a name, or use --model")
    return name


def _resolved(store: Store, uri: str, project: Project) -> Chosen:
    found = resolve(store, uri, project.downloads)
    return Chosen(found.folder, f"{uri} (version {found.version})", found.point(), found.exported())


def _local(folder: Path, project: Project) -> Chosen:
    if not (folder / "card.json").is_file():
        raise ModelError(f"{folder}: no model folder (no card.json in it); give one such as models/cnn")
    point = exported = None
    name = folder.resolve().name
    is_ours = folder.resolve().parent == project.models.resolve()
    if is_ours:
        exported = Exported(project.exported / name, project.timing / f"export-{name}.json")
    if is_ours and project.metrics.is_file():
        point = (read_json(project.metrics).get(name) or {}).get("operating_point")
    return Chosen(folder, str(folder), point, exported)
