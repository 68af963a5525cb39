"""The main job, run as a user runs it."""

import json
import shutil
import sqlite3
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import RESULTS, Project, copy_project  # noqa: F401

pytestmark = pytest.mark.slow


def versions(project: Project) -> list[int]:
    """Numbers of the registered versions that were not deleted."""
    query = "select version from model_versions where current_stage <> 'Deleted_Internal' order by version"
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        return [row[0] for row in database.execute(query)]


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
        assert done.stdout.count("didn't change, skipping") == 19
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


def test_new_images_keep_the_old_sides_and_a_clone_agrees(project, tmp_path):
    draw_shapes(project.folder / "data/raw/mine")
    project.init("data/raw/mine")
    project.repro("split")
    sides = project.folder / "data/sides.csv"
    before = set(sides.read_text().splitlines())
    draw_shapes(tmp_path / "more", n_images=40)  # the first thirty of each class again, and ten new ones
    for picture in (tmp_path / "more").rglob("*.png"):
        place = project.folder / "data/raw/mine" / picture.relative_to(tmp_path / "more")
        if not place.exists():
            shutil.copy(picture, place)
    project.repro("split")
    assert before < set(sides.read_text().splitlines())
    after = sides.read_bytes()
    shutil.rmtree(project.folder / "data/splits")
    project.repro("-f", "split")
    assert sides.read_bytes() == after


def test_a_first_run_leaves_git_clean_but_for_what_it_made(digits):
    done = digits.run("git", "status", "--porcelain")
    assert {line[3:] for line in done.stdout.splitlines()} <= {
        "params.yaml", "dvc.lock", "data/dvc.lock", "data/sides.csv",
    }  # fmt: skip


def test_dvc_renders_the_plots(digits):
    digits.run("dvc", "plots", "show", "-o", "plots")
    page = (digits.folder / "plots/index.html").read_text()
    assert all(title in page for title in ("Loss", "ROC on test", "Confusion on test", "Reliability on test"))
    shutil.rmtree(digits.folder / "plots")


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
    """Three classes of made-up pictures, noise of three colours, with spaces and accents in their names."""
    noise = np.random.default_rng(0)
    for place, label in enumerate(("rot é", "grün", "blue sky")):
        (folder / label).mkdir(parents=True)
        for number in range(n_images):
            pixels = noise.integers(0, 120, (36, 48, 3), dtype=np.uint8)
            pixels[:, :, place] += 80
            Image.fromarray(pixels).save(folder / label / f"bild {number} ü.png")


def test_an_own_folder_needs_no_code(project):
    draw_shapes(project.folder / "data/raw/my pictures")
    project.init("data/raw/my pictures")
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
    project.init(tmp_path / "pictures")
    project.repro()
    assert "grouped" in project.run("convflow", "summary").stdout
    assert versions(project) == [1]


def verdict_of(project: Project) -> tuple[bool, set[str]]:
    """Whether the candidate is accepted, and the rules that failed."""
    found = json.loads((project.folder / "reports/verdict.json").read_text())
    return found["accepted"], {rule["name"] for rule in found["rules"] if rule["passed"] is False}


def test_shuffled_labels_leave_every_model_at_chance_and_refused(project, tmp_path):
    noise = np.random.default_rng(0)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    lines = ["path,label"]
    labels = noise.permutation(np.repeat(["left", "right"], 150))
    for number, label in enumerate(labels):
        Image.fromarray(noise.integers(0, 256, (20, 20), dtype=np.uint8)).save(pictures / f"{number}.png")
        lines.append(f"{number}.png,{label}")
    (pictures / "labels.csv").write_text("\n".join(lines))
    project.init(pictures)
    project.repro()
    metrics = json.loads((project.folder / "reports/evaluation/metrics.json").read_text())
    assert set(metrics) == {"cnn", "svm", "logistic", "knn", "majority"}
    for name, numbers in metrics.items():
        balanced = numbers["test"]["balanced_accuracy"]
        assert balanced["low"] <= 0.5 <= balanced["high"], name
    accepted, failed = verdict_of(project)
    assert not accepted
    assert "best baseline" in failed
    assert "refused" in project.run("convflow", "summary").stdout


def test_a_label_that_leaks_into_the_brightness_trips_the_probe_and_refuses_the_copycat(project):
    noise = np.random.default_rng(0)
    for label, offset in (("dark", 0), ("light", 40)):
        folder = project.folder / "data/raw/lamp" / label
        folder.mkdir(parents=True)
        for number in range(120):
            pixels = noise.integers(0, 200, (20, 20), dtype=np.uint8) + np.uint8(offset)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    project.init("data/raw/lamp")
    project.repro()
    metrics = json.loads((project.folder / "reports/evaluation/metrics.json").read_text())
    assert max(one["test"]["accuracy"]["value"] for one in metrics.values()) > 0.95
    assert json.loads((project.folder / "data/splits/leak.json").read_text())["tripped"]
    accepted, failed = verdict_of(project)
    assert not accepted
    assert "leak probe" in failed


def test_a_broken_picture_stops_the_pipeline_before_training_and_quarantine_lets_it_pass(project):
    draw_shapes(project.folder / "data/raw/mine")
    broken = project.folder / "data/raw/mine/grün/kaputt.png"
    broken.write_bytes((project.folder / "data/raw/mine/grün/bild 1 ü.png").read_bytes()[:60])
    project.init("data/raw/mine")
    done = project.repro(check=False)
    assert done.returncode != 0
    assert "grün/kaputt.png" in done.stderr
    assert not (project.folder / "data/approved/rows.parquet").exists()
    assert not (project.folder / "models").exists()
    project.init(
        "data/raw/mine",
        "--set",
        "validate.on_bad_image=quarantine",
    )
    project.repro()
    assert "kaputt.png" in (project.folder / "reports/validation/problems.csv").read_text()
