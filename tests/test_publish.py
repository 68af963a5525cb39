"""The stage publish, in one process, with a stand-in for the network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from convflow.errors import ParamsError, TrackingError
from convflow.files import read_json, write_json, write_text
from convflow.params import read_params
from convflow.registry import publisher
from convflow.registry.source import gather_source
from convflow.registry.version import find_version
from convflow.stages import publish
from made_project import POINT, make_package, make_project
from made_published import ONCE, Unasked, client, files_of, move, run_stage, state, the_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project published once, truly checked by a fresh process."""
    root = make_project(tmp_path_factory.mktemp("published"))
    package = make_package(tmp_path_factory.mktemp("package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "package_folder", lambda: package)
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


def test_the_run_holds_params_curves_figures_and_origin(project: Path) -> None:
    run = the_run(project)
    assert state(project) == ONCE
    assert run.data.params["train.lr"] == "0.1"
    assert run.data.metrics == pytest.approx(
        {"train_loss": 1 / 3, "test/accuracy": 0.9, "test/recall_0.5/bad one": 0.5, "n": 12}
        | {"operating_point/threshold": 0.25}
    )
    curve = client(project).get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    tags = run.data.tags
    assert (tags["convflow.device"], tags["convflow.git.commit"]) == ("cuda", "none")
    assert (tags["convflow.python"], tags["convflow.torch"]) == ("3.99", "unknown")
    assert tags["convflow.check"].startswith("4 images, largest difference")
    assert run.inputs.dataset_inputs[0].dataset.digest == tags["convflow.data"][:36]


def test_the_files_people_want_are_with_the_run_and_data_docs_are_not(project: Path) -> None:
    assert set(files_of(the_run(project))) == {
        "evaluation/metrics.json",
        "model_folder/card.json",
        "model_folder/history.jsonl",
        "predictions/cnn.parquet",
        "source/params.yaml",
        "splits/members.parquet",
        "timing/fit-cnn.json",
        "validation/index.html",
        "validation/result.json",
        "verdict.json",
    }


def test_a_version_is_found_by_number_and_by_alias_with_what_was_kept_of_it(project: Path) -> None:
    by_number, by_alias = find_version("1"), find_version("challenger")
    run = the_run(project)
    told = (by_number.shown, by_number.model, by_number.run_id, by_number.status)
    assert told == ("cells version 1 (challenger)", "cnn", run.info.run_id, "FINISHED")
    assert (by_alias.version, find_version("models:/cells@challenger").tags) == ("1", by_alias.tags)
    assert (by_number.params["train.lr"], by_number.tag("git.commit"), by_number.lock()) == (
        "0.1",
        None,
        None,
    )
    assert by_number.settings() == read_params(project / "params.yaml")
    assert by_number.fetch("no such file") is None
    client(project).delete_run(run.info.run_id)
    assert find_version("1").status == "deleted"


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ("7", TrackingError, r"^cells 7: no such version in sqlite:///mlflow.db; there are 1 \(aliases: ch"),
        ("champion", TrackingError, r"^cells champion: no such version in .*; there are 1 \(aliases: challe"),
        (
            "models:/others/1",
            TrackingError,
            r"^others 1: no such version in .*; nothing is registered as oth",
        ),
        ("first one", ParamsError, r"^'first one': name a version by its number, as 3, or by its alias, as "),
    ],
)
def test_a_version_that_is_not_there_is_named_with_those_that_are(
    project: Path, asked: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        find_version(asked)


def test_before_anything_is_registered_it_is_said_how_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        TrackingError, match=r"^sqlite:///mlflow.db: nothing is registered yet; run `convflow"
    ):
        find_version("1")


def test_passwords_stay_out_of_what_is_kept(tmp_path: Path) -> None:
    write_text(tmp_path / "params.yaml", "tracking: {uri: 'http://me:pw@host'}\n")
    write_text(tmp_path / "data/sides.csv", "a\r\né\n")
    gather_source(tmp_path, tmp_path / "kept")
    kept = {path.name: path.read_bytes().decode() for path in (tmp_path / "kept").rglob("*.*")}
    assert kept == {"params.yaml": "tracking: {uri: 'http://***@host'}\n", "sides.csv": "a\r\né\n"}


def test_the_operating_point_travels_with_the_model(project: Path) -> None:
    (place,) = (project / "mlartifacts").rglob("artifacts/operating_point.json")
    told = read_json(place)
    assert (told["positive"], told["threshold"]) == ("good", POINT)


