"""Open MLflow's store: make a new database whole or not at all, and find the experiment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from convflow.errors import TrackingError
from convflow.registry.store import Store, local_path

WAIT_S = 900.0
MOVED = " (artifacts were in "  # what the name of an experiment goes on with once its project lies elsewhere


@contextmanager
def only_one(store: Store, root: Path) -> Iterator[None]:
    """Hold the store's lock: of several processes that write at once, one does and the others wait.

    Raises:
        TrackingError: another process has held it for a quarter of an hour.
    """
    database = store.database
    lock = database.with_name(f".{database.name}.lock") if database else root / ".convflow" / "publish.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=WAIT_S):
            yield
    except Timeout:
        raise TrackingError(
            f"{lock}: held by another process for {WAIT_S:.0f} s; end that process and run `dvc repro`"
        ) from None


def connect(store: Store) -> MlflowClient:
    """A client for `store`; a SQLite database that does not exist yet is made. Call it under the lock.

    Raises:
        TrackingError: the store cannot be opened.
    """
    try:
        if store.database is not None and not store.database.exists():
            _create(store.database)
        client = MlflowClient(store.uri, registry_uri=store.uri)
        client.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise TrackingError(
            f"{store.shown}: cannot be opened ({text}); mend it, or move it away and run `dvc repro`, "
            "which writes its runs again from the files"
        ) from None
    return client


def experiment_id(client: MlflowClient, store: Store) -> str:
    """The id of the store's experiment, which is made, or brought back from the bin, where need be."""
    found = client.get_experiment_by_name(store.experiment)
    if found is not None and store.database is not None:
        place = local_path(found.artifact_location)
        if place is not None and place != store.artifacts and not place.is_dir():
            # The project has been moved. An experiment's place is fixed for life, so it gives up its name.
            client.rename_experiment(found.experiment_id, f"{store.experiment}{MOVED}{place})")
            found = None
    if found is None:
        return _create_experiment(client, store)
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _create_experiment(client: MlflowClient, store: Store) -> str:
    place = store.artifacts.as_uri() if store.database is not None else None
    try:
        return str(client.create_experiment(store.experiment, artifact_location=place))
    except MlflowException:
        # Another process may have made it in between; if not, this raises what is really wrong.
        found = client.search_experiments(
            view_type=ViewType.ACTIVE_ONLY, filter_string=f"name = '{store.experiment}'"
        )
        if not found:
            raise
        return str(found[0].experiment_id)


def _create(database: Path) -> None:
    """Make a new database aside and give it its name when it is complete.

    MLflow builds it in some 60 steps; a second process that joins in, or a kill, leaves one that no
    version of MLflow can open.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    for stale in database.parent.glob(f".{database.name}.*.partial*"):
        stale.unlink(missing_ok=True)
    partial = database.with_name(f".{database.name}.{os.getpid()}.partial")
    uri = f"sqlite:///{partial}"
    with _hasty():
        MlflowClient(uri, registry_uri=uri).search_experiments(max_results=1)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    if not database.exists():  # a server started meanwhile may have made one
        os.replace(partial, database)
    partial.unlink(missing_ok=True)


@contextmanager
def _hasty() -> Iterator[None]:
    """New SQLite connections do not wait for the disk after each step: only for a file without a name yet."""

    def hurry(link: Any, _: object) -> None:
        link.execute("PRAGMA synchronous = OFF")
        link.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", hurry)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hurry)
