"""Remove from a store what nobody refers to: first from the database, then from the disk.

Killed at any moment, no version, run or model in the database lacks files that were there before; the next
sweep finds what is left: a version's runs without their version, runs in the bin, folders without a run.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from convflow.errors import TrackingError
from convflow.registry import folders, rest
from convflow.registry.acts import Acts
from convflow.registry.folders import Removed
from convflow.registry.inventory import Inventory
from convflow.registry.keeping import (
    Logged,
    Run,
    Version,
    keep_versions,
    marks,
    unneeded_models,
    unneeded_runs,
)
from convflow.registry.ledger import known_ids
from convflow.registry.opening import connect, only_one
from convflow.registry.promotion_log import champions
from convflow.registry.store import Store, local_path


class Wish(NamedTuple):
    """What is asked for: how many versions of `name` stay, besides champions and those with an alias."""

    name: str
    keep: int
    dry_run: bool


class Report(NamedTuple):
    """Why each version that stays does so, and what is left for others to remove."""

    keeps: dict[int, str]
    left: list[str]


def sweep(store: Store, wish: Wish, tell: Callable[[Removed], None]) -> Report:
    """Remove what nobody refers to and `tell` of each thing; a dry run tells the same and changes nothing.

    Raises:
        TrackingError: the store cannot be opened or asked, an alias has been moved meanwhile, or the log of
            promotions is not whole.
    """
    if store.is_server:
        rest.find(store.uri, "-", ("-", "-"), "-")  # raises at once when nothing answers
    with only_one(store, Path.cwd()):
        try:
            broom = _Broom(connect(store), store, wish)
            for removed in broom.sweep():
                tell(removed)
        except MlflowException as error:
            text = " ".join(str(error).split())[:300]
            raise TrackingError(f"{store.shown}: {text}; run `convflow gc` again") from error
    return Report(broom.keeps, broom.left())


class _Broom:
    """One sweep; it holds the store's lock while it lives."""

    def __init__(self, client: MlflowClient, store: Store, wish: Wish) -> None:
        self._client = client
        self._store = store
        self._wish = wish
        self._behind: Any = client._tracking_client.store
        self._is_final = not store.is_server
        self._there = Inventory(client, store)
        self._strays = [] if store.database is None else folders.stray_folders(store.artifacts)
        # In this order: what is made meanwhile on a server has its run before its version, a folder last.
        self._runs = self._there.runs()
        self._versions = self._there.versions()
        mine = [one for one in self._versions if one.name == wish.name]
        log = Acts(client, store, wish.name).entries() if mine else []
        self.keeps = keep_versions(mine, marks(champions(log, wish.name)), wish.keep)
        self._go = [one for one in mine if one.number not in self.keeps]
        self._stay = [one for one in self._versions if one not in self._go]
        self._elsewhere: list[str] = []
        self._binned = 0

    def sweep(self) -> Iterator[Removed]:
        """Remove one thing after the other."""
        ids = known_ids(self._store)
        figures = self._there.figures(self._runs, self._stay)
        runs = unneeded_runs(self._runs, self._stay, self._go, figures, int(time.time() * 1000))
        names = [run.run_id for run, _ in runs]
        models = unneeded_models(self._there.models(), names, self._stay, ids and ids[0])
        yield from map(self._version, sorted(self._go, key=lambda one: one.number))
        for model, why in models:
            yield from self._model(model, why)
        for run, why in runs:
            yield from self._run(run, why)
        if ids is not None:
            yield from self._folders(ids[0] | ids[1])
        yield from self._leavings()

    def left(self) -> list[str]:
        """What could not be removed from here."""
        if not self._binned:
            return self._elsewhere
        how = f"`mlflow gc --backend-store-uri ITS_DATABASE --tracking-uri {self._store.shown}`"
        return [*self._elsewhere, f"{self._binned} in the server's bin, until it runs {how}"]

    def _version(self, one: Version) -> Removed:
        if not self._wish.dry_run:
            with _gone_is_fine():
                found = self._client.get_model_version(one.name, str(one.number))
                if found.aliases:  # on a server others go on; deleted, the version would take them along
                    raise TrackingError(
                        f"{one.name} version {one.number} is {', '.join(found.aliases)} since a moment ago; "
                        "run `convflow gc` again"
                    )
                self._client.delete_model_version(one.name, str(one.number))
        return Removed(f"version {one.number} of {one.name}", "old", 0)

    def _model(self, model: Logged, why: str) -> Iterator[Removed]:
        folder = self._folder(model.place, model.model_id)
        n_bytes = self._size(folder, lambda: self._there.n_bytes_of_model(model))
        if not self._wish.dry_run:
            with _gone_is_fine():
                if model.active:
                    self._client.delete_logged_model(model.model_id)
                if self._is_final:
                    self._behind._hard_delete_logged_model(model.model_id)
            if folder is not None:
                folders.remove(folder)
        self._binned += not self._is_final
        yield Removed(f"logged model {model.model_id[:10]}", why, n_bytes)

    def _run(self, run: Run, why: str) -> Iterator[Removed]:
        self._binned += not self._is_final
        if not self._is_final and not run.active:
            return
        folder = self._folder(run.place, run.run_id)
        n_bytes = self._size(folder, lambda: self._there.n_bytes_of_run(run))
        if not self._wish.dry_run:
            with _gone_is_fine():
                if run.active:
                    self._client.delete_run(run.run_id)
                if self._is_final:
                    self._behind._hard_delete_run(run.run_id)
            if folder is not None:
                folders.remove(folder)
        yield Removed(f"run {run.name} {run.run_id[:8]}", why, n_bytes)

    def _folders(self, known: frozenset[str]) -> Iterator[Removed]:
        """Folders of runs and models that the database does not know; what has just gone is known still."""
        for folder in self._strays:
            if folder.name not in known:
                yield folders.clear(folder, "not in the database", dry_run=self._wish.dry_run)

    def _leavings(self) -> Iterator[Removed]:
        there = {(one.name, str(one.number)) for one in self._stay}
        # With a database here the models lie here, too: downloads are those of a server used at other times.
        exists = (lambda name, number: (name, number) in there) if self._store.is_server else None
        return folders.clear_leavings(self._store, exists, dry_run=self._wish.dry_run)

    def _folder(self, place: str, name: str) -> Path | None:
        """The folder to remove with a run or model; what lies elsewhere is told of and left."""
        if self._store.is_server:
            return None
        folder = folders.own_folder(self._store.artifacts, place, name)
        path = local_path(place)
        if folder is None and (path is None or os.path.lexists(path)):
            home = folders.shown(self._store.artifacts)
            self._elsewhere.append(f"{place}: not a folder of its own in {home}")
        return folder

    def _size(self, folder: Path | None, ask: Callable[[], int]) -> int:
        """The bytes of a folder here, or what the server says; 0 for what is left where it is."""
        if self._store.is_server:
            return ask()
        return folders.n_bytes_of(folder) if folder is not None else 0


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Let it pass that another process has removed the thing meanwhile."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
