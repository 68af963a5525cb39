"""Making a version anew: what it takes, the copy and its end, and how the results are compared."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import yaml

from convflow.errors import ConvflowError, DataError, ModelError
from convflow.files import write_json, write_text
from convflow.lineage import copying, raw_data, reproducing
from convflow.lineage.graph import needed
from convflow.lineage.recipe import read_recipe
from convflow.lineage.worktree import HOME, sweep, worktree
from convflow.registry.version import Version
from convflow.tables import read_about, read_table, write_table
from convflow.verbs import reproduce as verb
from made_version import LOCK, RAW, add_results, git, make_cache, make_git_project, make_version, with_tags

NAMES = ["0.png", "1.png", "2.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_git_project(tmp_path / "project")


def whole(root: Path, number: str = "1") -> Version:
    """A version that can be made anew."""
    return add_results(make_version(root, number), root, [0.25, 0.5, 0.75], images=NAMES)


def test_only_what_an_output_rests_on_runs_each_after_what_it_needs() -> None:
    stages = {**LOCK, "svm": {"deps": [{"path": "data/splits"}], "outs": [{"path": "models/svm"}]}}
    stages = dict(reversed(stages.items()))
    assert needed(stages, "predict@cnn") == ["scan", "split", "train", "predict@cnn"]
    assert needed(stages, "train", without=frozenset({"split"})) == ["train"]
    with pytest.raises(ModelError, match=r"^dvc.lock: no stage 'predict@x'"):
        needed(stages, "predict@x")


def test_the_recipe_is_the_version_with_the_candidate_alone(root: Path) -> None:
    version = whole(root)
    write_json(root / "runs/1/model_folder/card.json", {"backbone": {"computed_in": "bf16"}})
    recipe = read_recipe(version, root)
    assert recipe.settings["evaluate"] == {"models": ["cnn"], "candidate": "cnn", "positive": None}
    assert (recipe.commit, recipe.diff, recipe.tolerance) == (
        git(root, "rev-parse", "HEAD").strip(),
        None,
        1e-4,
    )
    assert (recipe.raw["md5"], recipe.out("predict@cnn", ".parquet")) == (
        RAW,
        Path("predictions/cnn.parquet"),
    )
    assert recipe.order({*LOCK} - {"evaluate"}) == ["scan", "split", "train", "predict@cnn"]
    kept = root / "runs/1/source/params.yaml"
    write_text(kept, yaml.safe_dump(yaml.safe_load(kept.read_text()) | {"embed": {"mode": "auto"}}))
    assert read_recipe(version, root).settings["embed"] == {"mode": "bf16"}


def _lose(*names: str) -> Callable[[Version, Path], Version]:
    def lose(version: Version, root: Path) -> Version:
        for name in names:
            (root / "runs/1" / name).unlink()
        return version

    return lose


def _harm_predictions(version: Version, root: Path) -> Version:
    write_text(root / "runs/1/predictions/cnn.parquet", "x")
    return version


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (
            _lose("source/dvc.lock"),
            r"lacks source/dvc.lock, the digest of the raw data; such a version cannot",
        ),
        (_lose("source/params.yaml"), r"lacks source/params.yaml, the digest"),
        (_lose("predictions/cnn.parquet"), r"\(FINISHED\) lacks predictions/cnn.parquet; such"),
        (_harm_predictions, r"cnn.parquet: not the predictions that were registered; restore the file"),
        (
            lambda version, _: with_tags(version, **{"git.commit": "none"}),
            r"made outside of a git repository",
        ),
        (
            lambda version, _: with_tags(version, **{"git.dirty": "true"}),
            r"changes.diff is not in its run; its",
        ),
    ],
)
def test_what_cannot_be_made_anew_is_refused_in_a_line(
    root: Path, harm: Callable[[Version, Path], Version], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as error:
        read_recipe(harm(whole(root), root), root)
    assert "\n" not in str(error.value)


def dirty(root: Path) -> Version:
    """A version made from changes that were not committed."""
    write_text(root / "src/net.py", "Hello, changed")
    write_text(root / "src/new.py", "git does not know me")
    return whole(root)


def copy(root: Path, version: Version, tree: Path) -> tuple[list[str], list[str]]:
    return copying.prepare(read_recipe(version, root), root, tree)


@pytest.fixture
def no_dvc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DVC answers with the stages of the lock file, and has no cache."""
    names = "\n".join(LOCK)
    for module in (copying, raw_data):
        monkeypatch.setattr(module, "ask_dvc", lambda *_: names)
    monkeypatch.setattr(raw_data, "cache_folder", lambda _: None)
    monkeypatch.setattr(raw_data, "remotes", lambda _: {})


