"""The main job, run as a user runs it."""

import json
import shutil
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from conftest import RESULTS, Project, copy_project  # noqa: F401

pytestmark = pytest.mark.slow


def versions(project: Project) -> list[int]:
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        return [row[0] for row in database.execute("select version from model_versions order by version")]


def test_digits_go_from_files_to_a_registered_version(digits):
    assert versions(digits) == [1]
    metrics = json.loads((digits.folder / "reports/evaluation/metrics.json").read_text())
    test = metrics["cnn"]["test"]["accuracy"]
    assert 0.7 < test["low"] < test["value"] < test["high"] <= 1
    summary = digits.run("convflow", "summary").stdout
    assert f"{test['value']:.3f}" in summary
    assert "stratified" in summary


def test_a_second_run_does_nothing_but_look_whether_it_is_published(digits):
    times = []
    for _ in range(5):
        started = time.monotonic()
        done = digits.repro()
        times.append(time.monotonic() - started)
        assert done.stdout.count("didn't change, skipping") == 8
        assert "there already" in done.stdout
    print(f"no-op dvc repro: median {statistics.median(times):.2f} s")
    assert versions(digits) == [1]


def test_a_lost_tracking_store_is_restored(digits):
    for path in digits.folder.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(digits.folder / "mlartifacts")
    digits.repro()
    assert versions(digits) == [1]


def test_a_clone_that_takes_everything_from_the_cache_publishes_too(digits, tmp_path):
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "lock"]):
        subprocess.run(["git", *command], cwd=digits.folder, check=True)
    subprocess.run(["git", "clone", "-q", digits.folder, tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "cache", "dir", "--local", str(digits.folder / ".dvc/cache"))
    done = clone.repro()
    assert "Running stage 'train'" not in done.stdout
    assert clone.bytes_of(*RESULTS) == digits.bytes_of(*RESULTS)
    assert versions(clone) == [1]


def test_from_scratch_again_gives_the_same_bytes(digits, project):
    project.repro("data/dvc.yaml:digits")
    project.init("data/raw/digits")
    project.repro()
    assert project.bytes_of(*RESULTS) == digits.bytes_of(*RESULTS)


def test_the_registered_model_classifies_a_folder(digits):
    done = digits.run("convflow", "predict", "data/raw/digits/3", "--json")
    answers = (
        [json.loads(line) for line in done.stdout.splitlines()]
        if done.stdout.startswith("{")
        else json.loads(done.stdout)
    )
    assert sum(answer["label"] == "3" for answer in answers) > 0.7 * len(answers)


def draw_shapes(folder: Path, n_images: int = 30) -> None:
    """Three classes of made-up pictures, with spaces and accents in their names."""
    for place, label in enumerate(("rot é", "grün", "blue sky")):
        (folder / label).mkdir(parents=True)
        for number in range(n_images):
            colour = [40 + (number * 5) % 60] * 3
            colour[place] = 200 + number
            picture = Image.new("RGB", (40, 30), tuple(colour))
            picture.putpixel((number % 40, number % 30), (number * 8 % 256, 0, 255))
            picture.save(folder / label / f"bild {number} ü.png")


def test_an_own_folder_needs_no_code(project):
    draw_shapes(project.folder / "data/raw/mine")
    project.init("data/raw/mine", "--set", "train.epochs=5", "--set", "split.near_duplicate_distance=0")
    project.repro()
    assert versions(project) == [1]


def test_an_own_table_needs_no_code(project, tmp_path):
    draw_shapes(tmp_path / "pictures")
    lines = ["path,label,group"]
    for number, path in enumerate(sorted(p for p in (tmp_path / "pictures").rglob("*.png"))):
        lines.append(
            f"{path.relative_to(tmp_path / 'pictures').as_posix()},{path.parent.name},lot-{number % 15}"
        )
    (tmp_path / "pictures/labels.csv").write_text("\n".join(lines))
    project.init(tmp_path / "pictures", "--set", "split.near_duplicate_distance=0", "--set", "split.seed=1")
    project.repro()
    assert "grouped" in project.run("convflow", "summary").stdout
    assert versions(project) == [1]


def test_a_broken_picture_stops_the_pipeline_before_training_and_quarantine_lets_it_pass(project):
    draw_shapes(project.folder / "data/raw/mine")
    broken = project.folder / "data/raw/mine/grün/kaputt.png"
    broken.write_bytes((project.folder / "data/raw/mine/grün/bild 1 ü.png").read_bytes()[:60])
    project.init("data/raw/mine", "--set", "split.near_duplicate_distance=0")
    done = project.repro(check=False)
    assert done.returncode != 0
    assert "grün/kaputt.png" in done.stderr
    assert not (project.folder / "data/approved/rows.parquet").exists()
    assert not (project.folder / "models").exists()
    project.init(
        "data/raw/mine",
        "--set",
        "split.near_duplicate_distance=0",
        "--set",
        "validate.on_bad_image=quarantine",
    )
    project.repro()
    assert "kaputt.png" in (project.folder / "reports/validation/problems.csv").read_text()
