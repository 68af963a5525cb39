"""What is registered, in a line for people: asked lightly, without MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convflow.errors import TrackingError
from convflow.files import read_json
from convflow.registry import rest
from convflow.registry.ledger import find_folder
from convflow.registry.store import Store


@dataclass(frozen=True)
class Registered:
    """The version an alias points to; `weights`: the digest on its card, None where only MLflow can tell."""

    name: str
    version: str
    alias: str
    weights: str | None


def find_registered(store: Store, name: str, alias: str) -> Registered | None:
    """The version of model `name` that `alias` points to.

    Raises:
        TrackingError: the store is a server that does not answer.
    """
    if store.is_server:
        number = rest.aliased(store.uri, name, alias)
        return Registered(name, number, alias, None) if number else None
    found = find_folder(store, name, alias=alias)
    return Registered(name, found[0], alias, _weights(found[1])) if found else None


def registered_line(store: Store, name: str, alias: str, cards: Mapping[str, Mapping[str, Any]]) -> str:
    """`registered: convflow version 3 (challenger), sqlite:///mlflow.db`, or that this is not so yet.

    `cards` are those of the models here: a version of other weights is not theirs.
    """
    try:
        found = find_registered(store, name, alias)
    except TrackingError:
        return f"registered: not known, no server answers at {store.shown}"
    if found is None:
        return "not registered yet; run `dvc repro`"
    line = f"{name} version {found.version} ({alias}), {store.shown}"
    here = {card["weights"]["sha256"] for card in cards.values() if "weights" in card}
    if here and found.weights is not None and found.weights not in here:
        return f"not registered yet; run `dvc repro` ({line} has other weights)"
    return f"registered: {line}"


def _weights(folder: Path) -> str | None:
    cards = sorted(folder.glob("artifacts/*/card.json"))
    return str(read_json(cards[0])["weights"]["sha256"]) if cards else None
