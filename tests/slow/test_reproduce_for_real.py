"""A registered version made anew on true pictures: to the byte, with the project left alone, after a kill."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from conftest import Project, copy_project
from convflow.files import digest_file
from convflow.lineage.worktree import HOME

pytestmark = pytest.mark.slow
SMALL = (
    "--set", "train.epochs=2", "--set", "train.arch_args={width: 8}", "--set", "baseline.kinds=[majority]",
    "--set", "evaluate.models=[cnn, majority]",
)  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small network on the digits, registered; params.yaml is not committed."""
    project = copy_project(tmp_path_factory.mktemp("published"))
    project.repro("data/dvc.yaml:digits")
    project.init("data/raw/digits", *SMALL)
    project.repro()
    return project


def everything(project: Project) -> dict[str, str]:
    """The bytes of all files of the project, git's and DVC's too, but for scratch."""
    found = (path for path in project.folder.rglob("*") if path.is_file())
    named = {path.relative_to(project.folder): path for path in found}
    return {str(name): digest_file(path) for name, path in named.items() if name.parts[0] != ".convflow"}


def killed_in_training(project: Project) -> list[psutil.Process]:
    """Begin a reproduction, and kill it alone while a stage of it trains; what goes on without it."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "convflow", "reproduce", "challenger"]
    with subprocess.Popen(
        command, cwd=project.folder, env=os.environ | {"PATH": path}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("Running stage 'train'" in line for line in process.stderr)
        left = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        for one in left:  # they hold our pipe open
            one.suspend()
        process.stderr.close()
    return left


def test_a_version_comes_out_again_to_the_byte_even_after_a_kill(published: Project) -> None:
    before, status = everything(published), published.run("git", "status", "--porcelain").stdout
    left = killed_in_training(published)
    assert left
    done = published.run("convflow", "reproduce", "challenger", "--json")
    told = json.loads(done.stdout)
    assert (told["outcome"], told["predictions"]["how"], told["metrics"]["how"]) == ("identical",) * 3
    assert told["stations"] == {"data": True, "sides": True, "model": True}
    assert "raw data: data/raw/digits, from DVC, by the digest in dvc.lock" in told["notes"]
    assert told["stages"] == ["scan", "validate", "split", "pack@16", "train", "predict@cnn", "evaluate"]
    assert "Running stage 'train'" in done.stderr
    assert everything(published) == before
    assert published.run("git", "status", "--porcelain").stdout == status
    assert not list((published.folder / HOME).iterdir())
    assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_other_pictures_are_told_with_the_first_difference(published: Project) -> None:
    """Where DVC's cache has none, the folder itself is taken, and its digest compared."""
    link = json.loads(published.run("convflow", "trace", "challenger", "--json").stdout)["links"]
    (raw,) = (one for one in link if one["name"] == "raw data")
    assert (raw["state"], raw["cached"]) == ("whole", True)
    listing = published.folder / ".dvc/cache/files/md5" / raw["md5"][:2] / raw["md5"][2:]
    listing.unlink()
    for picture in sorted((published.folder / "data/raw/digits/3").iterdir()):
        with Image.open(picture) as image:
            turned = image.rotate(90)
        turned.save(picture)
    done = published.run("convflow", "reproduce", "challenger", "--keep", check=False)
    assert done.returncode == 1, done.stderr
    out = done.stdout.splitlines()
    assert any(line.startswith("  raw data: changed since: md5 ") for line in out)
    assert "  on the way: data another, sides " in done.stdout
    assert any(line.startswith("  predictions: different: images: ") for line in out)
    assert any(line.startswith("  metrics: different: ") and " registered, " in line for line in out)
    assert out[-1] == "reproduced: different"
    assert (published.folder / HOME / "kept-convflow-1/predictions/cnn.parquet").is_file()
