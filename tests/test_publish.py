"""The stage publish, in one process, with a stand-in for the network."""

import base64
import io
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image

from convflow.errors import TrackingError
from convflow.evaluation.operating_point import told_point
from convflow.files import read_json, write_json
from convflow.registry import wrapped
from convflow.registry.served import Served
from convflow.stages import publish
from made_project import ARGUMENTS, CLASSES, PATHS, make_package, make_project

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*Model logged without a signature"),
]
PARAMS = publish.Params(name="cells", alias="challenger", check_images=4, tolerance=1e-4)


class Unasked:
    """A proof that asks nobody: the fresh process costs seconds, and one test below takes it."""

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> "Unasked":
        return self

    def __exit__(self, *_: object) -> None: ...
    def check(self, tolerance: float) -> float:
        return 0.0


def run_stage() -> None:
    publish.run(*map(Path, ARGUMENTS), params=PARAMS)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project published once, truly checked by a fresh process."""
    root = make_project(tmp_path_factory.mktemp("published"))
    package = make_package(tmp_path_factory.mktemp("package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrapped, "package_folder", lambda: package)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        run_stage()
        yield root


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the published project, moved in its database as well; asked no further proof."""
    root = tmp_path / "project"
    shutil.copytree(template, root)
    with sqlite3.connect(root / "mlflow.db") as link:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            link.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(template), str(root)))  # noqa: S608
    link.close()
    monkeypatch.chdir(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow itself sets it
    monkeypatch.setattr(wrapped, "Proof", Unasked)
    return root


def client(root: Path) -> MlflowClient:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return MlflowClient(uri, registry_uri=uri)


def state(root: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, str]]:
    """Runs with their status, versions with their runs' status, aliases."""
    asked = client(root)
    found = asked.get_experiment_by_name("tests")
    runs = asked.search_runs([found.experiment_id])
    versions = asked.search_model_versions("name = 'cells'")
    status = [(run.info.run_name, run.info.status) for run in runs]
    behind = [(str(one.version), asked.get_run(one.run_id).info.status) for one in versions]
    return status, behind, {k: str(v) for k, v in asked.get_registered_model("cells").aliases.items()}


ONCE = ([("cnn", "FINISHED")], [("1", "FINISHED")], {"challenger": "1"})


def the_run(root: Path) -> Any:
    asked = client(root)
    return asked.search_runs([asked.get_experiment_by_name("tests").experiment_id])[0]


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
    folder = Path(the_run(project).info.artifact_uri.removeprefix("file://"))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "evaluation/metrics.json",
        "model_folder/card.json",
        "model_folder/history.jsonl",
        "predictions/cnn.parquet",
        "timing/train.json",
        "validation/index.html",
        "validation/result.json",
    }


