"""The registry's light half: names, addresses, keys, the ledger. None of it imports MLflow."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convflow.errors import ConvflowError, ModelError, TrackingError
from convflow.files import read_json, write_json, write_text
from convflow.params import read_params
from convflow.registry import rest
from convflow.registry.choice import Project, choose_model
from convflow.registry.key import Evidence, digests, rivals, run_key
from convflow.registry.ledger import find_folder, find_published, is_logged
from convflow.registry.record import MAX_NAME, flat_metrics, flat_params, read_history
from convflow.registry.resolve import resolve
from convflow.registry.scratch import scratch_folder
from convflow.registry.standing import registered_line
from convflow.registry.store import Store, Tracking, local_path, open_store, redact
from convflow.serving.record import Exported
from made_project import ARGUMENTS, POINT, SIDE, add_rival, make_project, write_model

POINT_TOLD = {"criterion": "f1", "positive": "good", "threshold": POINT, "value_on_val": None}
TRACKING = Tracking(uri="sqlite:///mlflow.db", artifacts="mlartifacts", experiment="e", live=True)


@pytest.mark.parametrize(
    "module", ["stages.publish", "verbs.follow", "verbs.predict", "verbs.summary", "verbs.ui"]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    code = f"import convflow.{module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mlflow", "torch", "pandas", "pyarrow", "sqlalchemy"} & set(done.stdout.split())


def test_nested_figures_become_names_mlflow_takes() -> None:
    tree = {
        "a": {"recall@0.5": 0.5, "é b": 1},
        "list": [1, 2.5],
        "t": True,
        "s": "x",
        "nan": float("nan"),
        "": 3,
    }
    assert flat_metrics(tree) == {"a/recall_0.5": 0.5, "a/é b": 1.0, "list/0": 1.0, "list/1": 2.5, "_": 3.0}


def test_two_figures_never_share_a_name() -> None:
    assert flat_metrics({"a@": 1, "a#": 2, "..": 3}) == {"a_": 1.0, "a__2": 2.0, "_": 3.0}


@given(
    st.dictionaries(st.text(max_size=8), st.dictionaries(st.text(max_size=300), st.integers(), max_size=3))
)
def test_no_figure_is_lost_and_no_name_too_long(tree: dict[str, Any]) -> None:
    flat = flat_metrics(tree)
    assert sorted(flat.values()) == sorted(float(v) for part in tree.values() for v in part.values())
    assert all(0 < len(name) <= MAX_NAME for name in flat)


def test_params_are_flat_text_without_passwords() -> None:
    tree = {"train": {"lr": 0.1, "sizes": [1, 2], "none": None}, "uri": "http://me:pw@host/x"}
    expected = {"train.lr": "0.1", "train.sizes": "[1, 2]", "train.none": "null", "uri": "http://***@host/x"}
    assert flat_params(tree) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://me:p%40w@db:5432/x", "postgresql+psycopg://***@db:5432/x"),
        ("https://token@host and http://a:b@c/", "https://***@host and http://***@c/"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("mail me@home.org", "mail me@home.org"),
    ],
)
def test_addresses_lose_their_passwords(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_history_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    write_text(tmp_path / "history.jsonl", '{"epoch": 1, "loss": 2}\n{"epo')
    with pytest.raises(TrackingError, match=r"history.jsonl:2: not an epoch .*dvc repro --force train"):
        read_history(tmp_path / "history.jsonl")


def test_the_environment_wins_over_the_address_in_params(tmp_path: Path) -> None:
    local = open_store(TRACKING, tmp_path, {})
    assert (local.uri, local.database) == (f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlflow.db")
    server = open_store(TRACKING, tmp_path, {"MLFLOW_TRACKING_URI": "http://me:pw@host:5000"})
    assert (server.is_server, server.database, server.shown) == (True, None, "http://***@host:5000")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_a_folder_is_no_store(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"is a folder, which MLflow no longer.*use sqlite:///mlflow.db"):
        open_store(TRACKING, tmp_path, {"MLFLOW_TRACKING_URI": uri})


def test_file_addresses_become_paths() -> None:
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("file:///a%2520b/c") == Path("/a%20b/c")
    assert local_path("/a b/c") == Path("/a b/c")
    assert local_path("s3://bucket/c") is None


def key_of(root: Path) -> str:
    evidence = Evidence(*(root / argument for argument in ARGUMENTS))
    return run_key(digests(evidence, read_params(root / "params.yaml")))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("models/cnn/history.jsonl", True),
        ("predictions/cnn.parquet", True),
        ("reports/evaluation/metrics.json", True),
        ("reports/validation/result.json", True),
        ("data/splits/members.parquet", True),
        ("reports/validation/index.html", False),
        ("reports/evaluation/slices.json", True),
        ("reports/evaluation/leaderboard.json", False),
        ("reports/timing/fit-cnn.json", False),
        ("reports/verdict.json", False),
        (f"data/packed/val/{SIDE}/rows.parquet", False),
    ],
)
def test_the_key_follows_content_and_no_clock(project: Path, file: str, changes: bool) -> None:
    before = key_of(project)
    with (project / file).open("ab") as stream:
        stream.write(b" ")
    assert (key_of(project) != before) == changes


def test_the_key_follows_params_but_not_where_to_publish(project: Path) -> None:
    before, text = key_of(project), (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("experiment: tests", "experiment: other"))
    assert key_of(project) == before
    (project / "params.yaml").write_text(text.replace("lr: 0.1", "lr: 0.2"))
    assert key_of(project) != before


def test_rivals_are_those_on_the_board_with_a_folder_and_predictions(project: Path) -> None:
    evidence = Evidence(*(project / argument for argument in ARGUMENTS))
    add_rival(project)
    figures = read_json(project / "reports/evaluation/metrics.json")
    write_json(project / "reports/evaluation/metrics.json", figures | {"gone": {}})
    write_model(project / "models/not-evaluated")
    (rival,) = rivals(evidence)
    assert (rival.name, rival.figures) == ("svm", {"test": {"accuracy": 0.8}})
    write_json(project / "reports/evaluation/metrics.json", figures | {"cnn": {}})
    (project / "params.yaml").write_text("train: {lr: 9}")
    assert rivals(evidence)[0].key == rival.key
    write_json(project / "models/svm/card.json", {})
    assert rivals(evidence)[0].key != rival.key


def test_a_missing_input_is_named(project: Path) -> None:
    (project / "models/cnn/card.json").unlink()
    (project / "models/cnn/history.jsonl").unlink()
    (project / "models/cnn/weights.txt").unlink()
    with pytest.raises(ConvflowError, match="models/cnn: no model there; run `dvc repro` to make it"):
        key_of(project)


def store_at(root: Path) -> Store:
    return open_store(TRACKING, root, {})


@pytest.mark.parametrize("content", [None, b"", b"no database at all", b"SQLite format 3\0 but broken"])
def test_whatever_is_no_known_database_is_answered_with_doubt(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    assert find_published(store_at(tmp_path), "k", "cells", "champion") is None
    assert find_folder(store_at(tmp_path), "cells", alias="champion") is None
    assert (tmp_path / "mlflow.db").exists() == (content is not None)


def small_registry(root: Path, *, status: str = "FINISHED", key: str = "k", copies: int = 1) -> Path:
    """The few columns of MLflow's tables that the ledger reads."""
    run, model = root / "run/artifacts", root / "model/artifacts"
    write_text(run / "a.txt", "a")
    write_text(model / "MLmodel", "m")
    write_model(model / "artifacts/cnn")
    with sqlite3.connect(root / "mlflow.db") as link:
        link.executescript(
            "CREATE TABLE tags (key, value, run_uuid);"
            "CREATE TABLE runs (run_uuid, status, lifecycle_stage, artifact_uri, experiment_id);"
            "CREATE TABLE experiments (experiment_id, name, lifecycle_stage);"
            "CREATE TABLE model_versions "
            "(name, version INTEGER, current_stage, run_id, status, storage_location);"
            "CREATE TABLE registered_model_aliases (name, alias, version INTEGER);"
            "CREATE TABLE model_version_tags (name, key, value, version INTEGER);"
            "INSERT INTO model_version_tags VALUES ('cells', 't', 'x', 1);"
            "INSERT INTO experiments VALUES (1, 'e', 'active');"
            "INSERT INTO registered_model_aliases VALUES ('cells', 'champion', 1);"
        )
        link.execute("INSERT INTO tags VALUES ('convflow.key', ?, 'r')", (key,))
        link.execute("INSERT INTO runs VALUES ('r', ?, 'active', ?, 1)", (status, run.as_uri()))
        for number in range(1, copies + 1):
            values = ("cells", number, "None", "r", "READY", model.as_uri())
            link.execute("INSERT INTO model_versions VALUES (?, ?, ?, ?, ?, ?)", values)
    link.close()
    return root


