"""Model folders made to harm: one line each, nothing executed, no waiting, little memory."""

import argparse
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convflow.baselines.predictor import save_baseline
from convflow.files import digest_file, read_json, write_json
from convflow.learning.bundle import save_bundle
from convflow.manifest import save_manifest
from convflow.models import load_predictor
from convflow.nets.registry import build
from convflow.registry.resolve import verified
from convflow.verbs import predict
from made_baselines import card as baseline_card
from made_baselines import fit
from made_hostile import CODE, GREED, PLACES, SAFETENSORS, put, refused, safetensors, vouch, zipped
from made_project import write_image

CARD = {
    "kind": "network", "name": "cnn", "arch": "residual", "arch_args": {"width": 2}, "normalise": "dataset",
    "classes": ["bad", "good"], "input": {"size_px": 8, "channels": 1, "fit": "stretch"},
}  # fmt: skip
WEIGHTS = {"network": "weights.safetensors", "baseline": "model.skops"}
EXTENSIONS = ("pt", "pth", "bin", "pkl", "ckpt", "joblib", "npy", "skops", "safetensors", "onnx")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for kind in WEIGHTS:
        (root / kind).mkdir()
    save_bundle(root / "network", build("residual", 2, 1, 8, {"width": 2}).state_dict(), CARD)
    save_baseline(root / "baseline", fit("logistic"), baseline_card("logistic"))
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def network(models: Path, here: Path) -> Path:
    return shutil.copytree(models / "network", here / "models/network")


@pytest.fixture(params=WEIGHTS)
def folder(request: pytest.FixtureRequest, models: Path, here: Path) -> Path:
    return shutil.copytree(models / request.param, here / "models" / request.param)


def weights_of(folder: Path) -> Path:
    return folder / WEIGHTS[folder.name]


@pytest.mark.parametrize("name", [*CODE, *GREED, *SAFETENSORS])
def test_whatever_lies_in_place_of_the_weights_is_refused(folder: Path, name: str) -> None:
    path = weights_of(folder)
    path.write_bytes((CODE | GREED | SAFETENSORS)[name])
    refused(lambda: load_predictor(folder), path.name, "its sha256|bytes, .* in manifest")
    vouch(folder)
    refused(lambda: load_predictor(folder), path.name, "does not fit|no baseline of this convflow")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_no_name_makes_a_loader_take_a_pickle(folder: Path, extension: str) -> None:
    card = read_json(folder / "card.json")
    weights_of(folder).unlink()
    path = folder / f"weights.{extension}"
    for name in ("pickle 2", "torch zip", "numpy of objects"):
        path.write_bytes(CODE[name])
        stamp = {"file": path.name, "sha256": digest_file(path)}
        write_json(folder / "card.json", card | {"weights": stamp})
        save_manifest(folder)
        refused(lambda: load_predictor(folder), path.name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("which", ["card.json", "manifest.txt", "weights"])
def test_what_is_no_plain_file_is_never_opened(folder: Path, place: str, which: str) -> None:
    path = weights_of(folder) if which == "weights" else folder / which
    (folder.parent.parent / "elsewhere").write_text("{}")
    put(path, place)
    refused(lambda: load_predictor(folder), path.name)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"weights": {"file": "../secret", "sha256": "0"}}, "weights is"),
        ({"weights": {"file": "/etc/passwd", "sha256": "0"}}, "weights is"),
        ({"weights": {"file": "..", "sha256": "0"}}, "missing"),
        ({"weights": {"file": ".hidden", "sha256": "0"}}, "missing"),
        ({"weights": {"file": "card.json", "sha256": "0"}}, "its sha256 is not the one on card.json"),
        ({"weights": {"file": "x\0y", "sha256": "0"}}, "missing"),
        ({"n_parameters": 10**400, "classes": [1]}, "classes is"),
        ({"arch": "../../evil"}, "no (architecture|baseline) '../../evil'"),
        ({"arch": "os"}, "no (architecture|baseline) 'os'"),
        ({"kind": "__import__"}, "kind is '__import__'"),
    ],
)
def test_a_card_that_points_elsewhere_is_refused(folder: Path, changed: dict, match: str) -> None:
    write_json(folder / "card.json", read_json(folder / "card.json") | changed)
    save_manifest(folder)
    refused(lambda: load_predictor(folder), str(folder), match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: '{"a":' * 100_000 + "1" + "}" * 100_000, r"not JSON \(nested too deep\)"),
        (lambda text: "[" * 10_000_000, r"not JSON \(nested too deep\)"),
        (lambda text: " " * 33 * 2**20 + text, "larger than 33,554,432 bytes"),
        (lambda text: text.replace("{", '{"kind": "network",', 1), r"not JSON \('kind' more than once\)"),
        (lambda text: text.replace("{", '{"extra": NaN,', 1), "holds a number that is none"),
        (lambda text: text.replace("{", '{"extra": [[-Infinity]],', 1), "holds a number that is none"),
        (lambda text: text.replace("{", '{"extra": 1e999,', 1), "holds a number that is none"),
        (lambda text: text.replace("{", '{"extra": ' + "9" * 5000 + ",", 1), r"not JSON \(Exceeds the limit"),
        (lambda text: text.replace('"size_px": ', '"size_px": 1e'), "input is"),
        (lambda text: "", r"not JSON \(Expecting value"),
        (lambda text: "null", "format None, this convflow reads 1"),
        (lambda text: text + text, r"not JSON \(Extra data"),
        (lambda text: "\0" * 100, r"not JSON \("),
    ],
)
def test_a_card_that_is_no_plain_json_is_refused(folder: Path, change, match: str) -> None:
    path = folder / "card.json"
    path.write_text(change(path.read_text()))
    save_manifest(folder)
    refused(lambda: load_predictor(folder), "card.json", match)


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": 10**400, "bias": [0, 0, 0]},
        {"scale": 1.0, "bias": [0, 10**400, 0]},
        {"scale": 1.0, "bias": [0]},
        {"scale": 1.0, "bias": [[0], [0], [0]]},
    ],
)
def test_numbers_beyond_all_measure_calibrate_nothing(models: Path, here: Path, changed: dict) -> None:
    folder = shutil.copytree(models / "baseline", here / "baseline")
    write_json(folder / "card.json", read_json(folder / "card.json") | {"calibration": changed})
    save_manifest(folder)
    refused(lambda: load_predictor(folder), "card.json")


