"""A baseline on disk: what goes in comes out; anything else is one line, and nothing of it is run."""

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from convflow.baselines import skops_file
from convflow.baselines.features import FeatureSpec, block_sizes, features_of
from convflow.baselines.fitting import fit_baseline
from convflow.baselines.kinds import KINDS
from convflow.baselines.predictor import Predictor, load_predictor, save_baseline
from convflow.baselines.rows import Rows, Search
from convflow.baselines.skops_file import ESTIMATORS, read_skops, write_skops
from convflow.errors import DataError, ModelError
from convflow.files import digest_file, read_json, write_json
from made_features import GRIDS, SIDE

SPEC = {"hog_cells": 2, "hog_orientations": 4, "lbp_radii": [1], "histogram_bins": 4, "raw_px": 2}
SEARCHED = [kind for kind in KINDS if kind != "majority"]
N_CLASSES = 3


def pixels(n_images=30, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (n_images, SIDE, SIDE, 1))
    for n, image in enumerate(images):
        image[:, (n % N_CLASSES) * 5 : (n % N_CLASSES) * 5 + 4] += 150
    return images.astype(np.uint8)


def fit(kind):
    spec = FeatureSpec(**(SPEC | {"lbp_radii": (1,)}))
    sides = [
        Rows(features_of(images, spec), np.arange(len(images)) % N_CLASSES, np.ones(len(images)),
             N_CLASSES, block_sizes(spec, 1))
        for images in (pixels(), pixels(12, seed=1))
    ]  # fmt: skip
    return fit_baseline(kind, *sides, Search(GRIDS[kind], folds=3)).baseline


@pytest.fixture(scope="module")
def fits():
    return {kind: fit(kind) for kind in KINDS}


def card(kind):
    contract = {"size_px": SIDE, "channels": 1, "fit": "stretch"}
    return {"arch": kind, "classes": ["a", "b", "c"], "input": contract, "features": SPEC}


@pytest.fixture(params=SEARCHED)
def folder(request, fits, tmp_path):
    save_baseline(tmp_path, fits[request.param], card(request.param))
    return tmp_path


@pytest.fixture
def svm(fits, tmp_path):
    save_baseline(tmp_path, fits["svm"], card("svm"))
    return tmp_path


def change_card(folder, **changed):
    write_json(folder / "card.json", read_json(folder / "card.json") | changed)


def vouch(folder):
    """A digest that fits: the writer's mistake or malice, not the disk's."""
    name = read_json(folder / "card.json")["weights"]["file"]
    change_card(folder, weights={"file": name, "sha256": digest_file(folder / name)})