def test_no_pickle_is_among_the_models_files(project: Path) -> None:
    files = [path for path in (project / "mlartifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]


def test_publishing_again_adds_nothing(project: Path) -> None:
    run_stage()
    assert state(project) == ONCE


def test_new_timing_is_no_new_model(project: Path) -> None:
    write_json(project / "reports/timing/fit-cnn.json", {"device": "cpu", "seconds": 99})
    run_stage()
    assert state(project) == ONCE


def test_another_tracking_section_is_no_new_model(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("live: true", "live: false"))
    run_stage()
    assert state(project) == ONCE


def test_other_results_are_a_new_version_and_the_challenger(project: Path) -> None:
    write_json(project / "reports/evaluation/metrics.json", {"cnn": {"test": {"accuracy": 0.8}}})
    run_stage()
    runs, versions, aliases = state(project)
    assert runs == [("cnn", "FINISHED")] * 2
    assert sorted(versions) == [("1", "FINISHED"), ("2", "FINISHED")]
    assert aliases == {"challenger": "2"}


def test_back_at_earlier_params_the_alias_goes_back_too(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = project / "reports/evaluation/metrics.json"
    before = metrics.read_bytes()
    write_json(metrics, {"cnn": {"test": {"accuracy": 0.8}}})
    run_stage()
    metrics.write_bytes(before)
    capsys.readouterr()
    for said in ("alias challenger points to it again", "nothing to add"):
        run_stage()
        assert capsys.readouterr().out == f"publish: cells version 1 is there already; {said}\n"
    assert state(project)[2] == {"challenger": "1"}
    assert len(state(project)[1]) == 2


def test_a_deleted_database_is_written_again(project: Path) -> None:
    (project / "mlflow.db").unlink()
    run_stage()
    assert state(project) == ONCE
    assert sorted(p.name for p in project.glob(".mlflow.db*")) == [".mlflow.db.lock"]


def test_deleted_artifacts_are_written_again_and_every_alias_moves_along(project: Path) -> None:
    client(project).set_registered_model_alias("cells", "champion", "1")
    shutil.rmtree(project / "mlartifacts")
    run_stage()
    assert state(project) == (
        [("cnn", "FINISHED")],
        [("2", "FINISHED")],
        {"champion": "2", "challenger": "2"},
    )


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_half_written_run_is_replaced(project: Path, status: str) -> None:
    run = the_run(project)
    client(project).delete_model_version("cells", "1")
    client(project).update_run(run.info.run_id, status=status)
    run_stage()
    runs, versions, aliases = state(project)
    assert (runs, [status for _, status in versions]) == ([("cnn", "FINISHED")], ["FINISHED"])
    assert aliases == {"challenger": versions[0][0]}
    assert the_run(project).info.run_id != run.info.run_id
    assert not Path(run.info.artifact_uri.removeprefix("file://")).exists()


@pytest.mark.parametrize("name", ["a moved one", "a%20moved%2Fone"])
def test_a_moved_project_publishes_to_its_new_place(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = project.with_name(name)
    shutil.move(project, moved)
    monkeypatch.chdir(moved)
    run_stage()
    run_stage()
    assert capsys.readouterr().out.endswith("is there already; nothing to add\n")
    runs, versions, aliases = state(moved)
    assert (runs, len(versions), len(aliases)) == ([("cnn", "FINISHED")], 1, 1)
    assert the_run(moved).info.artifact_uri.startswith(moved.as_uri())


def test_a_live_run_gives_way_to_the_real_one(project: Path) -> None:
    (project / "models/cnn/history.jsonl").write_text('{"epoch": 1, "train_loss": 0.7}\n')
    asked = client(project)
    experiment = asked.get_experiment_by_name("tests").experiment_id
    asked.create_run(experiment, run_name="live-cnn", tags={"convflow.live": "cnn"})
    asked.create_run(experiment, run_name="live-other", tags={"convflow.live": "other"})
    run_stage()
    assert sorted(name for name, _ in state(project)[0]) == ["cnn", "cnn", "live-other"]


def test_a_model_that_answers_otherwise_is_not_registered(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Unasked):
        def check(self, *_: object) -> float:
            raise TrackingError("differs")

    monkeypatch.setattr(publish, "Proof", Wrong)
    write_json(project / "reports/evaluation/metrics.json", {"cnn": {}})
    with pytest.raises(TrackingError, match="differs"):
        run_stage()
    runs, versions, aliases = state(project)
    assert sorted(runs) == [("cnn", "FAILED"), ("cnn", "FINISHED")]
    assert (versions, aliases) == (ONCE[1], ONCE[2])