def test_the_ledger_is_sure_of_a_finished_run_with_its_version_and_files(tmp_path: Path) -> None:
    found = find_published(store_at(small_registry(tmp_path)), "k", "cells", "champion")
    assert found is not None
    assert (found.run_id, found.version, found.has_alias, found.tags) == ("r", "1", True, {"t": "x"})
    assert is_logged(store_at(tmp_path), "k")
    other = find_published(store_at(tmp_path), "k", "cells", "challenger")
    assert other is not None
    assert not other.has_alias


@pytest.mark.parametrize(
    "change", [{"status": "RUNNING"}, {"status": "FAILED"}, {"key": "other"}, {"copies": 2}, {"copies": 0}]
)
def test_the_ledger_doubts_what_is_not_one_finished_run(tmp_path: Path, change: dict[str, Any]) -> None:
    store = store_at(small_registry(tmp_path, **change))
    assert find_published(store, "k", "cells", "champion") is None
    assert is_logged(store, "k") == ("copies" in change)  # a rival has no version


@pytest.mark.parametrize("gone", ["run/artifacts/a.txt", "model/artifacts/MLmodel"])
def test_the_ledger_doubts_a_run_whose_files_are_gone(tmp_path: Path, gone: str) -> None:
    small_registry(tmp_path)
    (tmp_path / gone).unlink()
    assert find_published(store_at(tmp_path), "k", "cells", "champion") is None
    assert is_logged(store_at(tmp_path), "k") == gone.startswith("model")


