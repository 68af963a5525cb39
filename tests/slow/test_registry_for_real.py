"""Publishing by real processes, with a real network: killed, at once, to a server, and followed live."""

import ast
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from real_project import make_real_project, served

from convflow.baselines.features import FeatureSpec, block_sizes, features_of
from convflow.baselines.fitting import fit_baseline
from convflow.baselines.predictor import save_baseline
from convflow.baselines.rows import Rows, Search
from convflow.files import read_json, write_json
from convflow.registry.kinds import needs_of
from convflow.serving.record import write_record
from convflow.tables import write_table
from made_project import ARGUMENTS, CLASSES, PATHS, SIDE, add_rival

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
PUBLISH = [sys.executable, "-m", "convflow", "run", "publish", *ARGUMENTS]
STAGE_S = 240


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made project, with a network of our own in place of the stand-in."""
    root = make_real_project(tmp_path / "a project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return root


def publish(root: Path) -> str:
    done = subprocess.run(PUBLISH, cwd=root, capture_output=True, text=True, timeout=STAGE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def published(root: Path, uri: str = "") -> tuple[list[str], list[str], list[str]]:
    """Status of all runs that are not deleted; status of each version's run; aliases."""
    uri = uri or f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    versions = client.search_model_versions("name = 'cells'")
    behind = [client.get_run(version.run_id).info.status for version in versions]
    return [run.info.status for run in runs], behind, sorted(client.get_registered_model("cells").aliases)


ONCE = (["FINISHED"], ["FINISHED"], ["challenger"])


def test_a_second_publication_adds_nothing(project: Path) -> None:
    said = publish(project)
    assert said.startswith("publish: cells version 1, alias challenger, verdict refused (accuracy 0.9 is")
    assert publish(project) == "publish: cells version 1 is there already; nothing to add\n"
    assert published(project) == ONCE
    predict = [sys.executable, "-m", "convflow", "predict", "--json", "white.png"]
    subprocess.run(
        [sys.executable, "-c", "from PIL import Image; Image.new('L', (9, 9), 255).save('white.png')"],
        cwd=project,
        check=True,
    )
    done = subprocess.run(predict, cwd=project, capture_output=True, text=True, check=True)
    assert done.stderr == "model: models:/cells@challenger (version 1), 'good' from probability 0.25 on\n"
    assert [row["path"] for row in json.loads(done.stdout)] == ["white.png"]


def test_a_baseline_is_served_as_well_and_without_torch(project: Path) -> None:
    spec = FeatureSpec(hog_cells=2, lbp_radii=(1,), histogram_bins=4)
    pixels = np.load(project / f"data/packed/val/{SIDE}/pixels.npy")
    rows = Rows(features_of(pixels, spec), np.arange(12) % 2, np.ones(12), 2, block_sizes(spec, 1))
    fit = fit_baseline("svm", rows, rows, Search({"c": [1.0], "gamma": [1.0]}, folds=2))
    folder = add_rival(project)
    (folder / "weights.txt").unlink()
    card = read_json(folder / "card.json") | {"features": asdict(spec)}
    save_baseline(folder, fit.baseline, card)
    write_record(project / "exported/svm", read_json(folder / "card.json"), {"check": None})
    prob_NK = fit.baseline.predict_proba(rows.feature_NF)
    answers = {"path": PATHS, **{f"p_{name}": prob_NK[:, k] for k, name in enumerate(CLASSES)}}
    write_table(project / "predictions/svm.parquet", pa.table(answers))
    point = {"criterion": "f1", "positive": "good", "threshold": 0.4, "temperature": 1.5}
    figures = {"svm": {"operating_point": point}}
    write_json(project / "reports/evaluation/metrics.json", figures)
    command = [word.replace("cnn", "svm") for word in PUBLISH]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert published(project) == ONCE
    (listed,) = (project / "mlartifacts").rglob("requirements.txt")
    names = {line.partition("==")[0] for line in listed.read_text().splitlines()}
    assert {"scikit-learn", "scikit-image", "skops", "scipy"} <= names
    assert not names & {"torch", "torchvision", "safetensors"}


