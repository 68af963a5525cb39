"""The fresh process that loads a logged model and answers images whose answers are known.

This module imports nothing heavy: the process is started first thing, so that its imports and ours go on at
the same time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from convflow.errors import TrackingError
from convflow.registry.scratch import scratch_folder
from convflow.registry.store import Store

if TYPE_CHECKING:
    from convflow.registry.known import Known

_WAIT_S = 600
_TOOLS = ("mlflow", "numpy", "pandas")
_SQL = "mlflow.store.tracking.sqlalchemy_store"
_SCRIPT = Path(__file__).with_name("proof.py")


class Proof:
    """A stranger to this process and to this checkout; gone when the `with` block ends, however it ends."""

    def __init__(self, store: Store, modules: Sequence[str]) -> None:
        """Nothing is started yet; `modules`, none of ours, are what the model will load."""
        self._store_uri = store.uri
        self._modules = [*_TOOLS, *modules, *([] if store.is_server else [_SQL])]
        self._folder = scratch_folder(Path.cwd())

    def __enter__(self) -> "Proof":
        return self

    def __exit__(self, *exception: object) -> None:
        if "_process" in vars(self):
            with self._process:
                self._process.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start the process, unless it runs: it imports the modules and waits to be asked."""
        _ = self._process

    def ask(self, model_uri: str, known: "Known") -> None:
        """Tell the process where the model is and what to ask it; it answers while we go on."""
        known.write_questions(self._at("asked.npz"))
        asked = {
            "store": self._store_uri,
            "model": model_uri,
            "questions": str(self._at("asked.npz")),
            "answers": str(self._at("answers.npz")),
        }
        # It may have ended already, of an error; `check` tells which.
        with suppress(BrokenPipeError), cast("IO[bytes]", self._process.stdin) as line:
            line.write(json.dumps(asked).encode() + b"\n")

    def check(self, model_uri: str, known: "Known", tolerance: float) -> float:
        """Wait for the answers and compare; returns the largest difference.

        Raises:
            TrackingError: the model cannot be loaded, uses code from elsewhere, or answers otherwise.
        """
        try:
            status = self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            raise TrackingError(
                f"{model_uri}: the logged model gave no answer in {_WAIT_S} s; no version was "
                "registered; run `dvc repro` again on a less busy machine, or lower publish.check_images"
            ) from None
        if status:
            said = self._at("errors").read_text(encoding="utf-8", errors="replace")
            last = said.strip().splitlines()[-1:] or ["no message"]
            raise TrackingError(
                f"{model_uri}: the logged model cannot be loaded and asked ({last[0][:300]}); "
                "no version was registered"
            )
        return known.compare(self._at("answers.npz"), model_uri, tolerance)

    def load_s(self) -> float:
        """Seconds of processor time that imports and loading took, once `check` has come back."""
        import numpy as np  # here, not above: the module imports nothing heavy

        with np.load(self._at("answers.npz")) as found:
            return float(found["load_s"])

    @cached_property
    def _process(self) -> "subprocess.Popen[bytes]":
        # Without PYTHONPATH and in a folder of its own, so that nothing of this checkout helps it along.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self._at("errors").open("wb") as errors:  # a pipe could fill up while nobody reads
            return subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT), *self._modules],
                cwd=self._folder.name,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )

    def _at(self, name: str) -> Path:
        return Path(self._folder.name, name)
