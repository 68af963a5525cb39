"""A baseline on disk: what goes in comes out, the same bytes each time."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from convflow.baselines.features import FeatureSpec, block_sizes, features_of
from convflow.baselines.kinds import KINDS
from convflow.baselines.predictor import load_predictor, save_baseline
from convflow.baselines.skops_file import ESTIMATORS, read_skops, write_skops
from convflow.errors import DataError, ModelError
from made_baselines import SPEC, card, fit, pixels
from made_features import SIDE


@pytest.fixture(scope="module")
def fits():
    return {kind: fit(kind) for kind in KINDS}


@pytest.fixture
def svm(fits, tmp_path):
    save_baseline(tmp_path, fits["svm"], card("svm"))
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_the_baseline_comes_back_and_answers_the_same(kind, fits, tmp_path):
    save_baseline(tmp_path, fits[kind], card(kind))
    predictor = load_predictor(tmp_path, "cuda")  # which a baseline has no use for
    images = pixels(9, seed=2)
    spec = FeatureSpec(**(SPEC | {"lbp_radii": (1,)}))
    expected = fits[kind].predict_proba(features_of(images, spec))
    found = predictor.predict_proba(images)
    assert np.array_equal(found, expected)
    assert predictor.classes == ["a", "b", "c"]
    alone = np.concatenate([predictor.predict_proba(images[n : n + 1]) for n in range(9)])
    np.testing.assert_allclose(alone, found, atol=1e-6)
    assert predictor.predict_proba(images[:0]).shape == (0, 3)
    stream = io.BytesIO()
    zipfile.ZipFile(stream, "w").close()
    with pytest.raises(DataError):
        predictor.decode(stream.getvalue())


def test_how_many_are_described_at_once_changes_nothing(svm, monkeypatch):
    predictor = load_predictor(svm)
    images = pixels(7, seed=2)
    whole = predictor.predict_proba(images)
    monkeypatch.setattr("convflow.baselines.predictor._PIXELS", 2 * SIDE**2)
    np.testing.assert_allclose(predictor.predict_proba(images), whole, atol=1e-6)


def test_costs_are_counted(fits, tmp_path):
    n_features, found = sum(block_sizes(FeatureSpec(**SPEC), 1).values()), {}
    for kind in KINDS:
        path = tmp_path / kind
        path.mkdir()
        save_baseline(path, fits[kind], card(kind))
        predictor = load_predictor(path)
        found[kind] = (predictor.flops(), predictor.card["n_parameters"])
        name, threads = predictor.hardware()
        assert name
        assert threads > 0
    directions = 30  # as many as rows
    reducing = n_features * (directions + 1), n_features * (directions + 3)
    vectors = len(fits["svm"].parts["classifier"].support_vectors_)
    assert found == {
        "majority": (0, 3),
        "knn": (2 * (reducing[0] + 30 * directions), reducing[1] + 30 * (directions + 2)),
        "svm": (
            2 * (reducing[0] + vectors * (directions + 2)), reducing[1] + vectors * (directions + 2) + 3,
        ),
        "logistic": (2 * (reducing[0] + 3 * directions), reducing[1] + 3 * directions + 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, SIDE, SIDE, 1), np.float32),
        np.zeros((2, SIDE, SIDE, 3), np.uint8),
        np.zeros((SIDE, SIDE, 1), np.uint8),
    ],
)
def test_another_shape_or_type_is_named_beside_what_is_taken(svm, images):
    with pytest.raises(ModelError, match=r"^images: .*; this model takes uint8 \(N, 16, 16, 1\)$"):
        load_predictor(svm).predict_proba(images)


# --- the same bytes, and no pickle


def test_the_file_is_the_same_whenever_and_wherever_it_is_written(fits, tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("one.skops", "two.skops")]
    write_skops(paths[0], fits["svm"].parts)
    monkeypatch.setattr("zipfile.time.localtime", lambda *given: (2031, 5, 6, 7, 8, 9, 0, 0, 0))
    write_skops(paths[1], read_skops(paths[0]))  # copies, which lie elsewhere
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as opened:
        names = opened.namelist()
        assert {info.date_time for info in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        arrays = [np.load(opened.open(name), allow_pickle=False) for name in names if name != "schema.json"]
    assert names == [*(f"{n}.npy" for n in range(1, len(names))), "schema.json"]
    assert all(array.dtype != object for array in arrays)


def test_skops_reads_the_file_by_itself_with_the_types_named(svm):
    parts = skops.io.load(svm / "model.skops", trusted=list(ESTIMATORS))
    assert parts["classifier"].kernel == "rbf"


@pytest.mark.slow
def test_skops_trusts_no_estimator_but_those_named_and_loads_no_torch(tmp_path):
    skops.io.dump(LogisticRegression(), tmp_path / "x.skops")
    code = f"""
import sys
import sklearn.utils
listing = sklearn.utils.all_estimators
from convflow.baselines import skops_file
assert "torch" not in sys.modules
assert sklearn.utils.all_estimators is listing
import skops.io
try:
    skops.io.load({str(tmp_path / "x.skops")!r})
except TypeError as error:
    assert "Untrusted types" in str(error)
else:
    raise AssertionError("trusted")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