def test_predictions_of_another_model_are_refused(project: Path) -> None:
    wrong = {"path": PATHS, "p_bad one": np.zeros(12, np.float32), "p_good": np.ones(12, np.float32)}
    write_table(project / "predictions/cnn.parquet", pa.table(wrong))
    done = subprocess.run(PUBLISH, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "probabilities differ from the predictions by up to" in done.stderr


def test_killed_at_any_moment_it_is_published_exactly_once(project: Path) -> None:
    rng = random.Random(int(os.environ.get("CONVFLOW_SEED", "1")))
    for _ in range(int(os.environ.get("CONVFLOW_KILLS", "6"))):
        with subprocess.Popen(PUBLISH, cwd=project, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(timeout=rng.uniform(0.3, 7))
                (project / "mlflow.db").unlink()  # it came to its end: give the next kill something to hit
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
    publish(project)
    assert published(project) == ONCE
    assert publish(project).endswith("is there already; nothing to add\n")


def test_three_at_once_on_no_database_make_one_version(project: Path) -> None:
    started = [
        subprocess.Popen(PUBLISH, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=STAGE_S) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    assert published(project) == ONCE


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with served(f"sqlite:///{tmp_path}/s.db", tmp_path / "s") as uri:
        yield uri


def test_a_server_is_published_to_once_as_well(
    project: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    add_rival(project)
    assert publish(project).endswith(f"in {server}; runs of svm added\n")
    assert publish(project) == "publish: cells version 1 is there already; nothing to add\n"
    assert published(project, server) == (["FINISHED"] * 2, *ONCE[1:])
    write_json(project / "reports/verdict.json", {"accepted": True, "sentence": "all rules hold"})
    told = "publish: cells version 1 is there already; now verdict accepted (all rules hold)\n"
    assert publish(project) == told
    assert publish(project) == "publish: cells version 1 is there already; nothing to add\n"
    predict = [sys.executable, "-m", "convflow", "predict", "--csv", "nope.png"]
    write_json(project / "nope.png", {})
    done = subprocess.run(predict, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "model: models:/cells@challenger (version 1), 'good' from probability 0.25 on",
    )
    assert not (project / "mlflow.db").exists()


def test_a_training_is_shown_live_until_its_model_is_published(project: Path) -> None:
    history = project / ".convflow/live/cnn/history.jsonl"
    history.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as parent:
        follow = ["-m", "convflow", "follow", "--wait", "0.2", "--until-pid", str(parent.pid)]
        with subprocess.Popen([sys.executable, *follow], cwd=project, stderr=subprocess.PIPE) as follower:
            time.sleep(3)
            history.write_text('{"epoch": 1, "loss": 2.0}\n{"epoch": 2, "loss": 1.0}\n')
            try:
                assert wait_for_live(project) == {"loss": 1.0}
                publish(project)
            finally:
                parent.kill()  # and not waited for: a process that has ended counts as gone
            assert follower.wait(timeout=60) == 0
            assert follower.stderr is not None
            assert follower.stderr.read() == b""
    assert published(project) == ONCE


def wait_for_live(project: Path) -> dict[str, float]:
    uri = f"sqlite:///{project / 'mlflow.db'}"
    for _ in range(120):
        time.sleep(0.5)
        if not (project / "mlflow.db").exists():
            continue
        client = MlflowClient(uri, registry_uri=uri)
        experiment = client.get_experiment_by_name("tests")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        if runs and runs[0].data.metrics:
            assert runs[0].info.run_name == "live-cnn"
            return dict(runs[0].data.metrics)
    raise AssertionError("no live run within a minute")


ANSWERING = {
    "network": ["learning.predictor", "nets.vision"],
    "baseline": [f"baselines.{name}" for name in ("predictor", "features", "svm", "logistic", "neighbours")],
}


@pytest.mark.parametrize("kind", ["network", "baseline"])
def test_the_listed_requirements_are_what_answering_imports(kind: str, tmp_path: Path) -> None:
    modules = [f"convflow.{name}" for name in ("models", "registry.served", *ANSWERING[kind])]
    code = f"import sys, {', '.join(modules)}; print(*(n for n in sys.modules if n.startswith('convflow.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {imported for name in done.stdout.split() for imported in imports(name)}
    found -= {"convflow", "threadpoolctl"}  # which scikit-learn brings along
    packages = metadata.packages_distributions()
    write_json(tmp_path / "card.json", {"kind": kind})
    needs = needs_of(tmp_path)
    listed = set(needs.distributions)
    assert [name for name in found if not listed & set(packages[name])] == []
    unused = listed - {one for name in found for one in packages[name]}
    assert unused == {"pydantic", "pyyaml"}  # for the rest of the package
    assert {name.partition(".")[0] for name in needs.modules} <= found


def imports(module: str) -> set[str]:
    """The packages that the source of one of our modules imports by name."""
    path = Path(__file__).parents[2] / "src" / (module.replace(".", "/") + ".py")
    nodes = list(ast.walk(ast.parse(path.read_text()))) if path.is_file() else []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def test_a_follower_that_is_ended_closes_its_run(project: Path) -> None:
    history = project / ".convflow/live/cnn/history.jsonl"
    history.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-m", "convflow", "follow"], cwd=project) as follower:
        time.sleep(3)
        history.write_text('{"epoch": 1, "loss": 1.0}\n')
        try:
            assert wait_for_live(project) == {"loss": 1.0}
        finally:
            follower.terminate()
    assert follower.returncode == 0
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