def test_a_registered_model_is_found_and_verified(tmp_path: Path) -> None:
    store = store_at(small_registry(tmp_path))
    found = resolve(store, "models:/cells@champion", tmp_path / "downloads")
    assert (found.version, found.folder) == ("1", tmp_path / "model/artifacts/artifacts/cnn")
    assert resolve(store, "models:/cells/1", tmp_path).folder == found.folder
    (found.folder / "weights.txt").write_text("0.6")
    with pytest.raises(ModelError, match=r"weights.txt: its sha256 .*; it is not what was registered as"):
        resolve(store, "models:/cells@champion", tmp_path / "downloads")


def test_a_malformed_model_name_is_answered_with_the_form(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="models:/cells: write models:/NAME@ALIAS or"):
        resolve(store_at(tmp_path), "models:/cells", tmp_path)


def test_without_a_registry_the_only_local_model_answers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    exported = Exported(Path("exported/cnn"), Path("reports/timing/export-cnn.json"))
    assert choose_model(None, Project()) == (Path("models/cnn"), "models/cnn", POINT_TOLD, exported)
    write_model(Path("models/other"))
    with pytest.raises(ModelError, match="2 models in models/ and none registered"):
        choose_model(None, Project())
    with pytest.raises(ModelError, match="reports: no model folder"):
        choose_model("reports", Project())


