"""The proof that a logged model stands alone: the fresh process, what it is asked and may answer."""

import gc
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convflow.errors import TrackingError
from convflow.files import read_json
from convflow.registry import known, proving
from convflow.registry.door import unswept
from convflow.registry.known import known_answers
from convflow.registry.store import Store
from made_project import CLASSES, PATHS, POINT, SIDE, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder holds a project."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


def answers_of(known: known.Known, shift: float = 0.0) -> dict[str, Any]:
    """What a model that answers as known would leave, or one that is off by `shift`."""
    found: dict[str, Any] = {
        "columns": ["label", "probability", "p_bad one", "p_good"],
        "source": "else/x.py",
    }
    for way, every in (("bytes", 1), ("base64", 4), ("arrays", 4)):
        prob_NK = known.prob_NK[::every] + shift
        chosen = (known.prob_NK[::every, 1] >= POINT).astype(int)
        found[way] = np.column_stack([prob_NK[np.arange(len(chosen)), chosen], prob_NK])
        found[f"label_{way}"] = np.array(CLASSES)[chosen]
    return found


def test_the_proof_names_the_difference_and_the_remedy(project: Path, tmp_path: Path) -> None:
    told = {"criterion": "f1", "positive": "good", "threshold": POINT}
    asked = known_answers(Path(f"data/packed/val/{SIDE}"), Path("predictions/cnn.parquet"), CLASSES, 8, told)

    def compare(**answers: Any) -> float:
        np.savez(tmp_path / "a.npz", **answers)
        return asked.compare(tmp_path / "a.npz", "models:/m-1", 1e-4)

    good = answers_of(asked)
    assert set(good["label_bytes"]) == set(CLASSES)
    assert compare(**good) == 0.0
    likeliest = good | {"label_bytes": np.full(8, "bad one")}
    with pytest.raises(TrackingError, match=r"asked with bytes, it does not decide at the operating point"):
        compare(**likeliest)
    for way in ("bytes", "arrays"):
        off = good | {way: answers_of(asked, 0.01)[way]}
        with pytest.raises(TrackingError, match=rf"m-1: asked with {way}.* 0\.01 .*tolerance is 0\.0001"):
            compare(**off)
    with pytest.raises(TrackingError, match=r"asked with base64.* up to inf"):
        compare(**good | {"base64": good["base64"][:1]})
    own = str(Path(known.package_folder(), "__init__.py"))
    with pytest.raises(TrackingError, match=r"does not stand alone \(code .*convflow"):
        compare(**good | {"source": own})


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store(f"sqlite:///{tmp_path}/none.db", "e", tmp_path)


class Question:
    """Stands in for known images."""

    def write_questions(self, path: Path) -> None: ...
    def compare(self, *_: object) -> float:
        return 0.0


def sham(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    Path("script.py").write_text(script)
    monkeypatch.setattr(proving, "_SCRIPT", Path("script.py").resolve())


def test_the_stranger_has_nothing_of_ours(nowhere: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sham(
        monkeypatch,
        "import json, os, sys; asked = json.loads(sys.stdin.readline())\n"
        "seen = [asked, sys.argv[1:], sys.path, 'PYTHONPATH' in os.environ, os.getcwd()]\n"
        "open(asked['answers'], 'w').write(json.dumps(seen))",
    )
    monkeypatch.setenv("PYTHONPATH", "ours")
    with proving.Proof(nowhere, ["torch"]) as proof:
        proof.ask("models:/m-1", Question())
        assert proof.check("models:/m-1", Question(), 1e-4) == 0.0
        (answers,) = Path(".convflow/tmp").rglob("answers.npz")
        asked, modules, path, has_ours, folder = read_json(answers)
    assert (asked["store"], asked["model"]) == (nowhere.uri, "models:/m-1")
    assert modules == ["mlflow", "numpy", "pandas", "torch", "mlflow.store.tracking.sqlalchemy_store"]
    assert not has_ours
    assert Path(folder).parent == Path(".convflow/tmp").resolve()
    assert not {"", "ours", folder, str(Path.cwd())} & set(path)  # Path.cwd() is the script's own folder
    assert list(Path(".convflow/tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", r"m-1: the logged model gave no answer in 0\.5 s; no version"),
        ("raise SystemExit('no such\\nlibrary')", r"m-1: .* cannot be loaded and asked \(library\); no v"),
        ("import os; os.kill(os.getpid(), 9)", r"m-1: .* cannot be loaded and asked \(no message\); no v"),
    ],
)
def test_a_stranger_that_does_not_answer_is_one_line_and_gone(
    nowhere: Store, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    monkeypatch.setattr(proving, "_WAIT_S", 0.5 if "sleep" in script else 60)
    sham(monkeypatch, script)
    with proving.Proof(nowhere, []) as proof:
        proof.start()
        process = proof._process
        proof.ask("models:/m-1", Question())
        with pytest.raises(TrackingError, match=message):
            proof.check("models:/m-1", Question(), 1e-4)
    assert process.returncode is not None
    assert list(Path(".convflow/tmp").iterdir()) == []


def test_a_proof_nobody_asks_for_starts_nothing(nowhere: Store) -> None:
    with proving.Proof(nowhere, []) as proof:
        pass
    assert "_process" not in vars(proof)


def test_a_stranger_whose_parent_is_gone_ends(nowhere: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-P", str(proving._SCRIPT), "no.such.module"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_known_answers_are_spread_over_the_images_both_sides_have(project: Path) -> None:
    known = known_answers(Path(f"data/packed/val/{SIDE}"), Path("predictions/cnn.parquet"), CLASSES, 4)
    pixels = np.load(f"data/packed/val/{SIDE}/pixels.npy")
    np.testing.assert_array_equal(known.pixels, pixels[[0, 3, 7, 11]])
    assert len(
        known_answers(Path(f"data/packed/val/{SIDE}"), Path("predictions/cnn.parquet"), CLASSES, 99).pixels
    ) == len(PATHS)


def test_known_probabilities_are_calibrated(project: Path) -> None:
    told = {"criterion": "argmax", "temperature": 2.0}
    paths = Path(f"data/packed/val/{SIDE}"), Path("predictions/cnn.parquet")
    raw, calibrated = (known_answers(*paths, CLASSES, 4, point) for point in (None, told))
    powers = np.sqrt(raw.prob_NK)
    np.testing.assert_allclose(calibrated.prob_NK, powers / powers.sum(axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_is_left_alone_meanwhile_and_collected_again_afterwards(was_on: bool) -> None:
    try:
        gc.enable() if was_on else gc.disable()
        with suppress(KeyError), unswept():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
        gc.unfreeze()
