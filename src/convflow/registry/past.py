"""Every version of the registered model: what was said of it, when it became champion, by whom and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.registry import rest
from convflow.registry.acts import HEAD, PROMOTION
from convflow.registry.promotion_log import LOG, Entry, check_head, read_log
from convflow.registry.store import Store
from convflow.registry.verdict import VERDICT_TAG


@dataclass(frozen=True)
class Past:
    """The versions, oldest first, in JSON values; the acts of the log, and what is wrong with it, or None."""

    versions: list[dict[str, Any]]
    acts: list[Entry]
    fault: str | None


def look_back(store: Store, name: str) -> Past:
    """Read the registry and the log; nothing is written.

    Raises:
        TrackingError: no store, or no such model in it.
    """
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{store.shown}: nothing is there yet; run `convflow repro` to publish a version")
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    client = MlflowClient(store.uri, registry_uri=store.uri)
    try:
        model = client.get_registered_model(name)
        found = client.search_model_versions(f"name = '{name}'")
        acts, fault = _acts(dict(model.tags).get(HEAD))
        acts = [act for act in acts if act.model == name]
        aliases: dict[str, list[str]] = {}
        for alias, number in model.aliases.items():
            aliases.setdefault(str(number), []).append(alias)
        ordered = sorted(found, key=lambda one: int(one.version))
        rows = [_row(client, one, sorted(aliases.get(str(one.version), [])), acts) for one in ordered]
    except MlflowException as error:
        text = " ".join(str(error).split())[:200]
        raise TrackingError(
            f"{name}: not to be had from {store.shown} ({text}); run `convflow repro`"
        ) from None
    return Past(rows, acts, fault)


def _acts(head: str | None) -> tuple[list[Entry], str | None]:
    try:
        entries = read_log(LOG)
        check_head(LOG, entries, head)
    except TrackingError as error:
        return [], str(error)
    return entries, None


def _row(client: MlflowClient, version: Any, aliases: list[str], acts: Sequence[Entry]) -> dict[str, Any]:
    tags = dict(version.tags)
    try:
        figures = client.get_run(version.run_id).data.metrics
    except MlflowException:  # its run has been deleted
        figures = {}
    number = str(version.version)
    registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return {
        "accuracy": {end: figures.get(f"test/accuracy/{end}") for end in ("value", "low", "high")},
        "acts": [
            {name: getattr(act, name) for name in ("action", "at", "by", "forced", "reason", "previous")}
            for act in acts
            if act.version == number
        ],
        "aliases": aliases,
        "last_decision": {
            part or "word": tags.get(f"{PROMOTION}{part and '.'}{part}")
            for part in ("", "at", "by", "sentence", "decision")
        }
        if PROMOTION in tags
        else None,
        "model": tags.get("convflow.model"),
        "registered_at": registered.isoformat(timespec="seconds"),
        "verdict": tags.get(VERDICT_TAG),
        "version": number,
    }