def test_no_pickle_is_among_the_models_files(project: Path) -> None:
    files = [path for path in (project / "mlartifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]


def test_publishing_again_adds_nothing(project: Path) -> None:
    run_stage()
    assert state(project) == ONCE


def test_new_timing_is_no_new_model(project: Path) -> None:
    write_json(project / "reports/timing/train.json", {"device": "cpu", "seconds": 99})
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
        def check(self, tolerance: float) -> float:
            raise TrackingError("differs")

    monkeypatch.setattr(wrapped, "Proof", Wrong)
    write_json(project / "reports/evaluation/metrics.json", {"cnn": {}})
    with pytest.raises(TrackingError, match="differs"):
        run_stage()
    runs, versions, aliases = state(project)
    assert sorted(runs) == [("cnn", "FAILED"), ("cnn", "FINISHED")]
    assert (versions, aliases) == (ONCE[1], ONCE[2])


def test_the_proof_names_the_difference_and_the_remedy(template: Path) -> None:
    told = {"criterion": "f1", "positive": "good", "threshold": 0.25}
    known = wrapped.known_answers(Path("data/packed/val"), Path("predictions/cnn.parquet"), CLASSES, 4, told)
    proof = wrapped.Proof.__new__(wrapped.Proof)
    proof._known, proof._model_uri = known, "models:/m-1"
    good = known.prob_NK[:, 1] >= 0.25
    labels = np.where(good, "good", "bad one")
    got = np.column_stack([np.where(good, known.prob_NK[:, 1], known.prob_NK[:, 0]), known.prob_NK])
    assert set(labels) == {"good", "bad one"}
    assert proof._compare("bytes", got, labels, 1e-4) == 0.0
    likeliest = np.full(4, "bad one")
    with pytest.raises(TrackingError, match=r"asked with bytes, it does not decide at the operating point"):
        proof._compare("bytes", got, likeliest, 1e-4)
    with pytest.raises(TrackingError, match=r"models:/m-1: asked with bytes.* 0\.01 .*tolerance is 0\.0001"):
        proof._compare("bytes", got + 0.01, labels, 1e-4)


def test_a_proof_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapped, "_WAIT_S", 0.01)
    with subprocess.Popen(["sleep", "60"], stderr=subprocess.PIPE) as sleeper:
        proof = wrapped.Proof.__new__(wrapped.Proof)
        proof._process, proof._model_uri = sleeper, "models:/m-1"
        with pytest.raises(
            TrackingError, match=r"m-1: the logged model gave no answer in 0\.01 s; no version"
        ):
            proof.check(1e-4)
        sleeper.kill()


def test_known_answers_are_spread_over_the_images_both_sides_have(template: Path) -> None:
    known = wrapped.known_answers(Path("data/packed/val"), Path("predictions/cnn.parquet"), CLASSES, 4)
    pixels = np.load("data/packed/val/pixels.npy")
    np.testing.assert_array_equal(known.pixels, pixels[[0, 3, 7, 11]])
    assert len(
        wrapped.known_answers(Path("data/packed/val"), Path("predictions/cnn.parquet"), CLASSES, 99).pixels
    ) == len(PATHS)


def test_the_registered_model_decides_at_the_operating_point(project: Path) -> None:
    (place,) = (project / "mlartifacts").rglob("artifacts/operating_point.json")
    told = read_json(place)
    assert (told["positive"], told["threshold"]) == ("good", 0.25)
    model = Served()
    model.predictor, model.point = Grey(), told_point(told, CLASSES, "here")
    pictures = np.array([0, 60, 70, 255], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    answer = model.predict(None, pictures)
    assert answer["label"].tolist() == ["bad one", "bad one", "good", "good"]
    np.testing.assert_allclose(answer["p_good"], [0, 60 / 255, 70 / 255, 1], rtol=1e-6)
    np.testing.assert_allclose(answer["probability"], [1, 195 / 255, 70 / 255, 1], rtol=1e-6)


def test_the_served_model_takes_bytes_base64_and_arrays() -> None:
    model = Served()
    model.predictor = Grey()
    white = np.full((8, 8, 1), 255, np.uint8)
    png = wrapped._png(white)
    expected = pd.DataFrame({"label": ["good"], "probability": [1.0], "p_bad one": [0.0], "p_good": [1.0]})
    text = base64.b64encode(png).decode()
    for asked in (
        pd.DataFrame({"image": [png]}),
        pd.DataFrame({"image": [text]}),
        pd.DataFrame({"image": ["data:image/png;base64," + text]}),
        pd.DataFrame({"image": [white]}),
        {"image": [white.tolist()]},
        white[None],
        np.full((1, 20, 30), 255, np.int64),
        [png],
    ):
        pd.testing.assert_frame_equal(model.predict(None, asked), expected)


class Grey:
    """White is good, black is bad."""

    classes = CLASSES
    card = {"input": {"size_px": 8, "channels": 1}}  # noqa: RUF012

    def decode(self, source: bytes) -> Any:
        return np.asarray(Image.open(io.BytesIO(source)).convert("L").resize((8, 8)))[..., None]

    def predict_proba(self, images: Any) -> Any:
        good = (images.mean(axis=(1, 2, 3)) / 255).astype(np.float32)
        return np.stack([1 - good, good], axis=1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (pd.DataFrame({"img": [b""]}), r"no column 'image' among \['img'\]"),
        (["not base64!"], "image 0: text that is not base64"),
        (np.zeros((1, 8, 8, 1), np.float32), "image 0: an array .* of float32"),
        (
            np.zeros((20, 30, 3), np.uint8),
            r"image 0: an array \(30, 3\) is a row.*one image as image\[None\]",
        ),
        (np.zeros((8, 8, 1), np.uint8), r"image 0: an array \(8, 1\) is a row of pixels"),
        (np.zeros((20, 30), np.uint8), r"image 0: an array \(30,\) is a row of pixels"),
        (np.zeros((20, 30, 3), np.uint8).tolist(), r"image 0: an array \(30, 3\) is a row of pixels"),
        (np.full((1, 8, 8, 1), 300), "image 0: values 300 to 300; expected 0 to 255"),
    ],
)
def test_what_the_model_cannot_take_is_named(asked: Any, message: str) -> None:
    model = Served()
    model.predictor = Grey()
    with pytest.raises(ValueError, match=message):
        model.predict(None, asked)
