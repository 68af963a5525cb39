"""Killed without warning, the pipeline comes back: the next run ends with the same results."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_main_job import versions

from conftest import RESULTS, Project
from convflow.lockfile import mend_lock

pytestmark = pytest.mark.slow

KILLS = 6  # of each stage
TRIES = 20  # at most; a stage that got through is taken back and runs again
LONGEST_S = {"scan": 0.8, "pack": 1.2, "train": 6.0, "publish": 7.0}
OUTS = {
    "scan": ["data/scan", ".convflow/scan"],
    "pack": ["data/packed"],
    "train": ["models", "reports/timing", ".convflow/live"],
    "publish": ["mlflow.db", "mlartifacts"],
}


def start(project: Project, stage: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["dvc", "repro", "-q", stage], cwd=project.folder, env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def processes_in(folder: Path) -> dict[int, list[str]]:
    """Command lines of all processes that work in `folder`, by their number."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(folder):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it ended while we looked, or is not ours
            continue
    return found


def kill_in(stage: str, project: Project, delay_s: float) -> bool:
    """Run up to `stage`, kill everything `delay_s` seconds into it; False if it ended before."""
    process = start(project, stage)

    def has_begun() -> bool:
        return any(["run", stage] == words[3:5] for words in processes_in(project.folder).values())

    while process.poll() is None and not has_begun():
        time.sleep(0.02)
    ends = time.monotonic() + delay_s
    while process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    cut_short = process.poll() is None
    for number in processes_in(project.folder):
        os.kill(number, signal.SIGKILL)
    assert process.wait() == 0 or cut_short, "failed by itself"
    return cut_short


def undo(project: Project, stage: str) -> None:
    """Take back a stage that got through, as if it had never run."""
    lock = project.folder / "dvc.lock"
    tree = yaml.safe_load(lock.read_text())
    tree["stages"].pop(stage, None)
    lock.write_text(yaml.safe_dump(tree))
    for name in [*OUTS[stage], ".dvc/cache/runs"]:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def kill_often(stage: str, project: Project, dice: random.Random, longest_s: float) -> int:
    """Kill `stage` up to KILLS times, sooner where the machine is faster; the number of kills."""
    killed = 0
    for _ in range(TRIES):
        if killed == KILLS:
            break
        if kill_in(stage, project, dice.uniform(0, longest_s)):
            killed += 1
            mend_lock(project.folder / "dvc.lock")
        else:
            undo(project, stage)
            longest_s *= 0.7
    return killed


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes to kill in /proc")
def test_more_than_twenty_kills_change_nothing(digits, project):
    project.repro("data/dvc.yaml:digits")
    project.init("data/raw/digits")
    dice = random.Random(0)
    for stage, longest_s in LONGEST_S.items():
        assert kill_often(stage, project, dice, longest_s) == KILLS, stage
    project.run("convflow", "repro")  # which mends a dvc.lock that was being written
    assert project.bytes_of(*RESULTS) == digits.bytes_of(*RESULTS)
    assert len(versions(project)) == 1
