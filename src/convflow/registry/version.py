"""A registered version and all that its run tells: what to ask by, and what comes back; without MLflow."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from convflow.errors import ParamsError, TrackingError
from convflow.files import read_json
from convflow.params import load_section, read_params
from convflow.registry.door import open_door
from convflow.registry.source import LOCK, SOURCE
from convflow.registry.source import PARAMS as KEPT_PARAMS
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")
DOWNLOADS = Path(".convflow/downloads/runs")
_ASKED = re.compile(r"(?:models:/(?P<name>[^/@]+)[/@])?(?P<version>[A-Za-z0-9_-]+)")


@dataclass(frozen=True)
class Version:
    """A registered version.

    Args:
        name: of the registered model.
        version: its number.
        aliases: that point to it.
        created: when, UTC, ISO 8601.
        run_id: of the run it was made by.
        status: of that run: FINISHED, or "deleted", or "gone".
        tags: the version's, over those of its run.
        params: of the run, flat.
        store: where all this stands, for messages.
        fetch: the local path of an artifact of the run, None where there is none.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    created: str
    run_id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    store: str
    fetch: Callable[[str], Path | None]

    @property
    def model(self) -> str:
        """The name that the model has in its project, as in models/NAME."""
        return self.tags.get("convflow.model", "")

    @property
    def shown(self) -> str:
        """`convflow version 3 (challenger)`."""
        held = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{self.name} version {self.version}{held}"

    def tag(self, name: str) -> str | None:
        """The tag `convflow.<name>`; None where there is none, or where it says that nothing was known."""
        found = self.tags.get(f"convflow.{name}")
        return None if found in (None, "", "none", "unknown") else found

    def kept(self, name: Path) -> Path | None:
        """A file of the project as it was published."""
        return self.fetch(f"{SOURCE}/{name.as_posix()}")

    def lock(self) -> dict[str, Any] | None:
        """The stages of dvc.lock as it was published; None where it was not kept or is none."""
        return read_stages(self.kept(LOCK))

    def settings(self) -> dict[str, Any] | None:
        """params.yaml as it was published; None where it was not kept."""
        place = self.kept(KEPT_PARAMS)
        return read_params(place) if place else None

    def report(self, name: str) -> Any:
        """The content of a JSON artifact; None where there is none."""
        place = self.fetch(name)
        return read_json(place) if place else None


def read_stages(path: Path | None) -> dict[str, Any] | None:
    """The stages of a dvc.lock by name; None where there is no such file, or it is none."""
    try:
        text = path.read_text(encoding="utf-8") if path else ""
        tree = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - safe, and faster in C
    except (OSError, yaml.YAMLError):
        return None
    stages = tree.get("stages") if isinstance(tree, dict) else None
    return stages if isinstance(stages, dict) else None


def find_version(asked: str) -> Version:
    """The version that `asked` names, in the registry of the project we are in.

    Args:
        asked: a number, an alias, models:/NAME/NUMBER or models:/NAME@ALIAS.

    Raises:
        ParamsError: no project here, or `asked` is none of these.
        TrackingError: no such version, or no store.
    """
    store, name = _store(), _registered_name()
    form = _ASKED.fullmatch(asked)
    if form is None:
        raise ParamsError(f"{asked!r}: name a version by its number, as 3, or by its alias, as challenger")
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{store.shown}: nothing is registered yet; run `convflow repro` first")
    found: Version = open_door("lookup").look_up(store, form["name"] or name, form["version"], DOWNLOADS)
    return found


def _store() -> Store:
    return open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())


def _registered_name() -> str:
    name = (read_params(PARAMS).get("publish") or {}).get("name")
    if not isinstance(name, str):
        raise ParamsError(f"{PARAMS}: publish.name: give the registered model a name")
    return name
