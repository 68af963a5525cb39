"""`convflow gc` on a real SQLite store made small: what goes, what stays, and that it may be killed."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from convflow import cli
from convflow.errors import ParamsError, TrackingError
from convflow.registry import folders, opening, sweeping
from convflow.registry.acts import HEAD
from convflow.registry.folders import own_folder
from convflow.registry.keeping import DAY_MS
from convflow.registry.ledger import KEY_TAG, LIVE_TAG
from convflow.registry.promotion_log import Act, append
from made_published import client, move
from made_store import PARAMS, open_shop

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OLD = "0" * 31 + "1"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions, each with its rival; version 3 was compared with the SVM of version 2 as well."""
    root = tmp_path_factory.mktemp("shop") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow itself sets it
        shop = open_shop(root)
        for figures in (1, 2, 2):
            shop.candidate({"svm": figures, "cnn": 0})
        shop.rival(1)
        shop.rival(2)
        shop.run("half", {KEY_TAG: "h"}, status="FAILED", start_ms=DAY_MS)
        shop.run("young", {KEY_TAG: "h"}, status="FAILED")
        shop.run("mine", {}, status="FAILED", start_ms=DAY_MS)
        shop.run("live-cnn", {LIVE_TAG: "cnn"}, status="RUNNING", start_ms=DAY_MS)
        shop.client.delete_run(shop.run("binned", {}))
        shop.model(shop.run("mine too", {}))
        (root / "mlartifacts" / OLD / "artifacts").mkdir(parents=True)
        (root / "mlartifacts" / OLD / "artifacts/some.txt").write_bytes(b"z" * 500)
        mlflow.set_tracking_uri(None)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = move(template, tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root


def gc(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What is printed, without the ids of runs and models, in order of the alphabet."""
    assert cli.run(["gc", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return sorted(re.sub(r" (m-)?[0-9a-f]{8}(?=[:, ])", "", line) for line in lines)


def names(root: Path) -> list[str]:
    """The names of all runs, active or in the bin."""
    found = client(root).search_runs(["1"], run_view_type=ViewType.ALL)
    return sorted(run.info.run_name for run in found)


def numbers(root: Path) -> list[int]:
    return sorted(int(one.version) for one in client(root).search_model_versions("name = 'cells'"))


def snapshot(root: Path) -> dict[str, object]:
    """Every file but the lock, and all rows of the database."""
    told: dict[str, object] = {}
    for path in root.rglob("*"):
        if path.is_file() and "mlflow.db" not in path.name:
            told[str(path.relative_to(root))] = path.read_bytes()
    with closing(sqlite3.connect(root / "mlflow.db")) as link:
        told["rows"] = list(link.iterdump())
    return told


def whole(root: Path) -> bool:
    """Whether every run and every model that is in use has its files."""
    with closing(sqlite3.connect(root / "mlflow.db")) as link:
        runs = link.execute("SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        models = link.execute("SELECT artifact_location FROM logged_models WHERE lifecycle_stage = 'active'")
        places = [*runs, *models.fetchall()]
    return all(any(Path(place.removeprefix("file://")).iterdir()) for (place,) in places)


GOES = [
    "logged model: of run, 2.0 kB",
    "logged model: of run, 2.0 kB",
    f"mlartifacts/{OLD}: not in the database, 0.5 kB",
    "run binned: in the bin, 1.0 kB",
    "run cnn: of version 1, 1.0 kB",
    "run cnn: of version 2, 1.0 kB",
    "run half: half written, 1.0 kB",
    "run live-cnn: shown live, never published, 1.0 kB",
    "run svm: compared with no version that stays, 1.0 kB",
    "version 1 of cells: old",
    "version 2 of cells: old",
]
STAYS = ["cnn", "mine", "mine too", "svm", "young"]
KEPT = "kept: cells version 3 (of the last 1)"


def test_a_dry_run_says_the_same_and_changes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(project)
    told = "gc: 11 things would go from sqlite:///mlflow.db, 10.6 kB"
    assert gc(capsys, "--dry-run") == sorted([*GOES, KEPT, told])
    assert snapshot(project) == before
    assert gc(capsys) == sorted([*GOES, KEPT, told.replace("would go", "gone") + " freed"])
    assert (names(project), numbers(project), whole(project)) == (STAYS, [3], True)
    folders_left = [path for path in (project / "mlartifacts").iterdir() if path.name != "models"]
    assert len(folders_left) == len(STAYS)
    assert len(list((project / "mlartifacts/models").iterdir())) == 2
    assert gc(capsys) == ["gc: 0 things gone from sqlite:///mlflow.db, 0.0 kB freed", KEPT]


def test_as_json_for_a_script(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["gc", "--dry-run", "--json", "--keep", "2"])
    told = json.loads(capsys.readouterr().out)
    assert told["keeps"] == [{"version": n, "why": "of the last 2"} for n in (3, 2)]
    assert {"what": "version 1 of cells", "why": "old", "n_bytes": 0} in told["removes"]
    assert told["n_bytes"] == sum(one["n_bytes"] for one in told["removes"])
    assert (told["dry_run"], told["left"]) == (True, [])


def test_an_alias_and_the_champion_before_stay_with_all_they_refer_to(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client(project).set_registered_model_alias("cells", "shadow", "1")
    for number in ("2", "3"):
        append(Path("promotions.jsonl"), Act("t", "promote", "cells", number, None, "me", False, "", number))
    lines = gc(capsys)
    assert "kept: cells version 3 (champion of the log), 2 (champion before), 1 (shadow)" in lines
    assert names(project) == sorted([*STAYS, "cnn", "cnn", "svm"])
    client(project).set_registered_model_tag("cells", HEAD, "f" * 64)  # an act that the file here lacks
    with pytest.raises(
        TrackingError, match=r"^promotions.jsonl: the newest act in the registry .* is missing"
    ):
        cli.run(["gc"])
    Path("promotions.jsonl").write_text("no log\n")
    with pytest.raises(TrackingError, match=r"^promotions.jsonl:1: this line is not as it was written"):
        cli.run(["gc"])


def test_of_another_model_nothing_goes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("name: cells", "name: other"))
    assert "kept: no version of other is there" in gc(capsys)
    assert (numbers(project), whole(project)) == ([1, 2, 3], True)
    assert names(project) == sorted([*STAYS, "cnn", "cnn", "svm"])


class Killed(BaseException):
    """Stands in for a kill: nothing catches it."""


@pytest.mark.parametrize("after", [3, 10, 99])  # the last: it comes to its end
def test_killed_anywhere_it_leaves_no_gap_and_the_next_completes_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    left = iter([*range(after)])

    def mortal(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*arguments: Any) -> Any:
            assert whole(project)  # a kill at this moment would leave it so
            if next(left, None) is None:
                raise Killed
            return act(*arguments)

        return acting

    with monkeypatch.context() as patch:
        for name in ("delete_model_version", "delete_logged_model", "delete_run"):
            patch.setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
        for name in ("_hard_delete_run", "_hard_delete_logged_model"):
            patch.setattr(SqlAlchemyStore, name, mortal(getattr(SqlAlchemyStore, name)))
        patch.setattr(folders, "remove", mortal(folders.remove))
        with pytest.raises(Killed) if after < 99 else nullcontext():
            cli.run(["gc"])
    assert whole(project)
    gc(capsys)
    assert (names(project), numbers(project), whole(project)) == (STAYS, [3], True)
    assert len(list((project / "mlartifacts").iterdir())) == len(STAYS) + 1
    assert len(list((project / "mlartifacts/models").iterdir())) == 2


def test_links_are_left_and_what_they_point_to(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    treasure = tmp_path / "treasure"
    (treasure / "artifacts").mkdir(parents=True)
    (treasure / "artifacts/gold").write_text("gold")
    home = project / "mlartifacts"
    (home / ("a" * 32)).symlink_to(treasure)
    (home / OLD / "link").symlink_to(treasure)
    (binned,) = client(project).search_runs(["1"], run_view_type=ViewType.DELETED_ONLY)
    shutil.rmtree(home / binned.info.run_id)
    (home / binned.info.run_id).symlink_to(treasure)
    assert f"left: {binned.info.artifact_uri}: not a folder of its own in mlartifacts" in gc(capsys)
    assert (treasure / "artifacts/gold").read_text() == "gold"
    assert (home / ("a" * 32)).is_symlink()
    assert not (home / OLD).exists()


@pytest.mark.parametrize(
    ("place", "is_own"),
    [
        ("file:///r/NAME/artifacts", True),
        ("/r/NAME/artifacts", True),
        ("file:///r/NAME", False),
        ("file:///r/x/../NAME/artifacts", False),
        ("file:///r/other/artifacts", False),
        ("file:///elsewhere/NAME/artifacts", False),
        ("mlflow-artifacts:/1/NAME/artifacts", False),
        ("s3://r/NAME/artifacts", False),
    ],
)
def test_only_the_folder_that_was_made_for_it_goes_with_a_run(place: str, is_own: bool) -> None:
    expected = Path("/r", OLD) if is_own else None
    assert own_folder(Path("/r"), place.replace("NAME", OLD), OLD) == expected


def test_an_alias_given_meanwhile_stops_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def promote(*_: object) -> None:
        client(project).set_registered_model_alias("cells", "champion", "2")

    monkeypatch.setattr(sweeping, "known_ids", promote)
    with pytest.raises(
        TrackingError, match=r"^cells version 2 is champion since a moment ago; run `convflow"
    ):
        cli.run(["gc"])
    assert numbers(project) == [2, 3]


def test_it_waits_for_a_publication(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WAIT_S", 0.1)
    held = FileLock(project / ".mlflow.db.lock")
    with held, pytest.raises(TrackingError, match="held by another process"):
        cli.run(["gc"])
    assert numbers(project) == [1, 2, 3]


def test_without_a_store_what_ended_processes_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("params.yaml").write_text(PARAMS)
    dead, alive = 2**22 + 1, os.getpid()  # the first is above the largest number a Linux process can have
    for name in (f".convflow/tmp/{dead}-x", f".convflow/tmp/{alive}-x", ".convflow/downloads/cells/1"):
        Path(name).mkdir(parents=True)
    Path(f".convflow/downloads/cells/.2.{dead}.partial").mkdir()
    Path(f".mlflow.db.{dead}.partial-journal").write_bytes(b"1" * 100)
    Path(f".other.db.{dead}.partial").write_bytes(b"1")
    assert gc(capsys) == sorted(
        [
            f".convflow/tmp/{dead}-x: its process has ended",
            f".mlflow.db.{dead}.partial-journal: its process has ended, 0.1 kB",
            f".convflow/downloads/cells/.2.{dead}.partial: its process has ended",
            "kept: no version of cells is there",
            "gc: 3 things gone from sqlite:///mlflow.db, 0.1 kB freed",
        ]
    )
    assert not Path("mlflow.db").exists()
    assert sorted(path.name for path in Path().rglob("*[x0-9]") if path.is_dir()) == ["1", f"{alive}-x"]


def test_a_number_of_versions_that_is_none_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"^--keep 0: give a number from 1 on$"):
        cli.run(["gc", "--keep", "0"])
