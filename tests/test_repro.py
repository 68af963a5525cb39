"""convflow repro: params first, then DVC, heard of also where no terminal shows its progress."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convflow.cli import STAGES
from convflow.errors import ParamsError
from convflow.verbs import repro

PARAMS = Path(__file__).parent.parent / "params.yaml"
WORK = """\
import time
print("Stage 'data/dvc.yaml:set' didn't change, skipping")
print("Running stage 'scan':")
time.sleep(0.7)
print("scan: done \\u00fc")
print("Running stage 'train@a':")
print("Stage 'pack' is cached - skipping run, checking out outputs")
print("Running stage 'evaluate':")
raise SystemExit(3)
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The commands started in a project without DVC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    shutil.copy(PARAMS, "params.yaml")
    commands = []

    def start(command, **_):
        commands.append(command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(repro, "_run", lambda command: start(command).returncode)
    monkeypatch.setattr(subprocess, "run", start)
    return commands


def run(*arguments):
    parser = argparse.ArgumentParser()
    repro.add_arguments(parser)
    parser.set_defaults(stages=STAGES)
    parsed, more = parser.parse_known_args(arguments)
    parsed.more = more
    return repro.run(parsed)


def change(old, new):
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new))


def test_the_pipeline_is_run_then_summed_up(started):
    change("live: true", "live: false")
    assert run("-f", "train") == 0
    assert started == [["dvc", "repro", "-f", "train"], ["convflow", "summary"]]


def test_another_pipeline_needs_no_main_one_and_no_summary(started):
    change("root: data/raw/elpv", "root: pictures")
    assert run("studies/elpv/dvc.yaml") == 0
    assert started == [["dvc", "repro", "studies/elpv/dvc.yaml"]]


def test_a_lock_file_cut_short_is_mended_first(started, capsys):
    change("live: true", "live: false")
    record = "  scan:\n    cmd: a\n  validate:\n"
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n" + record)
    assert run() == 0
    assert Path("dvc.lock").read_text() == "schema: '2.0'\nstages:\n  scan:\n    cmd: a\n"
    assert capsys.readouterr().err.startswith("convflow: dvc.lock: was cut short by a kill")


def test_a_wrong_parameter_of_a_late_stage_starts_nothing(started):
    change("n_draws: 2000", "n_draws: 2")
    with pytest.raises(
        ParamsError, match=r"^params.yaml: evaluate.n_draws: expected .* from 200 .*, found 2$"
    ):
        run()
    assert started == []


def test_a_folder_that_is_not_there_starts_nothing_unless_a_stage_makes_it(started):
    change("live: true", "live: false")
    change("root: data/raw/elpv", "root: pictures")
    with pytest.raises(ParamsError, match=r"^params.yaml: data.root 'pictures' is no folder; run `convflow"):
        run()
    assert started == []
    change("root: pictures", "root: data/raw/digits")
    assert run() == 0


def test_outside_a_terminal_every_stage_is_timed_and_a_long_one_heard_of(monkeypatch, capfd):
    monkeypatch.setattr(repro, "BEAT_S", 0.2)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    assert repro._run([sys.executable, "-c", WORK]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["Stage 'data/dvc.yaml:set' didn't change, skipping", "Running stage 'scan':"]
    beats = [line for line in lines if line.startswith("convflow: scan goes on, ")]
    assert 1 <= len(beats) <= 4
    assert lines[2 : 2 + len(beats)] == beats  # while it worked, and before what it said next
    rest = lines[2 + len(beats) :]
    assert (
        rest[:2] == ["scan: done ü", "convflow: scan ended after 0.7 s"] or float(rest[1].split()[-2]) > 0.7
    )
    assert [line.split(" after")[0] for line in rest[2:]] == [
        "Running stage 'train@a':",
        "convflow: train@a ended",
        "Stage 'pack' is cached - skipping run, checking out outputs",
        "Running stage 'evaluate':",
        "convflow: evaluate ended",
    ]


def test_in_a_terminal_dvc_speaks_for_itself(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    calls = []

    def start(command, **options):
        calls.append((command, options))
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(subprocess, "run", start)
    assert repro._run(["dvc", "repro"]) == 5
    assert calls == [(["dvc", "repro"], {"check": False})]


def test_each_wrong_parameter_is_a_line_of_its_own(tmp_path):
    text = PARAMS.read_text().replace("n_draws: 2000", "n_draws: 2").replace("\n  lr: ", "\n  rate: ")
    (tmp_path / "params.yaml").write_text(text)
    command = [sys.executable, "-m", "convflow", "repro"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(" ")[:3] for line in done.stderr.splitlines()] == [
        ["convflow:", "params.yaml:", f"{key}:"] for key in ("train.lr", "train.rate", "evaluate.n_draws")
    ]
