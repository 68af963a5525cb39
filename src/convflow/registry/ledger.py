"""Has this key been published? Asked with the standard library alone, because MLflow costs seconds to import.

Any doubt (another database layout, a locked file, a missing folder) is answered with None: not known to
be published. The slow way (`publisher`) then looks properly.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from convflow.registry import rest
from convflow.registry.store import Store, local_path

KEY_TAG, LIVE_TAG = "convflow.key", "convflow.live"

_PUBLISHED = """
SELECT runs.run_uuid, versions.version, runs.artifact_uri, versions.storage_location, aliases.alias
FROM tags
JOIN runs ON runs.run_uuid = tags.run_uuid
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN model_versions AS versions ON versions.run_id = runs.run_uuid
LEFT JOIN registered_model_aliases AS aliases
  ON aliases.name = versions.name AND aliases.version = versions.version AND aliases.alias = ?
WHERE tags.key = ? AND tags.value = ? AND experiments.name = ? AND versions.name = ?
  AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
  AND experiments.lifecycle_stage = 'active' AND versions.status = 'READY'
  AND versions.current_stage <> 'Deleted_Internal'
"""
_ALIASED = """
SELECT versions.version, versions.storage_location
FROM registered_model_aliases AS aliases
JOIN model_versions AS versions
  ON versions.name = aliases.name AND versions.version = aliases.version
WHERE aliases.name = ? AND aliases.alias = ? AND versions.current_stage <> 'Deleted_Internal'
"""
_TAGS = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
_RUN = """
SELECT runs.artifact_uri
FROM tags
JOIN runs ON runs.run_uuid = tags.run_uuid
JOIN experiments ON experiments.experiment_id = runs.experiment_id
WHERE tags.key = ? AND tags.value = ? AND experiments.name = ?
  AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
  AND experiments.lifecycle_stage = 'active'
"""
_NUMBERED = """
SELECT version, storage_location FROM model_versions
WHERE name = ? AND version = ? AND current_stage <> 'Deleted_Internal'
"""


@dataclass(frozen=True)
class Published:
    """A finished run, the model version registered from it, and whether the alias asked for points there."""

    run_id: str
    version: str
    has_alias: bool
    tags: Mapping[str, str]  # of the version


def find_published(store: Store, key: str, name: str, alias: str) -> Published | None:
    """The run and the version of model `name` made from `key`; None when that is not certain.

    Raises:
        TrackingError: the store is a server that does not answer.
    """
    if store.is_server:
        found = rest.find(store.uri, store.experiment, (KEY_TAG, key), name)
        if found is None:
            return None
        has_alias = rest.aliased(store.uri, name, alias) == found.version
        return Published(found.run_id, found.version, has_alias, found.tags)
    rows = _ask(store.database, _PUBLISHED, (alias, KEY_TAG, key, store.experiment, name))
    if rows is None or len(rows) != 1:  # more than one is a matter for the slow way, too
        return None
    run_id, version, artifacts, model, held = rows[0]
    if not (_is_there(artifacts, "") and _is_there(model, "MLmodel")):
        return None
    tags = _ask(store.database, _TAGS, (name, str(version))) or []
    said = {str(key): str(value) for key, value in tags}
    return Published(str(run_id), str(version), held is not None, said)


def is_logged(store: Store, key: str) -> bool:
    """Whether one finished run made from `key` is there with its files; False when that is not certain.

    Raises:
        TrackingError: the store is a server that does not answer.
    """
    if store.is_server:
        return rest.find_run(store.uri, store.experiment, (KEY_TAG, key)) is not None
    rows = _ask(store.database, _RUN, (KEY_TAG, key, store.experiment))
    return rows is not None and len(rows) == 1 and _is_there(rows[0][0], "")


def find_folder(store: Store, name: str, *, alias: str = "", version: str = "") -> tuple[str, Path] | None:
    """The version and local folder of a registered model; None when only MLflow itself can tell."""
    query, wanted = (_ALIASED, alias) if alias else (_NUMBERED, version)
    rows = _ask(store.database, query, (name, wanted))
    if not rows:
        return None
    number, place = rows[0]
    folder = local_path(str(place or ""))
    if folder is None or not (folder / "MLmodel").is_file():
        return None
    return str(number), folder


def known_ids(store: Store) -> tuple[frozenset[str], frozenset[str]] | None:
    """All runs and logged models in the database, those in its bin, too; None when that is not certain."""
    runs = _ask(store.database, "SELECT run_uuid FROM runs", ())
    models = _ask(store.database, "SELECT model_id FROM logged_models", ())
    if runs is None or models is None:
        return None
    return frozenset(str(row[0]) for row in runs), frozenset(str(row[0]) for row in models)


def _ask(database: Path | None, query: str, values: tuple[str, ...]) -> list[tuple[object, ...]] | None:
    if database is None or not database.is_file():
        return None
    try:
        # Read only: asking must never create, migrate or lock the store.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=2)) as link:
            return link.execute(query, values).fetchall()
    except sqlite3.Error:
        return None


def _is_there(uri: object, marker: str) -> bool:
    if not isinstance(uri, str) or not uri:
        return False
    folder = local_path(uri)
    if folder is None:  # object storage: a look would cost more than it is worth here
        return True
    return (folder / marker).is_file() if marker else folder.is_dir() and any(folder.iterdir())