TRUNK = {"arch": "residual", "arch_args": {"width": 2}, "channels": 1, "built_px": 8, "size_px": 8}


@pytest.mark.parametrize(
    ("arch", "arguments"),
    [
        ("residual", {"width": 1e308}),
        ("residual", {"width": "2"}),
        ("residual", {"width": [2]}),
        ("residual", {"width": 2, "weights": "DEFAULT"}),
        ("residual", {"dropout": "x"}),
        ("transfer", {}),
        ("transfer", {"trunk": None, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": {}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": [], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": [-1], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": [10**9], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": ["0"], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": [[0]], "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": 0, "views": "none"}),
        ("transfer", {"trunk": TRUNK, "depths": [0], "views": ["none"]}),
        ("transfer", {"trunk": TRUNK, "depths": [0], "views": "all"}),
        ("transfer", {"trunk": TRUNK | {"arch": "os.system"}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"arch": 3}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"arch_args": []}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"arch_args": {"width": 10**30}}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"channels": "1"}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"channels": -1}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"channels": 10**9}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"size_px": 10**6}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"size_px": 0}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"size_px": 8.5}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"built_px": -1}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"built_px": None}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"pooling": "max"}, "depths": [0], "views": "none"}),
        ("transfer", {"trunk": TRUNK | {"per_image": "yes"}, "depths": [0], "views": "none"}),
    ],
)
def test_a_network_that_cannot_be_is_not_built(network: Path, arch: str, arguments: dict) -> None:
    if arch == "transfer":  # weights that fit: it is not by them that it is refused
        good = {"trunk": TRUNK, "depths": [0], "views": "none"}
        save_bundle(
            network, build(arch, 2, 1, 8, good).state_dict(), CARD | {"arch": arch, "arch_args": good}
        )
        load_predictor(network)
    write_json(
        network / "card.json", read_json(network / "card.json") | {"arch": arch, "arch_args": arguments}
    )
    save_manifest(network)
    refused(lambda: load_predictor(network), "card.json", rf"{arch}|arch_args")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bool, torch.int32, torch.float8_e4m3fn])