def change_parts(folder, change):
    parts = read_skops(folder / "model.skops")
    change(parts)
    write_skops(folder / "model.skops", parts)
    vouch(folder)


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        Predictor(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450


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


# --- what is refused


def test_an_altered_byte_is_noticed_before_anything_is_read(folder, monkeypatch):
    path = folder / "model.skops"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(skops_file.zipfile, "ZipFile", None)
    refused(folder, r"model.skops: its sha256 is not the one on card.json; run `dvc checkout`")
    path.unlink()
    refused(folder, r"model.skops: missing; run `dvc checkout`")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no zip", b"\x80\x04N."])
def test_a_file_that_is_no_skops_is_refused(svm, data):
    (svm / "model.skops").write_bytes(data)
    vouch(svm)
    refused(svm, r"model.skops: no baseline of this convflow \(File is not a zip file\); run `dvc repro`$")


def rewrite_schema(folder, change):
    path = folder / "model.skops"
    with zipfile.ZipFile(path) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    schema = json.loads(files["schema.json"])
    change(schema)
    files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as changed:
        for name, data in files.items():
            changed.writestr(name, data)
    vouch(folder)


@pytest.mark.parametrize(
    "node",
    [
        {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
        {"__class__": "add", "__module__": "numpy", "__loader__": "FunctionNode"},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode"},
        {"__class__": "str", "__module__": "os", "__loader__": "JsonNode"},
        {"__class__": "dict", "__module__": "builtins", "__loader__": "MethodNode"},
        {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "json"},
        {"__class__": "SVC", "__module__": "sklearn.svm._classes", "__loader__": "TypeNode"},
        {"__class__": "SVC", "__module__": "sklearn.svm._classes"},
    ],
)
def test_a_type_that_is_not_on_the_list_is_refused_before_anything_is_built(svm, monkeypatch, node):
    monkeypatch.setattr(skops.io, "load", None)
    rewrite_schema(svm, lambda schema: schema["content"].update(more=[{"deep": node}]))
    refused(svm, r"model.skops: no baseline of this convflow \(holds .*, which no baseline has\)")


def test_another_estimator_is_refused_even_one_that_skops_would_take(svm):
    buffer = skops.io.dumps({"reducer": DecisionTreeClassifier()})
    (svm / "model.skops").write_bytes(buffer)
    vouch(svm)
    refused(svm, r"holds sklearn.tree._classes.DecisionTreeClassifier \(ObjectNode\), which no baseline has")


def test_a_packed_file_is_refused_that_could_become_any_size(svm):
    path = svm / "model.skops"
    with zipfile.ZipFile(path) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as changed:
        for name, data in files.items():
            changed.writestr(name, data)
    vouch(svm)
    refused(svm, r"\(packed, where nothing should be\)")


def test_a_schema_nested_without_end_is_refused(svm):
    with zipfile.ZipFile(svm / "model.skops", "w") as changed:
        changed.writestr("schema.json", '{"a":' * 100_000 + "1" + "}" * 100_000)
    vouch(svm)
    refused(svm, r"no baseline of this convflow")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["mean_", "scale_", "components_"])
def test_values_that_are_not_finite_are_refused(folder, value, place):
    def spoil(parts):
        for _, step in parts["reducer"].steps:
            if hasattr(step, place):
                getattr(step, place).flat[1] = value

    change_parts(folder, spoil)
    refused(folder, rf"\((pca )?{place} holds values that are not finite\); run `dvc repro`$")


def put(name, value):
    return lambda parts: parts.update({name: value})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda parts: parts.pop("reducer"), "'reducer'"),
        (put("reducer", PCA()), "not reduced as here"),
        (lambda parts: parts["reducer"].steps.reverse(), "not reduced as here"),
        (lambda parts: parts["reducer"].steps.pop(), "not reduced as here"),
        (put("class_P", np.array([0, 1])), r"is \(.*\), not|k is|is no"),
        (put("class_P", np.array([0, 1, 3])), r"its classes are \[0 1 3\], the card has 3"),
        (put("class_P", np.array([-1, 0, 1])), r"its classes are \[-1 0 1\]"),
        (put("class_P", np.array([0, 2, 1])), r"its classes are \[0 2 1\]"),
        (put("class_P", np.array([0, 1, 2, 3])), r"its classes are \[0 1 2 3\]"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(folder, change, match):
    change_parts(folder, change)
    refused(folder, rf"model.skops: no baseline of this convflow \(.*({match}).*\); run `dvc repro`$")


def machine(name, value):
    def change(parts):
        setattr(parts["classifier"], name, value(getattr(parts["classifier"], name)))

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (machine("_n_support", lambda n: n + np.array([1, 0, 0], n.dtype)), "not as many as it says"),
        (machine("_n_support", lambda n: n * np.array([-1, 1, 1], n.dtype)), "not as many as it says"),
        (machine("_n_support", lambda n: n[:2]), r"_n_support is \(2,\), not \(3,\)"),
        (machine("support_vectors_", lambda x: x[:, :5]), r"support_vectors_ is .*, not"),
        (machine("support_vectors_", lambda x: x * np.nan), "support_vectors_ holds values that are not fin"),
        (machine("support_", lambda x: x[:1]), r"support_ is \(1,\), not"),
        (machine("_dual_coef_", lambda x: x[:1]), r"_dual_coef_ is .*, not"),
        (machine("_intercept_", lambda x: x[:1]), r"_intercept_ is \(1,\), not \(3,\)"),
        (machine("_intercept_", lambda x: x.astype(str)), "_intercept_ is no array of numbers"),
        (machine("_gamma", lambda x: float("nan")), "_gamma holds values that are not finite"),
        (machine("_probA", lambda x: np.ones(3)), "probabilities of its own"),
        (machine("kernel", lambda x: "precomputed"), "no support vector machine with a Gaussian kernel"),
        (machine("_sparse", lambda x: True), "no support vector machine with a Gaussian kernel"),
        (put("classifier", LogisticRegression()), "no support vector machine with a Gaussian kernel"),
    ],
)
def test_a_machine_that_libsvm_would_read_beyond_its_end_is_refused(svm, change, match):
    change_parts(svm, change)
    refused(svm, match)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("k", 0, "0 neighbours of 30 rows"),
        ("k", 31, "31 neighbours of 30 rows"),
        ("class_M", np.full(30, 3), "a row is of a class that there is not"),
        ("class_M", np.zeros(29, int), r"class_M is \(29,\), not \(30,\)"),
        ("weight_M", np.zeros(30), "a vote counts nothing"),
        ("near", 0.0, "a vote counts nothing"),
        ("z_MD", np.zeros((30, 2)), r"z_MD is \(30, 2\), not"),
        ("share_P", np.array([0.5, 0.5]), r"share_P is \(2,\), not \(3,\)"),
    ],
)
def test_neighbours_that_are_not_there_are_refused(fits, tmp_path, name, value, match):
    save_baseline(tmp_path, fits["knn"], card("knn"))
    change_parts(tmp_path, put(name, value))
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("coef_", lambda x: x[:2], r"coef_ is \(2, 30\), not \(3, 30\)"),
        ("intercept_", lambda x: x * np.inf, "intercept_ holds values that are not finite"),
    ],
)
def test_a_logistic_regression_of_another_shape_is_refused(fits, tmp_path, name, change, match):
    save_baseline(tmp_path, fits["logistic"], card("logistic"))
    change_parts(tmp_path, machine(name, change))
    refused(tmp_path, match)


