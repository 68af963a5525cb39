"""`convflow gc`: remove from MLflow, and from .convflow, what nobody refers to any more."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convflow.errors import ParamsError
from convflow.files import dump_json
from convflow.params import load_section
from convflow.registry.choice import registered_name
from convflow.registry.door import open_door
from convflow.registry.folders import Removed, clear_leavings
from convflow.registry.keeping import Gc
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
    parser.add_argument("--keep", type=int, metavar="N", help="latest versions that stay (default: gc.keep)")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Remove what nobody refers to, and say what that frees.

    Raises:
        ParamsError: a number of versions that is none.
        TrackingError: a store that cannot be opened or asked, or a log of promotions that is not whole.
    """
    if args.keep is not None and args.keep < 1:
        raise ParamsError(f"--keep {args.keep}: give a number from 1 on")
    keep = args.keep or load_section(PARAMS, "gc", Gc).keep
    store = open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())
    name = registered_name(PARAMS)
    told = _Told(name, dry_run=args.dry_run, quiet=args.json)
    if store.database is not None and not store.database.is_file():
        told.hear_all(clear_leavings(store, None, dry_run=args.dry_run))
        keeps, left = {}, []
    else:
        sweeping = open_door("sweeping")
        wish = sweeping.Wish(name, keep, args.dry_run)
        keeps, left = sweeping.sweep(store, wish, told.hear)
    told.end(keeps, left, store)
    return 0


class _Told:
    """What is said: a line for each thing as it goes, or everything as JSON at the end."""

    def __init__(self, name: str, *, dry_run: bool, quiet: bool) -> None:
        self.name = name
        self._dry_run = dry_run
        self._quiet = quiet
        self._removed: list[Removed] = []

    def hear(self, one: Removed) -> None:
        """Say that this went, or would go."""
        self._removed.append(one)
        if not self._quiet:
            size = f", {_size(one.n_bytes)}" if one.n_bytes else ""
            print(f"{one.what}: {one.why}{size}", flush=True)

    def hear_all(self, removed: Iterator[Removed]) -> None:
        """The same of several."""
        for one in removed:
            self.hear(one)

    def end(self, keeps: dict[int, str], left: list[str], store: Store) -> None:
        """Say what stays, and the sum."""
        n_bytes = sum(one.n_bytes for one in self._removed)
        if self._quiet:
            said: dict[str, Any] = {"dry_run": self._dry_run, "left": left, "n_bytes": n_bytes}
            said["keeps"] = [{"version": number, "why": why} for number, why in keeps.items()]
            said["removes"] = [one._asdict() for one in self._removed]
            print(dump_json(said), end="")
            return
        for line in left:
            print(f"left: {line}")
        stay = ", ".join(f"{number} ({why})" for number, why in keeps.items())
        print(f"kept: {self.name} version {stay}" if stay else f"kept: no version of {self.name} is there")
        done, freed = ("would go", "") if self._dry_run else ("gone", " freed")
        print(f"gc: {len(self._removed)} things {done} from {store.shown}, {_size(n_bytes)}{freed}")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:,.1f} kB"