def test_numbers_of_another_sort_are_no_weights(network: Path, dtype: torch.dtype) -> None:
    path = weights_of(network)
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file(weights | {"net.head.1.bias": weights["net.head.1.bias"].to(dtype)}, path)
    vouch(network)
    refused(lambda: load_predictor(network), path.name, r"net.head.1.bias is torch\.")


def test_names_that_lead_nowhere_are_no_weights(network: Path) -> None:
    path = weights_of(network)
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    for name in ("__class__", "net.__init__.__globals__", "../x", "", "forward"):
        save_file(weights | {name: torch.zeros(1)}, path)
        vouch(network)
        refused(lambda: load_predictor(network), path.name, r"does not fit residual \(.*Unexpected key")


# --- skops


def rewrite(folder: Path, change) -> None:
    """Change the parts of the baseline's file."""
    path = folder / "model.skops"
    with zipfile.ZipFile(path) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    schema = json.loads(files["schema.json"])
    change(files, schema)
    files["schema.json"] = json.dumps(schema).encode()
    path.write_bytes(zipped(files))
    vouch(folder)


def huge_array(files: dict, schema: dict) -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(stream, header)
    files["1.npy"] = stream.getvalue() + bytes(80)


def array_of_objects(files: dict, schema: dict) -> None:
    files["1.npy"] = CODE["numpy of objects"]


def no_array(files: dict, schema: dict) -> None:
    files["1.npy"] = CODE["pickle 2"]


def array_twice(files: dict, schema: dict) -> None:
    def claim(node):
        if isinstance(node, dict):
            if node.get("__loader__") == "NdArrayNode":
                node["file"] = "1.npy"
            for one in node.values():
                claim(one)
        elif isinstance(node, list):
            for one in node:
                claim(one)

    claim(schema)


def untrusted(files: dict, schema: dict) -> None:
    schema["content"]["more"] = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}


def operator(files: dict, schema: dict) -> None:
    schema["content"]["more"] = {
        "__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode", "attrs": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (huge_array, "1.npy is no array of numbers as long as it says"),
        (array_of_objects, "1.npy is no array of numbers"),
        (no_array, "magic string is not correct"),
        (array_twice, "two arrays claim 1.npy"),
        (untrusted, r"holds os.system \(FunctionNode\), which no baseline has"),
        (operator, r"holds operator.methodcaller \(OperatorFuncNode\), which no baseline has"),
        (lambda files, schema: schema.update(content=None), "no baseline of this convflow"),
        (lambda files, schema: files.pop("1.npy"), "no baseline of this convflow"),
        (lambda files, schema: files.update({"../canary": b""}), "no baseline of this convflow"),
    ],
)
def test_a_file_of_skops_is_looked_through_first(models: Path, here: Path, change, match: str) -> None:
    folder = shutil.copytree(models / "baseline", here / "baseline")
    rewrite(folder, change)
    refused(lambda: load_predictor(folder), "model.skops", match)


# --- by the other ways to a model


@pytest.mark.parametrize("name", ["pickle 2", "torch zip", "empty"])
def test_the_verb_and_the_registry_refuse_the_same(folder: Path, here: Path, name: str) -> None:
    write_image(here / "x.png", 9)
    weights_of(folder).write_bytes((CODE | GREED)[name])
    inside = shutil.copytree(folder, here / "registered/artifacts/model")
    refused(lambda: verified(here / "registered", "models:/cells/1"), str(inside), "models:/cells/1")
    vouch(folder)
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    arguments = parser.parse_args(["x.png", "--model", str(folder)])
    refused(lambda: predict.run(arguments), weights_of(folder).name)


@pytest.mark.parametrize("which", ["manifest.txt", "card.json", "weights", "another"])
def test_a_registered_version_is_whole_or_refused(folder: Path, here: Path, which: str) -> None:
    inside = shutil.copytree(folder, here / "registered/artifacts/model")
    assert verified(here / "registered", "models:/cells/1") == inside
    path = inside / (WEIGHTS[folder.name] if which == "weights" else which)
    if which == "another":
        path.write_text("x")
    else:
        path.unlink()
    refused(lambda: verified(here / "registered", "models:/cells/1"), str(here), "models:/cells/1")


def test_the_weights_of_another_network_do_not_pass_by_their_name(network: Path) -> None:
    weights_of(network).write_bytes(
        safetensors({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})
    )
    vouch(network)
    refused(lambda: load_predictor(network), "weights.safetensors", r"Missing key\(s\)")
