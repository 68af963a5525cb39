"""How much of `dvc repro`'s wall time is not the work itself: imports, process starts, hashing, caching.

    python benchmarks/overhead.py            in a copy of the project, nothing cached; at most 25 % on ELPV

publish counts as no work at all: it is logging. In scan and pack the start of their worker processes counts
as work. DVC starts each stage as `python -m convflow run STAGE ...`; here a `python` put first on PATH notes
when the process started, how long the stage's own function took, and when the process was done. What is left
of the wall time of `dvc repro` is DVC's: hashing, copying to the cache, writing dvc.lock.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
# The imports are paid before `run` is called; the guard is for the worker processes a stage starts.
STOPWATCH = """
import functools, importlib, json, os, sys, time
from pathlib import Path

def main():
    from convflow import __main__ as convflow
    from convflow.environment import quiet_tools
    quiet_tools(Path.cwd())
    stage, paths = sys.argv[4], sys.argv[5:]
    models = [Path(path).name for path in paths if path.startswith("models/") and stage != "publish"]
    module = importlib.import_module(f"convflow.stages.{stage}")
    run = module.run

    @functools.wraps(run)
    def timed(*args, **kwargs):
        begun = time.time()
        run(*args, **kwargs)
        started = float(os.environ["STOPWATCH_STARTED"])
        worked = 0 if stage == "publish" else time.time() - begun
        line = {"stage": " ".join([stage, *models]), "started": started, "work": worked}
        with open(os.environ["STOPWATCH_LOG"], "a") as log:
            log.write(json.dumps(line) + "\\n")

    module.run = timed
    sys.argv = ["convflow", *sys.argv[3:]]
    return convflow.main()

if __name__ == "__main__":
    sys.exit(main())
"""


def shim(folder: Path, log: Path) -> None:
    """A `python` that runs stages under the stopwatch and notes when their process ended."""
    (folder / "stopwatch.py").write_text(STOPWATCH)
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        f"export STOPWATCH_LOG={log} STOPWATCH_STARTED=$(date +%s.%N)\n"
        f'"{sys.executable}" "{folder}/stopwatch.py" "$@"\n'
        "status=$?\n"
        f'echo "{{\\"ended\\": $(date +%s.%N)}}" >> {log}\n'
        "exit $status\n"
    )
    python.chmod(0o755)


def copy_project(folder: Path) -> None:
    """The tracked files as they are now, in a git repository and an empty cache of their own."""
    names = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in names.splitlines():
        if Path(name).name != "dvc.lock" and (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)


def main() -> None:
    """Run the pipeline once and print a row per stage."""
    with tempfile.TemporaryDirectory() as name:
        folder, tools = Path(name) / "project", Path(name) / "tools"
        folder.mkdir(), tools.mkdir()
        copy_project(folder)
        log = Path(name) / "log.jsonl"
        shim(tools, log)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        started = time.time()
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "-q"],
            cwd=folder,
            env=os.environ | {"PATH": path},
            check=True,
        )
        total = time.time() - started
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    stages = [begun | ended for begun, ended in zip(lines[::2], lines[1::2], strict=True)]
    report(stages, total)


def report(stages: list[dict[str, Any]], total: float) -> None:
    """Print what each stage spent on its work and on its start, and what DVC took; a row for each model."""
    print(f"{'stage':<20}{'seconds':>9}{'work':>9}{'start, imports':>16}{'not work':>10}")
    for stage in stages:
        seconds = stage["ended"] - stage["started"]
        rest = seconds - stage["work"]
        print(f"{stage['stage']:<20}{seconds:>9.1f}{stage['work']:>9.1f}{rest:>16.1f}{rest / seconds:>10.0%}")
    in_stages = sum(stage["ended"] - stage["started"] for stage in stages)
    work = sum(stage["work"] for stage in stages)
    print(f"{'dvc itself':<20}{total - in_stages:>9.1f}{0:>9.1f}{total - in_stages:>16.1f}{1:>10.0%}")
    print(
        f"{'all':<20}{total:>9.1f}{work:>9.1f}{total - work:>16.1f}{1 - work / total:>10.0%}  (at most 25 %)"
    )


if __name__ == "__main__":
    main()
