"""The few questions to an MLflow server that must be quick: plain HTTP, no MLflow."""

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from convflow.errors import TrackingError
from convflow.registry.store import redact

WAIT_S = 5.0
_API = "/api/2.0/mlflow/"
T = TypeVar("T")


class Found(NamedTuple):
    """A finished run and the version registered from it, with the version's tags."""

    run_id: str
    version: str
    tags: dict[str, str]


def find(uri: str, experiment: str, tag: tuple[str, str], name: str) -> Found | None:
    """The version of model `name` from the finished run in `experiment` that bears `tag`.

    None when there is none, when its artifacts are gone, or when the server's answer is not understood.

    Raises:
        TrackingError: nothing answers at `uri`.
    """
    return _guarded(uri, lambda: _find(uri, experiment, tag, name))


def find_run(uri: str, experiment: str, tag: tuple[str, str]) -> str | None:
    """The id of the one finished run in `experiment` that bears `tag` and has its artifacts; else None.

    Raises:
        TrackingError: nothing answers at `uri`.
    """
    return _guarded(uri, lambda: _find_run(uri, experiment, tag))


def aliased(uri: str, name: str, alias: str) -> str | None:
    """The version of model `name` that `alias` points to; None when there is none.

    Raises:
        TrackingError: nothing answers at `uri`.
    """
    asked = {"name": name, "alias": alias}
    return _guarded(
        uri, lambda: str(_call(uri, "registered-models/alias", asked)["model_version"]["version"])
    )


def _guarded(uri: str, ask: Callable[[], T | None]) -> T | None:
    try:
        return ask()
    except urllib.error.HTTPError:
        return None  # 404: no such experiment or model; else MLflow's own client will say what is wrong
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"{redact(uri)}: no MLflow server answers ({reason}); start it, or set MLFLOW_TRACKING_URI "
            "or tracking.uri to one that runs"
        ) from None
    except (http.client.HTTPException, ValueError, KeyError, TypeError, IndexError):
        return None


def _find(uri: str, experiment: str, tag: tuple[str, str], name: str) -> Found | None:
    run_id = _find_run(uri, experiment, tag)
    if run_id is None:
        return None
    asked = {"filter": f"name = '{name}' and run_id = '{run_id}'"}
    versions = _call(uri, "model-versions/search", asked).get("model_versions", [])
    if len(versions) != 1:
        return None
    tags = {str(one["key"]): str(one.get("value", "")) for one in versions[0].get("tags", [])}
    return Found(run_id, str(versions[0]["version"]), tags)


def _find_run(uri: str, experiment: str, tag: tuple[str, str]) -> str | None:
    found = _call(uri, "experiments/get-by-name", {"experiment_name": experiment})
    if found["experiment"]["lifecycle_stage"] != "active":
        return None
    wanted = {
        "experiment_ids": [found["experiment"]["experiment_id"]],
        "filter": f"tags.`{tag[0]}` = '{tag[1]}' and attributes.status = 'FINISHED'",
    }
    runs = _call(uri, "runs/search", body=wanted).get("runs", [])
    if len(runs) != 1:
        return None
    run_id: str = runs[0]["info"]["run_id"]
    return run_id if _call(uri, "artifacts/list", {"run_id": run_id}).get("files") else None


def _call(
    uri: str, method: str, query: dict[str, str] | None = None, body: dict[str, Any] | None = None
) -> Any:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.rstrip("/") + _API + method
    url = urlunsplit((parts.scheme, host, path, urlencode(query or {}), ""))
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(  # noqa: S310  http(s) only, see Store
        url, data=data, headers=_headers(parts.username, parts.password)
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310
        return json.load(answer)


def _headers(user: str | None, password: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    user = unquote(user) if user else os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(password) if password else os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    elif token:
        headers["Authorization"] = f"Bearer {token}"
    return headers