class Answers(BaseHTTPRequestHandler):
    """A server that knows one published run; `gone` takes its artifacts away."""

    gone = False
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        method = self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
        self.asked.append(self.headers.get("Authorization", ""))
        version = {"version": "7", "tags": [{"key": "t", "value": "x"}]}
        known: dict[str, Any] = {
            "experiments/get-by-name": {"experiment": {"experiment_id": "1", "lifecycle_stage": "active"}},
            "runs/search": {"runs": [{"info": {"run_id": "r"}}]},
            "model-versions/search": {"model_versions": [version]},
            "registered-models/alias": {"model_version": {"version": "7"}},
            "artifacts/list": {} if self.gone else {"files": [{"path": "a"}]},
        }
        if "other" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(known[method]).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_server_is_asked_without_mlflow(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "asked", [])
    assert rest.find(f"http://me:pw@{server}/", "e", ("t", "k"), "cells") == ("r", "7", {"t": "x"})
    assert set(Answers.asked) == {"Basic bWU6cHc="}
    assert rest.find(f"http://{server}", "other", ("t", "k"), "cells") is None
    monkeypatch.setattr(Answers, "gone", True)
    assert rest.find(f"http://{server}", "e", ("t", "k"), "cells") is None


def test_a_server_that_is_not_there_is_named_at_once_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(TrackingError, match=r"http://\*\*\*@127.0.0.1:9: no MLflow server answers"):
        rest.find("http://me:pw@127.0.0.1:9", "e", ("t", "k"), "cells")


def test_what_the_dead_left_is_swept_and_what_the_living_use_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    for name in (f"{dead.pid}-x", f"{os.getpid()}-y", "mine"):
        write_text(tmp_path / ".convflow/tmp" / name / "image.png", "")
    with scratch_folder(tmp_path) as folder:
        assert Path(folder).parent == tmp_path / ".convflow/tmp"
        assert not (tmp_path / ".convflow/tmp" / f"{dead.pid}-x").exists()
    left = {path.name for path in (tmp_path / ".convflow/tmp").iterdir()}
    assert left == {f"{os.getpid()}-y", "mine"}


def test_the_summary_names_the_version_that_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = store_at(tmp_path)
    assert registered_line(store, "cells", "champion", {}) == "not registered yet; run `dvc repro`"
    small_registry(tmp_path)
    card = read_json(write_model(tmp_path / "models/cnn") / "card.json")
    line = "cells version 1 (champion), sqlite:///mlflow.db"
    assert registered_line(store, "cells", "champion", {"cnn": card}) == f"registered: {line}"
    card["weights"]["sha256"] = "other"
    said = registered_line(store, "cells", "champion", {"cnn": card})
    assert said == f"not registered yet; run `dvc repro` ({line} has other weights)"


def test_a_server_names_the_registered_version(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(TRACKING, Path("/"), {"MLFLOW_TRACKING_URI": f"http://me:pw@{server}"})
    line = registered_line(store, "cells", "champion", {})
    assert line == f"registered: cells version 7 (champion), http://***@{server}"
    found = find_published(store, "k", "cells", "champion")
    assert found is not None
    assert found.has_alias
    assert is_logged(store, "k")
    monkeypatch.setattr(Answers, "gone", True)
    assert not is_logged(store, "k")
    gone = open_store(TRACKING, Path("/"), {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    said = "registered: not known, no server answers at http://127.0.0.1:9"
    assert registered_line(gone, "cells", "c", {}) == said


def test_what_is_no_http_is_answered_with_doubt() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def babble() -> None:
            link, _ = other.accept()
            link.recv(4096)
            link.sendall(b"SSH-2.0\r\n")
            link.close()

        thread = threading.Thread(target=babble)
        thread.start()
        uri = f"http://127.0.0.1:{other.getsockname()[1]}"
        assert rest.find(uri, "e", ("t", "k"), "cells") is None
        thread.join()
