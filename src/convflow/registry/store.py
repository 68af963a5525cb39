"""Where MLflow's store is, found out without importing MLflow."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from convflow.errors import TrackingError
from convflow.params import Section

_SQLITE = "sqlite:///"


class Tracking(Section):
    """The section `tracking` of params.yaml."""

    uri: str  # sqlite:///FILE, http(s)://SERVER or another address MLflow knows
    artifacts: str  # folder for artifacts, used with sqlite only; a server has its own
    experiment: str
    live: bool  # show a training while it runs


@dataclass(frozen=True)
class Store:
    """One MLflow store: its address (sqlite paths absolute), experiment and local artifact folder."""

    uri: str
    experiment: str
    artifacts: Path

    @property
    def database(self) -> Path | None:
        """The SQLite file, or None for every other kind of store."""
        return Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None

    @property
    def is_server(self) -> bool:
        """Whether the store is reached by HTTP."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def shown(self) -> str:
        """The address for messages: never with a password, short where it lies in the folder we run in."""
        if self.database is not None and self.database.is_relative_to(Path.cwd()):
            return _SQLITE + str(self.database.relative_to(Path.cwd()))
        return redact(self.uri)


def open_store(tracking: Tracking, root: Path, environ: Mapping[str, str] = os.environ) -> Store:
    """The store of the project at `root`; `MLFLOW_TRACKING_URI` wins over `tracking.uri`.

    Raises:
        TrackingError: an address that is a folder or file; MLflow's file store is no longer kept up.
    """
    uri = environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    if uri.startswith(_SQLITE):
        uri = _SQLITE + str((root / uri.removeprefix(_SQLITE)).resolve())
    elif uri.startswith("file:") or ":" not in uri:
        raise TrackingError(
            f"tracking.uri {redact(uri)!r} is a folder, which MLflow no longer writes to; "
            "use sqlite:///mlflow.db or the address of a server (MLFLOW_TRACKING_URI wins over params.yaml)"
        )
    return Store(uri, tracking.experiment, (root / tracking.artifacts).resolve())


def redact(text: str) -> str:
    """`text` with user names, passwords and tokens in addresses replaced by `***`."""
    return re.sub(r"(\b[a-zA-Z][\w+.\-]*://)[^/\s@'\"]+@", r"\1***@", text)


def local_path(uri: str) -> Path | None:
    """The path a `file:` address or plain path names; None when it lies elsewhere."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(uri) if parts.scheme == "" else None
