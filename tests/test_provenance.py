"""Where a run comes from: the commit, the lock of the pipeline, and what it was trained with."""

import subprocess
from pathlib import Path

from convflow.files import write_json, write_text
from convflow.registry import provenance


def test_the_digest_of_dvc_lock_leaves_publish_out(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    write_json(lock, {"schema": "2.0", "stages": {"train": {"md5": "a"}, "publish": {"md5": "b"}}})
    first = provenance.dvc_lock_digest(lock, but="publish")
    write_json(lock, {"schema": "2.0", "stages": {"train": {"md5": "a"}, "publish": {"md5": "c"}}})
    assert provenance.dvc_lock_digest(lock, but="publish") == first
    write_json(lock, {"schema": "2.0", "stages": {"train": {"md5": "x"}}})
    assert provenance.dvc_lock_digest(lock, but="publish") != first
    assert provenance.dvc_lock_digest(tmp_path / "none", but="publish") == "none"


TAGS = ("convflow.device", "convflow.python", "convflow.torch", "convflow.requirements_lock")


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_only_dvc_lock_may_change_without_the_commit_being_called_dirty(tmp_path: Path) -> None:
    assert provenance.git_state(tmp_path).commit == "none"
    git(tmp_path, "init")
    for name in ("a.txt", "dvc.lock", "sub/dvc.lock", "promotions.jsonl", ".gitignore"):
        write_text(tmp_path / name, "ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    for name in ("dvc.lock", "sub/dvc.lock", "promotions.jsonl", "ignored"):
        write_text(tmp_path / name, "changed")
    clean = provenance.git_state(tmp_path / "sub")
    assert (len(clean.commit), clean.dirty, clean.diff) == (40, "false", "")
    write_text(tmp_path / "a.txt", "https://me:pw@host\n")
    write_text(tmp_path / "new é.txt", "x")
    dirty = provenance.git_state(tmp_path / "sub")
    assert (dirty.commit, dirty.dirty) == (clean.commit, "true")
    assert "+https://***@host" in dirty.diff
    assert "new é.txt" in dirty.diff
    assert "dvc.lock" not in dirty.diff


def test_device_and_software_are_the_trainings(tmp_path: Path) -> None:
    unknown = dict.fromkeys(TAGS, "unknown")
    assert provenance.trained_with(tmp_path / "none", "cnn") == unknown
    write_json(tmp_path / "fit-svm.json", {"device": "cpu"})
    assert provenance.trained_with(tmp_path, "cnn") == unknown
    write_json(tmp_path / "fit-cnn.json", {"device": "cuda", "python": "3.99", "seconds": 1})
    assert provenance.trained_with(tmp_path, "cnn") == unknown | {
        "convflow.device": "cuda",
        "convflow.python": "3.99",
    }


def test_the_digest_of_dvc_lock_holds_no_clock(tmp_path: Path) -> None:
    def digest(timing: str, model: str) -> str:
        clocks = ("reports/timing/fit-cnn.json", "reports/evaluation", "reports/verdict.json")
        outs = [{"path": path, "md5": timing} for path in clocks] + [{"path": "models/cnn", "md5": model}]
        write_json(tmp_path / "dvc.lock", {"stages": {"train": {"cmd": "x", "outs": outs}}})
        return provenance.dvc_lock_digest(tmp_path / "dvc.lock", but="publish")

    assert digest("a", "m") == digest("b", "m") != digest("b", "n")
