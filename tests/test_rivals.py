"""The runs of the other models of the leaderboard, and the verdict on the candidate."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from convflow.errors import ModelError, TrackingError
from convflow.files import digest_folder, read_json, write_json
from convflow.registry import publisher
from convflow.registry.findings import wins
from convflow.registry.verdict import LONGEST_TAG, read_verdict
from convflow.stages import publish
from made_project import VERDICT, add_rival, make_package, make_project
from made_published import ONCE, Unasked, client, files_of, move, run_stage, state, the_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project published once, and not checked."""
    root = make_project(tmp_path_factory.mktemp("published"))
    package = make_package(tmp_path_factory.mktemp("package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "package_folder", lambda: package)
        patch.setattr(publish, "Proof", Unasked)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        run_stage()
        yield root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the published project; asked no further proof."""
    root = move(template, tmp_path / "project")
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow itself sets it
    monkeypatch.setattr(publish, "Proof", Unasked)
    monkeypatch.setattr(Unasked, "started", 0)
    return root


def test_each_rival_gets_one_run_and_no_version(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_rival(project)
    run_stage()
    assert capsys.readouterr().out.endswith("in sqlite:///mlflow.db; runs of svm added\n")
    runs, versions, aliases = state(project)
    assert sorted(runs) == [("cnn", "FINISHED"), ("cnn", "FINISHED"), ("svm", "FINISHED")]
    assert (len(versions), len(aliases)) == (2, 1)
    run = the_run(project, "svm")
    assert run.data.metrics == {"test/accuracy": 0.8}
    assert run.data.params == {
        "arch": "svm",
        "chosen.c": "1.5",
        "features.hog_cells": "8",
        "input.channels": "1",
        "input.fit": "stretch",
        "input.size_px": "8",
    }
    tags = run.data.tags
    assert (tags["convflow.kind"], tags["convflow.device"]) == ("baseline", "cpu")
    assert tags["convflow.git.commit"] == "none"
    assert tags["convflow.digest.model"] == digest_folder(project / "models/svm")
    assert set(files_of(run)) == {"model_folder/card.json", "predictions/svm.parquet"}
    assert len(client(project).search_logged_models([run.info.experiment_id])) == 2  # the candidate's


def test_rivals_are_looked_for_without_mlflow(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_rival(project)
    run_stage()
    monkeypatch.setattr(publish, "open_door", None)
    capsys.readouterr()
    run_stage()
    assert capsys.readouterr().out == "publish: cells version 2 is there already; nothing to add\n"


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_rivals_half_written_run_is_replaced_alone(
    project: Path, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add_rival(project)
    run_stage()
    half, before = the_run(project, "svm"), state(project)
    client(project).update_run(half.info.run_id, status=status)
    asked = Unasked.started
    capsys.readouterr()
    run_stage()
    assert capsys.readouterr().out == "publish: cells version 2 is there already; runs of svm added\n"
    assert state(project) == before
    assert the_run(project, "svm").info.run_id != half.info.run_id
    assert not Path(half.info.artifact_uri.removeprefix("file://")).exists()
    assert Unasked.started == asked  # nobody is asked for a run that is not served


def test_a_rival_that_cannot_be_written_is_marked_and_tried_again(project: Path) -> None:
    add_rival(project)
    (project / "models/svm/history.jsonl").write_text("no epoch")
    for _ in range(2):
        with pytest.raises(TrackingError, match=r"svm/history.jsonl:1: not an epoch"):
            run_stage()
        assert ("svm", "FAILED") in state(project)[0]
        assert len(state(project)[0]) == 3


def test_new_figures_of_a_rival_are_a_new_run_of_it(project: Path) -> None:
    add_rival(project)
    experiment = client(project).get_experiment_by_name("tests").experiment_id
    client(project).create_run(experiment, run_name="live-svm", tags={"convflow.live": "svm"})
    run_stage()  # the run that showed its training live gives way, too
    metrics = project / "reports/evaluation/metrics.json"
    write_json(metrics, read_json(metrics) | {"svm": {"test": {"accuracy": 0.7}}})
    run_stage()
    assert sorted(name for name, _ in state(project)[0]) == ["cnn"] * 3 + ["svm"] * 2
    write_json(metrics, read_json(metrics) | {"cnn": {"test": {"accuracy": 0.6}}})
    run_stage()
    assert sorted(name for name, _ in state(project)[0]) == ["cnn"] * 4 + ["svm"] * 2


def test_the_verdict_is_with_run_and_version(project: Path) -> None:
    run = the_run(project)
    (version,) = client(project).search_model_versions("name = 'cells'")
    for tags in (run.data.tags, version.tags):
        assert tags["convflow.verdict"] == "refused"
        assert tags["convflow.verdict.sentence"] == "accuracy 0.9 is below 0.95"
    assert read_json(files_of(run)["verdict.json"]) == VERDICT


def test_a_verdict_turned_round_is_told_of_the_version_that_is_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(project / "reports/verdict.json", {"accepted": True, "sentence": "all rules hold"})
    capsys.readouterr()
    for said in ("now verdict accepted (all rules hold)", "nothing to add"):
        run_stage()
        assert capsys.readouterr().out == f"publish: cells version 1 is there already; {said}\n"
    assert state(project) == ONCE
    run = the_run(project)
    (version,) = client(project).search_model_versions("name = 'cells'")
    assert run.data.tags["convflow.verdict"] == version.tags["convflow.verdict"] == "accepted"
    assert read_json(files_of(run)["verdict.json"])["sentence"] == "all rules hold"
    assert Unasked.started == 0


def test_a_new_version_is_announced_with_its_verdict(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(project / "reports/evaluation/metrics.json", {"cnn": {"test": {"accuracy": 0.8}}})
    run_stage()
    assert capsys.readouterr().out == (
        "publish: cells version 2, alias challenger, verdict refused (accuracy 0.9 is below 0.95), "
        "in sqlite:///mlflow.db\n"
    )
    assert Unasked.started == 1


def test_protocol_leak_and_wins_are_tags(project: Path) -> None:
    apart = {"balanced_accuracy": {"value": 0.1, "low": 0.02, "high": 0.2}}
    rows = [{"name": "cnn", "versus": None}, {"name": "svm", "versus": {"difference": apart}}]
    board = {"candidate": "cnn", "ranked_by": "balanced_accuracy", "models": rows}
    write_json(project / "reports/evaluation/leaderboard.json", board)
    write_json(project / "reports/evaluation/metrics.json", {"cnn": {"protocol": "one split"}})
    write_json(project / "data/splits/leak.json", {"sentence": "clear"})
    run_stage()
    tags = client(project).get_model_version("cells", "2").tags
    assert (tags["convflow.protocol"], tags["convflow.leak"]) == ("one split", "clear")
    assert tags["convflow.wins"] == "balanced_accuracy: ahead of svm"
    assert tags["convflow.kind"] == "network"


def test_what_the_candidate_is_ahead_of_is_read_off_the_paired_intervals() -> None:
    def row(name: str, low: float | None, high: float | None) -> dict[str, object]:
        return {"name": name, "versus": {"difference": {"auc": {"value": 0.1, "low": low, "high": high}}}}

    rows = [row("svm", -0.1, 0.2), row("knn", 0.01, 0.2), row("b", 0.1, 0.2), row("x", -0.2, -0.1)]
    board = {"ranked_by": "auc", "models": [*rows, row("n", None, None), {"name": "cnn", "versus": None}]}
    said = "auc: ahead of b, knn; level with svm; behind x; not compared with n"
    assert wins(board) == said
    assert wins({}) == ""


def test_a_long_sentence_is_cut_and_a_file_without_a_verdict_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "v.json", {"accepted": True, "sentence": "too\nlong " * 2000})
    tags = read_verdict(tmp_path / "v.json").tags()
    assert tags["convflow.verdict"] == "accepted"
    assert tags["convflow.verdict.sentence"] == ("too long " * 2000)[:LONGEST_TAG]
    for nonsense in ({"accepted": "yes"}, {}, []):
        write_json(tmp_path / "v.json", nonsense)
        with pytest.raises(ModelError, match=r"v.json: no verdict in it; run `dvc repro --force decide`"):
            read_verdict(tmp_path / "v.json")