def test_another_version_of_scikit_learn_is_refused(svm):
    def older(node):
        if isinstance(node, dict):
            version = node.get("_sklearn_version")
            if isinstance(version, dict):
                version["content"] = '"1.2.3"'
            for one in node.values():
                older(one)
        elif isinstance(node, list):
            for one in node:
                older(one)

    rewrite_schema(svm, older)
    refused(svm, r"from version 1.2.3 when using version .*; run `dvc repro`$")


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"class_P": [0, 1], "share_P": [0.5]}', '{"class_P": [0, 3], "share_P": [0.5, 0.5]}',
        '{"class_P": [0, 1], "share_P": [0.5, 0.6]}', '{"class_P": [0, 1], "share_P": [1.5, -0.5]}',
        '{"class_P": [0], "share_P": [NaN]}', '{"class_P": ["a"], "share_P": [1]}', '{"share_P": [1]}',
    ],
)  # fmt: skip
def test_shares_that_are_none_are_refused(fits, tmp_path, text):
    save_baseline(tmp_path, fits["majority"], card("majority"))
    (tmp_path / "shares.json").write_text(text)
    vouch(tmp_path)
    refused(tmp_path, r"shares.json: no shares of .*; run `dvc repro` to fit anew$")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kind": "network"}, "kind is 'network', not baseline; run `dvc checkout`"),
        ({"arch": "forest"}, "no baseline 'forest'; run `dvc repro`"),
        ({"features": None}, "features is None"),
        ({"features": {**SPEC, "hog_cells": 10**9}}, "features is .*1000000000"),
        ({"features": {**SPEC, "lbp_radii": [0]}}, "features is"),
        ({"features": {**SPEC, "sift": 1}}, "features is"),
        ({"features": {**SPEC, "raw_px": 3}}, r"mean_ is \(\d+,\), not \(\d+,\)"),
        ({"calibration": {"scale": 0.0, "bias": [0, 0, 0]}}, "calibration is"),
        ({"calibration": {"scale": 1.0, "bias": [0, 0]}}, "2 offsets for 3 classes"),
        ({"calibration": None}, "calibration is None"),
        ({"classes": ["a", "b"]}, r"its classes are \[0 1 2\]"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(svm, changed, match):
    change_card(svm, **changed)
    refused(svm, match)