@pytest.mark.usefixtures("no_dvc")
def test_the_copy_has_code_settings_and_pictures_of_the_time(root: Path) -> None:
    version = dirty(root)
    git(root, "checkout", "src/net.py")
    write_text(root / "params.yaml", "later: 1\n")
    write_text(root / "requirements.lock", "torch==2\n")
    with worktree(root, version.tag("git.commit") or "", "cells-1", keep=False) as tree:
        order, notes = copy(root, version, tree)
        assert (tree / "src/net.py").read_text() == "Hello, changed"
        settings = yaml.safe_load((tree / "params.yaml").read_text())
        assert settings["data"] == {"root": str((root / "data/raw/set").resolve())}
        assert settings["train"] == {"epochs": 2}
        assert str(tree / ".dvc/own-cache") in (tree / ".dvc/config.local").read_text()
    assert order == ["scan", "split", "train", "predict@cnn"]
    assert notes[0].endswith(", and the stored changes")
    assert notes[1] == "code: src/net.py: not as it ran, by dvc.lock; the commit's is taken"
    assert notes[2].startswith("environment: requirements.lock was ")
    assert notes[4].startswith("raw data: data/raw/set, the folder itself (")
    assert not tree.exists()


@pytest.mark.usefixtures("no_dvc")
def test_code_that_git_never_knew_and_pictures_that_are_gone_are_refused(root: Path) -> None:
    lock = (root / "dvc.lock").read_text()
    write_text(root / "dvc.lock", lock.replace("src/net.py", "src/new.py"))
    version = dirty(root)
    commit = version.tag("git.commit") or ""
    with (
        worktree(root, commit, "cells-1", keep=False) as tree,
        pytest.raises(ModelError, match=r"^src/new.py: ran, but is neither in commit .* add and commit it"),
    ):
        copy(root, version, tree)
    write_text(root / "dvc.lock", lock)
    (root / "data/raw/set").rmdir()
    with (
        worktree(root, commit, "cells-1", keep=False) as tree,
        pytest.raises(
            DataError, match=r"^data/raw/set: no such folder, and neither DVC's cache nor a remote"
        ),
    ):
        copy(root, whole(root, "2"), tree)


@pytest.mark.parametrize(
    ("diff", "said"),
    [
        ("\n... cut at 262,144 characters\n", "were cut, there were so many"),
        (
            "--- a/src/net.py\n+++ b/src/net.py\n@@ -1 +1 @@\n-x\n+y\n",
            r"cannot be applied \(error: patch failed: ",
        ),
    ],
)
def test_changes_that_are_cut_or_do_not_fit_are_refused(root: Path, diff: str, said: str) -> None:
    version = dirty(root)
    write_text(root / "runs/1/git/changes.diff", f"M a\n\ndiff --git a/src/net.py b/src/net.py\n{diff}")
    with (
        worktree(root, version.tag("git.commit") or "", "cells-1", keep=False) as tree,
        pytest.raises(ModelError, match=said),
    ):
        copy(root, version, tree)


def test_a_commit_that_is_not_here_is_named_and_leaves_nothing(root: Path) -> None:
    with (
        pytest.raises(ModelError, match=r"^commit 000000000000: not in this repository; `git fetch` it"),
        worktree(root, "0" * 40, "cells-1", keep=False),
    ):
        pass
    assert trees(root) == [str(root)]


