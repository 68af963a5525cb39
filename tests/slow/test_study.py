"""studies/elpv, run as a user runs it: few splits, cheap models, the real images."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import Project, copy_project

pytestmark = pytest.mark.slow

STUDY = "studies/elpv/dvc.yaml"
SETTINGS = {
    ("protocols", "random"): {"P1": {"splits": 3, "test_fraction": 0.25}},
    ("protocols", "grouped"): {"P2": {"folds": 3, "repeats": 1}},
    ("standing", "models"): ["majority", "logistic", "cnn", "frozen"],
    ("standing", "reference"): "logistic",
    ("gather", "size_px"): {"features": 48, "networks": 16, "pretrained": 64},
    ("encode", "size_px"): 64,
    ("encode", "views"): "none",
}


def settle(project: Project, **changed: dict) -> None:
    """Write the study's params.yaml with few splits and small pictures."""
    path = project.folder / "studies/elpv/params.yaml"
    params = yaml.safe_load(path.read_text())
    for (section, name), value in SETTINGS.items():
        params[section][name] = value
    params["folds"]["networks"]["cnn"] |= {"epochs": 2, "arch_args": {"width": 8}} | changed
    params["folds"]["transfers"]["frozen"]["probe"] |= {"c": [0.003], "folds": 2, "depths": [[8]]}
    params["folds"]["baselines"]["logistic"] = {"c": [0.001, 0.01]}
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project in which the small study has run."""
    project = copy_project(tmp_path_factory.mktemp("study"))
    settle(project)
    project.repro(STUDY)
    return project


def answers(project: Project) -> dict[str, bytes]:
    folder = project.folder / "studies/elpv/folds"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_every_model_answers_every_split_and_the_table_says_how_well(study):
    names = {"P1": [f"{n:02d}-0" for n in range(3)], "P2": [f"00-{n}" for n in range(3)]}
    wanted = {
        f"{protocol}/{model}/{split}.parquet"
        for protocol, splits in names.items()
        for model in ("majority", "logistic", "cnn", "frozen")
        for split in splits
    }
    assert set(answers(study)) == wanted
    found = json.loads((study.folder / "studies/elpv/results/table.json").read_text())
    accuracy = {
        (line["protocol"], line["model"]): line["mean"]
        for line in found["standings"]
        if (line["slice"], line["metric"]) == ("all", "accuracy")
    }
    assert accuracy["P1", "logistic"] > accuracy["P1", "majority"] + 0.05
    assert accuracy["P1", "frozen"] > accuracy["P1", "majority"] + 0.05
    assert 0.67 < accuracy["P1", "majority"] < 0.70
    probe = {
        line["protocol"]: line["gain"]["mean"] for line in found["leaks"] if line["probe"] == "file order"
    }
    assert probe["P1"] > 0.3 > probe["P2"] + 0.2
    page = (study.folder / "studies/elpv/results/table.md").read_text()
    assert "*SVM*, one split | 82.44" in page
    done = study.run("git", "status", "--short")
    assert not [
        line for line in done.stdout.splitlines() if ".png" in line and "results/plot.png" not in line
    ]


def test_a_second_run_does_nothing(study):
    before = answers(study)
    done = study.repro(STUDY)
    assert "Running stage" not in done.stdout
    assert answers(study) == before


def test_a_changed_network_leaves_the_baselines_alone(study, tmp_path):
    project = Project(Path(shutil.copytree(study.folder, tmp_path / "project", symlinks=True)))
    before = answers(project)
    settle(project, lr=0.01)
    done = project.repro(STUDY)
    assert "folds: P1 logistic: 3 of 3 splits are there" in done.stdout
    assert "folds: P1 cnn: 0 of 3 splits are there" in done.stdout
    changed = {name for name, content in answers(project).items() if before[name] != content}
    assert {name.split("/")[1] for name in changed} == {"cnn"}
    assert "folds: P2 frozen: 3 of 3 splits are there" in done.stdout


def killed_after_its_first_answer(project: Project, target: str, folds: Path) -> None:
    """Run `target`, and kill it with all its processes as soon as `folds` holds an answer."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.Popen(
        ["dvc", "repro", "-q", target], cwd=project.folder, env=os.environ | {"PATH": path},
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    ends = time.monotonic() + 300
    while not list(folds.glob("*.parquet")) and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_and_copied_to_another_place_it_goes_on(tmp_path):
    target, place = f"{STUDY}:folds@P1-cnn", "studies/elpv/folds/P1/cnn"
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = copy_project(tmp_path / "here"), copy_project(tmp_path / "there")
    for project in (here, there):
        settle(project, epochs=6)
    killed_after_its_first_answer(here, target, here.folder / place)
    # what is left of the interrupted run is all there is: no cache, no lock file
    shutil.copytree(here.folder / "data/raw", there.folder / "data/raw")
    shutil.copytree(here.folder / place, there.folder / place)
    kept = {path.name: path.stat().st_mtime_ns for path in (there.folder / place).glob("[!.]*.parquet")}
    assert 0 < len(kept) < 3
    done = there.repro(target)
    assert f"folds: P1 cnn: {len(kept)} of 3 splits are there" in done.stdout
    found = {path.name: path.stat().st_mtime_ns for path in (there.folder / place).iterdir()}
    assert set(found) == {"00-0.parquet", "01-0.parquet", "02-0.parquet"}
    assert {name: found[name] for name in kept} == kept
