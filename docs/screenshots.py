"""Take the pictures in docs/images/: MLflow's pages on a project, as headless Chromium shows them.

    python docs/registry.py --keep /tmp/demo      # the project of the transcript stays there
    python docs/screenshots.py /tmp/demo

Chromium is driven by its debugging protocol: the pages fill themselves after they are loaded, and which
columns a table shows, MLflow keeps in the browser.
"""

import argparse
import base64
import io
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import ClientConnection, connect

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = (1400, 860)
MOST_BYTES = 150_000
WAIT_S = 120.0
_MIDDLE = (
    "[...document.querySelectorAll('*')].find(one => !one.children.length && one.textContent.trim() == %s)"
)
_MIDDLE += "?.scrollIntoView({block: 'center'})"
_COLUMNS = [
    "metrics.`test/accuracy/value`",
    "metrics.`test/brier/value`",
    "metrics.`test/ece/value`",
    "params.`train.epochs`",
    "params.`train.lr`",
    "tags.`convflow.verdict`",
]


def main() -> None:
    """Start `convflow ui` on the project, and take each picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", type=Path, help="a project with published versions and a champion")
    project = parser.parse_args().project
    with closing(sqlite3.connect(project / "mlflow.db")) as link:
        ((number, run_id),) = link.execute(
            "SELECT version, run_id FROM model_versions JOIN registered_model_aliases USING (name, version) "
            "WHERE alias = 'champion'"
        ).fetchall()
    with ui(project) as address, chromium() as link:
        page = Page(link)
        page.prepare()
        page.take("runs", f"{address}/#/experiments/1/runs", "majority")
        curves = f"{address}/#/experiments/1/runs/{run_id}/model-metrics"
        page.take("curves", curves, "Add chart", typed="^(train|val)_")
        page.take("version", f"{address}/#/models/convflow/versions/{number}", "convflow.verdict")


class Page:
    """One tab."""

    def __init__(self, link: ClientConnection) -> None:
        self._link = link
        self._asked = 0

    def prepare(self) -> None:
        """Give it its size, and tell MLflow what this browser has chosen before."""
        width, height = SIZE
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        seen = {
            "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
            "mlflow.assistant.panelOpen_v1": "false",
            'MLflowLocalStorage-1.1-ExperimentPage-["1"]-ReactComponentState': json.dumps({
                "searchFilter": "", "orderByKey": "attributes.start_time", "orderByAsc": False,
                "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
                "modelVersionFilter": "All Runs", "selectedColumns": _COLUMNS, "columnOrder": [],
                "columnWidths": {}, "runsExpanded": {}, "runsPinned": [], "runsHidden": [],
                "runsVisibilityMap": {}, "runsHiddenMode": "FIRST_10_RUNS", "groupBy": None,
            }),
        }  # fmt: skip
        source = "".join(f"localStorage.setItem({json.dumps(k)}, {json.dumps(v)});" for k, v in seen.items())
        # The tools that a chart shows where the mouse is would cover its upper edge.
        source += "addEventListener('load', () => document.head.append(Object.assign(document.createElement("
        source += "'style'), {textContent: '.modebar {display: none !important}'})));"
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=f"try {{ {source} }} catch (e) {{}}")

    def take(self, name: str, address: str, awaited: str, typed: str = "") -> None:
        """Save the page as docs/images/NAME.png once it shows `awaited` and changes no more.

        `typed` goes into its search box; without one, `awaited` is brought into the middle.
        """
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)
        _until(lambda: awaited in self._text(), f"{address} does not show {awaited!r}")
        if typed:
            self._ask("document.querySelector('main input, input[type=search], input').focus()")
            self._call("Input.insertText", text=typed)
            time.sleep(5)
        else:
            self._ask(_MIDDLE % json.dumps(awaited))
        before, now = b"", self._shot()
        while before != now:
            time.sleep(3)
            before, now = now, self._shot()
        save(IMAGES / f"{name}.png", now)

    def _text(self) -> str:
        return str(self._ask("document.body.innerText"))

    def _ask(self, script: str) -> Any:
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def _shot(self) -> bytes:
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **params: Any) -> Any:
        self._asked += 1
        self._link.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            told = json.loads(self._link.recv(timeout=WAIT_S))
            if told.get("id") == self._asked:
                return told["result"]


def save(path: Path, png: bytes) -> None:
    """Write a PNG of few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(255, dither=Image.Dither.NONE)
    path.parent.mkdir(exist_ok=True)
    image.save(path, optimize=True)
    n_bytes = path.stat().st_size
    print(f"{path}: {image.width} x {image.height}, {n_bytes:,} bytes")
    if n_bytes > MOST_BYTES:
        sys.exit(
            f"docs/screenshots.py: {path}: {n_bytes:,} bytes; at most {MOST_BYTES:,} go into the repository"
        )


@contextmanager
def ui(project: Path) -> Iterator[str]:
    """The address of a running `convflow ui`."""
    port = _free_port()
    command = [sys.executable, "-m", "convflow", "ui", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _until(lambda: _answers(f"http://127.0.0.1:{port}/health"), "convflow ui does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[ClientConnection]:
    """A line to the one tab of a headless Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("docs/screenshots.py: no chromium on PATH; install it")
    port = _free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "about:blank"]
        places = [f"--user-data-dir={profile}", f"--remote-debugging-port={port}"]
        with subprocess.Popen([program, *options, *places], stderr=subprocess.DEVNULL) as process:
            try:
                _until(lambda: _answers(f"http://127.0.0.1:{port}/json"), "chromium does not answer")
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                    tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
                with connect(tabs[0]["webSocketDebuggerUrl"], max_size=None) as link:
                    yield link
            finally:
                process.terminate()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()  # noqa: S310  of this machine
    except OSError:
        return False
    return True


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"docs/screenshots.py: {otherwise} within {WAIT_S:.0f} s")
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