def trees(root: Path) -> list[str]:
    listed = git(root, "worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in listed if line.startswith("worktree ")]


@pytest.mark.parametrize("error", [ModelError, KeyboardInterrupt, SystemExit])
def test_the_copy_is_gone_after_errors_and_stays_with_keep(root: Path, error: type[BaseException]) -> None:
    for keep in (False, True, True):
        with pytest.raises(error), worktree(root, "HEAD", "cells-1", keep=keep):
            raise error
    assert trees(root) == [str(root), str(root / HOME / "kept-cells-1")]
    assert (root / HOME / "kept-cells-1/src/net.py").is_file()
    assert not git(root, "status", "--porcelain")


_KILLED = """
import subprocess, sys
from pathlib import Path
from convflow.lineage.worktree import worktree
with worktree(Path.cwd(), "HEAD", "cells-1", keep=False) as tree:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    orphan = subprocess.Popen(command, cwd=tree, start_new_session=True)
    print(orphan.pid, flush=True)
    orphan.wait()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_what_a_kill_leaves_is_swept_away_and_ended(root: Path, number: int, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED], cwd=root, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        orphan = psutil.Process(int(one.stdout.readline()))
        os.kill(one.pid, number)
        one.wait()
    assert one.returncode == status
    if number == signal.SIGTERM:  # it puts all in order itself, but for what it has started
        assert trees(root) == [str(root)]
        orphan.kill()
        return
    assert len(trees(root)) == 2
    sweep(root)
    assert (trees(root), list((root / HOME).iterdir())) == ([str(root)], [])
    deadline = time.monotonic() + 5
    while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_in_the_cache_come_through_dvc_by_their_digest(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(folder: Path, *arguments: str) -> str:
        pointer = yaml.safe_load((folder / arguments[1]).read_text())
        asked.append((arguments, pointer["outs"][0]["md5"], (folder / ".dvc/config.local").read_text()))
        (folder / pointer["outs"][0]["path"]).mkdir()
        return ""

    cache = make_cache(tmp_path / "cache")
    monkeypatch.setattr(raw_data, "cache_folder", lambda _: cache)
    monkeypatch.setattr(raw_data, "ask_dvc", answer)
    tree = tmp_path / "tree"
    found = raw_data.bring(root, tree, LOCK["scan"]["deps"][0])
    assert found == (None, "from DVC, by the digest in dvc.lock")
    ((arguments, digest, settings),) = asked
    assert (arguments[0], digest, str(cache) in settings) == ("checkout", RAW, True)
    assert sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*")) == [
        ".dvc", "data", "data/raw", "data/raw/set",
    ]  # fmt: skip


def stage_by_stage(root: Path, anew: list[float], ran: list[list[str]]) -> Callable[[Path, list[str]], None]:
    """What the stages would leave: predictions `anew`, figures and the split as registered."""

    def run(tree: Path, stages: list[str]) -> None:
        ran.append(stages)
        if "evaluate" not in stages:
            return
        table = read_table(root / "runs/1/predictions/cnn.parquet")
        about = read_about(root / "runs/1/predictions/cnn.parquet")
        p_b = pa.array(anew, pa.float32())
        table = table.set_column(table.column_names.index("p_b"), "p_b", p_b)
        write_table(tree / "predictions/cnn.parquet", table, about=about)
        write_text(
            tree / "reports/evaluation/metrics.json", (root / "runs/1/evaluation/metrics.json").read_text()
        )
        (tree / "data/splits").mkdir(parents=True)
        (tree / "data/splits/members.parquet").write_bytes(
            (root / "data/splits/members.parquet").read_bytes()
        )
        (tree / "models/cnn").mkdir(parents=True)

    return run


@pytest.mark.usefixtures("no_dvc")
@pytest.mark.parametrize(
    ("anew", "status", "last"),
    [
        ([0.25, 0.5, 0.75], 0, "reproduced: identical"),
        ([0.25, 0.5, 0.75001], 0, "reproduced: equal within the tolerance"),
        ([0.25, 0.5, 0.5], 1, "reproduced: different"),
    ],
)
def test_the_verb_says_how_the_two_agree(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    anew: list[float],
    status: int,
    last: str,
) -> None:
    version, ran = whole(root), []
    monkeypatch.chdir(root)
    monkeypatch.setattr(verb, "find_version", lambda _: version)
    monkeypatch.setattr(verb, "own_tools_first", lambda: None)
    monkeypatch.setattr(reproducing, "check_source", lambda _: None)
    monkeypatch.setattr(reproducing, "run_stages", stage_by_stage(root, anew, ran))
    assert verb.run(_Arguments(version="1", json=False, keep=False)) == status
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == last
    assert "  on the way: data the same, sides the same, model not known" in out
    assert ("2.png, p_b: 0.75 registered, 0.5 now (largest difference 0.25" in out) == (status == 1)
    assert ran == [["scan"], ["split", "train", "predict@cnn", "evaluate"]]
    assert all(line.startswith("reproduce: ") for line in err.splitlines())
    assert verb.run(_Arguments(version="1", json=True, keep=True)) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["metrics"]["how"], told["stages"][-1]) == ("identical", "evaluate")
    assert Path(told["kept"], "predictions/cnn.parquet").is_file()
    assert trees(root) == [str(root), told["kept"]]


def test_a_stage_that_stops_ends_the_reproduction_with_2(tmp_path: Path) -> None:
    from convflow.lineage.running import check_source, run_stages

    with pytest.raises(ModelError, match=r"^scan, split: stopped in the copy; the lines above say why$"):
        run_stages(tmp_path, ["scan", "split"])
    with pytest.raises(ConvflowError, match=r"its code would not run, but .*convflow/__init__.py; is src/"):
        check_source(tmp_path)


class _Arguments:
    def __init__(self, **values: object) -> None:
        vars(self).update(values)
