"""Write the transcript in docs/registry.md: the registry's verbs, run on the digits.

    python docs/registry.py             # writes the page anew: some 5 minutes on 2 cores
    python docs/registry.py --print     # prints the transcript, and leaves the page alone

The project is copied, so nothing here is changed. What differs from run to run (times, hashes, places, names
of hosts and users) is masked; figures stay.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "registry.md"
BEGIN, END = "<!-- begin of the transcript: python docs/registry.py -->", "<!-- end of the transcript -->"
# Quick settings, so that each version takes seconds: a small network, the commonest class to beat.
QUICK = (
    "features.packed_px=16",
    "train.packed_px=16",
    "train.arch_args.width=16",
    "train.epochs=5",
    "train.lr=0.005",
    "validate.data_docs=false",
    "baseline.kinds=[majority]",
    "finetune.models=[]",
    "evaluate.models=[cnn,majority]",
    "evaluate.candidate=cnn",
    "decide.max_latency_ms=null",
)
_INIT = " \\\n    ".join(["convflow init data/raw/digits", *(f"--set {one}" for one in QUICK)])


_PLAIN = argparse.RawDescriptionHelpFormatter


class Step(NamedTuple):
    """A command, and how many of its last lines are shown; 0: all."""

    command: str
    last: int = 0


def _edited(key: str, value: str) -> Step:
    """A parameter changed as an editor would."""
    return Step(f"sed -i 's/^  {key}: .*/  {key}: {value}/' params.yaml")


def _committed(message: str) -> Step:
    return Step(f"git add -A && git commit -qm '{message}'")


STEPS = [
    Step("convflow repro data/dvc.yaml:digits", last=1),
    Step(_INIT, last=3),
    _committed("Learn the digits"),
    Step("convflow repro", last=5),
    Step("convflow promote"),
    _committed("Five epochs"),
    Step("convflow repro | grep ^publish"),
    Step("convflow promote --reason 'the first that we trust'"),
    _edited("epochs", "12"),
    _committed("Train longer; the first champion"),
    Step("convflow repro | grep -E '^(decide|publish)'"),
    Step("convflow promote"),
    _edited("lr", "0.00001"),
    _committed("Try small steps; the second champion"),
    Step("convflow repro | grep -E '^(decide|publish)'"),
    Step("convflow promote"),
    Step("convflow history"),
    Step("convflow compare champion challenger"),
    Step("convflow rollback --reason 'wrong on the line in hall 3'"),
    Step("convflow rollback"),
    Step("convflow promote 2 --reason 'the line was dirty'"),
    Step("convflow history"),
    Step("convflow trace champion"),
    Step("convflow reproduce champion", last=9),
    _edited("lr", "0.002"),
    _committed("Steps between"),
    Step("convflow repro | grep -E '^(decide|publish)'"),
    Step("convflow gc --dry-run --keep 1"),
]


def main() -> None:
    """Run the steps, and write the page or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_PLAIN)
    parser.add_argument("--print", action="store_true", help="print the transcript; the page stays as it is")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave the project there, for the pictures"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convflow-docs-") as folder:
        project = copy_project(asked.keep or Path(folder, "project"))
        text = "\n".join(transcript(project, loud=asked.print))
    if not asked.print:
        write_page(text)


def write_page(text: str) -> None:
    """Put the transcript into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n```console\n{text}\n```\n\n{END}{tail}", encoding="utf-8")


def copy_project(folder: Path) -> Path:
    """Copy the working tree as git sees it and commit it there; caches and results stay behind."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if Path(name).name not in {"dvc.lock", "promotions.jsonl"} and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "Ada"],
        ["config", "user.email", "ada@example.org"],
        ["add", "-A"],
        ["commit", "-qm", "convflow"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def transcript(project: Path, *, loud: bool = False) -> Iterator[str]:
    """The shown commands with their masked output, line by line, and the exit status where it is not 0."""
    for step in STEPS:
        status, lines = run(project, step.command)
        said = [mask(line, project) for line in lines]
        if loud:
            print(f"$ {step.command}", *(said or []), f"[exit status {status}]", sep="\n", flush=True)
        yield f"$ {step.command}"
        yield from (["..."] if 0 < step.last < len(said) else []) + said[-step.last :]
        if status:
            yield f"[exit status {status}]"


def run(project: Path, command: str) -> tuple[int, list[str]]:
    """Exit status and the lines of both streams, as a terminal shows them."""
    environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ |= {"PATH": path, "USER": "ada", "LOGNAME": "ada"}
    environ |= {"DVC_SITE_CACHE_DIR": str(project / ".dvc/tmp/site"), "PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


_MASKS = (
    (r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?(\.\d+)?(Z|[+-]\d{2}:?\d{2}| UTC)?)?", "(time)"),
    (r"\brun ((?:\w+ )?)[0-9a-f]{8}\b", r"run \1(hash)"),  # one of digits alone, too
    (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,64}\b", "(hash)"),
    (r"\b\d+(\.\d+)? (ms|s|min)\b", r"(so many) \2"),
)


def mask(line: str, project: Path) -> str:
    """`line` without what differs from run to run."""
    line = line.replace(str(project), "PROJECT").rstrip()
    for form, instead in _MASKS:
        line = re.sub(form, instead, line)
    return line


if __name__ == "__main__":
    main()
