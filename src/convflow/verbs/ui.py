"""`convflow ui`: browse runs and models in MLflow."""

import argparse
import os
from pathlib import Path

from convflow.environment import own_tools_first, quiet_tools
from convflow.errors import ParamsError, TrackingError
from convflow.params import load_section
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--port", type=int, default=5000, help="of this machine (default: 5000)")


def run(args: argparse.Namespace) -> int:
    """Become MLflow's server on the project's store; a store that is a server already is only named.

    Raises:
        ParamsError: a port that is none.
        TrackingError: nothing has been published yet.
    """
    if not 0 < args.port < 65536:
        raise ParamsError(f"--port {args.port}: give a number from 1 to 65535")
    store = open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())
    if store.is_server:
        print(f"MLflow: {store.shown}")
        return 0
    if store.database is not None and not store.database.is_file():
        raise TrackingError(f"{store.shown}: nothing is there yet; run `dvc repro` (or `make repro`) first")
    _become(store, args.port)
    return 0


def _become(store: Store, port: int) -> None:
    quiet_tools(Path.cwd())
    own_tools_first()
    place = ["--backend-store-uri", store.uri, "--artifacts-destination", str(store.artifacts)]
    command = ["mlflow", "server", *place, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    print(f"MLflow: http://127.0.0.1:{port} shows {store.shown}; Ctrl-C ends it", flush=True)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        raise ParamsError(f"mlflow: {error.strerror}; run `make setup` to build the environment") from None
