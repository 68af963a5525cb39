"""`convflow gc` by a real process that is killed at any moment: no gap, and the next one completes it."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from convflow.registry.keeping import DAY_MS
from convflow.registry.ledger import KEY_TAG
from made_store import open_shop

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
GC = [sys.executable, "-m", "convflow", "gc"]
N = 12


def test_killed_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow itself sets it
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    shop = open_shop(root)
    for n in range(N):
        shop.candidate({"svm": n})
        shop.rival(n)
        shop.run("half", {KEY_TAG: "h"}, status="FAILED", start_ms=DAY_MS)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    rng = random.Random(int(os.environ.get("CONVFLOW_SEED", "1")))
    n_hit = 0
    for _ in range(int(os.environ.get("CONVFLOW_KILLS", "8"))):
        with subprocess.Popen(GC, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rng.randint(1, 6)):  # it is at work once it says so: then a moment more
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            n_hit += process.wait() == -signal.SIGKILL
        assert gaps(root) == []
    assert n_hit > 3
    done = subprocess.run(GC, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2] == f"kept: cells version {N} (of the last 1)"
    assert sorted(shop.client.get_run(path.name).info.run_name for path in folders(root)) == ["cnn", "svm"]
    assert len(list((root / "mlartifacts/models").iterdir())) == 1
    assert gaps(root) == []


def folders(root: Path) -> list[Path]:
    return [path for path in (root / "mlartifacts").iterdir() if path.name != "models"]


def gaps(root: Path) -> list[str]:
    """Runs and models in use whose files are not all there."""
    with closing(sqlite3.connect(root / "mlflow.db")) as link:
        runs = link.execute("SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        models = link.execute(
            "SELECT artifact_location FROM logged_models WHERE lifecycle_stage = 'active'"
        ).fetchall()
    places = [(place, "one.txt") for (place,) in runs] + [(place, "MLmodel") for (place,) in models]
    return [place for place, name in places if not Path(place.removeprefix("file://"), name).is_file()]
