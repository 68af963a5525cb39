"""From a name such as models:/cells@champion to a verified local model folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convflow.cards import load_card, whole_weights
from convflow.errors import ModelError, TrackingError
from convflow.files import read_json
from convflow.registry.door import open_door
from convflow.registry.ledger import find_folder
from convflow.registry.store import Store
from convflow.serving.record import TIMING, Exported

EXPORTED, POINT = "exported", "operating_point.json"  # beside the model folder in an MLflow model
_FORM = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Resolved:
    """A registered version and the model folder in it."""

    name: str
    version: str
    folder: Path

    def point(self) -> Any:
        """What was published on how to decide; None for versions published without."""
        place = self.folder.parent / POINT
        return read_json(place) if place.is_file() else None

    def exported(self) -> Exported:
        """Where the network was published as ONNX, if it was."""
        folder = self.folder.parent / EXPORTED
        return Exported(folder, folder / TIMING)


def resolve(store: Store, uri: str, downloads: Path) -> Resolved:
    """Find the model folder of a registered version; remote ones are copied to `downloads` once.

    Raises:
        TrackingError: the name is malformed, or no such version exists.
        ModelError: the version's files are missing or not those that were registered.
    """
    form = _FORM.fullmatch(uri)
    if form is None:
        raise TrackingError(f"{uri}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, version = form["name"], form["alias"] or "", form["version"] or ""
    if name in (".", ".."):  # MLflow would take it, and a folder below `downloads` is called after it
        raise TrackingError(f"{uri}: no name of a model; write models:/NAME@ALIAS or models:/NAME/VERSION")
    found = find_folder(store, name, alias=alias, version=version)
    if found is None:
        found = open_door("fetch").fetch(store, uri, downloads)
    number, folder = found
    return Resolved(name, number, verified(folder, uri))


def registered(store: Store, name: str, alias: str) -> bool:
    """Whether `alias` of model `name` exists."""
    if find_folder(store, name, alias=alias) is not None:
        return True
    if store.database is not None:
        return False  # the database could be read, or there is none
    return bool(open_door("fetch").exists(store, name, alias))


def verified(folder: Path, uri: str) -> Path:
    """The model folder inside an MLflow model, its files compared with its manifest and its card.

    Raises:
        ModelError: no convflow model is inside, or its files are not those that were registered.
    """
    cards = sorted(folder.glob("artifacts/*/card.json"))
    if len(cards) != 1:
        raise ModelError(f"{uri}: no convflow model in {folder}; name a version that `dvc repro` registered")
    model = cards[0].parent
    try:
        whole_weights(model, load_card(model))
    except ModelError as error:
        what = str(error).rpartition("; ")[0] or str(error)
        raise ModelError(
            f"{what}; it is not what was registered as {uri}: run `dvc repro` to publish anew"
        ) from None
    return model
