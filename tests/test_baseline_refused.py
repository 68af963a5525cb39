"""A model folder that is no whole baseline is one line, and nothing of it is run."""

import json
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from convflow.baselines import skops_file
from convflow.baselines.kinds import KINDS
from convflow.baselines.predictor import Predictor, save_baseline
from convflow.baselines.skops_file import read_skops, write_skops
from convflow.errors import ModelError
from made_baselines import SEARCHED, SPEC, card, change_card, fit, vouch


@pytest.fixture(scope="module")
def fits():
    return {kind: fit(kind) for kind in KINDS}


@pytest.fixture(params=SEARCHED)
def folder(request, fits, tmp_path):
    save_baseline(tmp_path, fits[request.param], card(request.param))
    return tmp_path


@pytest.fixture
def svm(fits, tmp_path):
    save_baseline(tmp_path, fits["svm"], card("svm"))
    return tmp_path


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
