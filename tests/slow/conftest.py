"""A copy of the project in a folder of its own, on the small set, with settings that take seconds."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Nothing but loopback is reached: whatever asks for the network fails at once, and its test with it.
CUT = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
QUICK = (
    "--set", "features.packed_px=16", "--set", "train.packed_px=16", "--set", "train.epochs=6",
    "--set", "train.lr=0.005", "--set", "validate.data_docs=false",
    "--set", "finetune.models=[]", "--set", "evaluate.models=[cnn, svm, logistic, knn, majority]",
    "--set", "evaluate.candidate=cnn",
)  # fmt: skip


@dataclass(frozen=True)
class Project:
    """A project folder and how to run commands in it."""

    folder: Path

    def run(self, *command: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment; the text of both streams comes back."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environ
            | CUT
            | {"PATH": path, "DVC_SITE_CACHE_DIR": str(self.folder / ".dvc/tmp/site")}
            | more,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def init(self, path: str | Path, *settings: str) -> None:
        """Point params.yaml at a folder, with quick settings."""
        self.run("convflow", "init", str(path), *QUICK, *settings)

    def repro(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the pipeline."""
        return self.run("dvc", "repro", *arguments, check=check)

    def bytes_of(self, *names: str) -> dict[str, bytes]:
        """The bytes of these files."""
        return {name: (self.folder / name).read_bytes() for name in names}


RESULTS = (
    "data/sides.csv",
    "models/cnn/weights.safetensors",
    "models/cnn/history.jsonl",
    "predictions/cnn.parquet",
)


def copy_project(folder: Path) -> Project:
    """Copy the working tree as git sees it and commit it there; caches and results stay behind."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listing.stdout.splitlines():
        if Path(name).name != "dvc.lock" and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return Project(folder)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh copy of the project."""
    folder = tmp_path / "project"
    folder.mkdir()
    return copy_project(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project in which the main job has run on the digits."""
    folder = tmp_path_factory.mktemp("digits")
    project = copy_project(folder)
    project.repro("data/dvc.yaml:digits")
    project.init("data/raw/digits")
    project.repro()
    return project
