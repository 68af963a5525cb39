"""A network leaves as one ONNX file and answers as before; whatever is not that file is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from convflow.cards import load_card
from convflow.data.packed import Contract, write_contract
from convflow.errors import DataError, ModelError
from convflow.files import digest_file, digest_folder, read_json, write_json
from convflow.learning import exporting
from convflow.learning.bundle import save_bundle
from convflow.learning.exporting import export_onnx
from convflow.learning.predictor import load_predictor
from convflow.manifest import save_manifest
from convflow.nets.backbones import Spec
from convflow.nets.registry import build
from convflow.serving.record import FILES, OPSET, Exported, fastest, read_record, stands_for
from convflow.serving.runtimes import open_predictor
from convflow.serving.session import IMAGES, PROBABILITIES, OnnxPredictor, open_session
from convflow.stages.export import Params, run
from convflow.tables import write_table
from made_project import write_image

pytestmark = pytest.mark.slow

CLASSES, SIDE = ["cat", "dog", "eel"], 12
CONTRACT = Contract(CLASSES, SIDE, 1, "stretch")
SPEC = Spec("residual", {"width": 4}, 1, 16, 16, pooling="mean_std")
NETWORKS: dict[str, dict[str, Any]] = {
    "residual": {"width": 4, "dropout": 0.2},
    "transfer": {"trunk": SPEC.as_json(), "depths": [1, 2], "views": "dihedral"},
}


def save_network(folder: Path, arch: str) -> dict[str, Any]:
    """Write a network that was never trained but whose running statistics are not the first ones."""
    torch.manual_seed(0)
    network = build(arch, 3, 1, SIDE, NETWORKS[arch], "image")
    for name, tensor in network.named_buffers():
        if name.endswith("running_mean"):
            tensor.normal_()
    last = [part for part in network.modules() if isinstance(part, torch.nn.Linear)][-1]
    with torch.no_grad():  # unsure on the whole, and of another mind about each picture
        last.weight.mul_(100)
        last.bias.sub_(network.eval()(torch.from_numpy(pictures(6)).permute(0, 3, 1, 2)).mean(dim=0))
    folder.mkdir(parents=True)
    about = {"kind": "network", "name": folder.name, "arch": arch, "arch_args": NETWORKS[arch]}
    given = {"size_px": SIDE, "channels": 1, "fit": "stretch"}
    save_bundle(
        folder, network.state_dict(), {**about, "normalise": "image", "classes": CLASSES, "input": given}
    )
    return load_card(folder)


def pictures(n_images: int) -> NDArray[np.uint8]:
    """Checks of ever finer grain, no two alike."""
    rng = np.random.default_rng(n_images)
    grains = [(12, 6, 4, 3, 2, 1)[n % 6] for n in range(n_images)]
    checks = [rng.integers(0, 256, (SIDE // grain,) * 2, dtype=np.uint8) for grain in grains]
    block = [np.ones((grain, grain), np.uint8) for grain in grains]
    return np.stack([np.kron(*pair) for pair in zip(checks, block, strict=True)])[..., None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose cnn is exported, 8 bits and all."""
    root = tmp_path_factory.mktemp("made")
    save_network(root / "models/cnn", "residual")
    tables = []
    for side in ("train", "val", "test"):
        folder = root / "data/packed" / side / str(SIDE)
        folder.mkdir(parents=True)
        paths = [f"{side}/{n}.png" for n in range(9)]
        np.save(folder / "pixels.npy", pictures(9))
        np.save(folder / "labels.npy", np.arange(9) % 3)
        np.save(folder / "weights.npy", np.ones(9, np.float32))
        write_contract(folder / "contract.json", CONTRACT)
        write_table(folder / "rows.parquet", pa.table({"path": paths}))
        prob_NK = load_predictor(root / "models/cnn").predict_proba(np.load(folder / "pixels.npy"))
        said = {f"p_{name}": np.ascontiguousarray(prob_NK[:, k]) for k, name in enumerate(CLASSES)}
        tables.append(pa.table({"path": paths, "split": [side] * 9, **said}))
    write_table(root / "predictions/cnn.parquet", pa.concat_tables(tables[1:]))
    export(root, int8="auto")
    return root


@pytest.fixture
def quick(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes out of the exporter is known already."""

    def known(folder: Path, path: Path, names: tuple[str, str], opset: int) -> int:
        path.write_bytes((made / "exported/cnn" / FILES["fp32"]).read_bytes())
        return 64

    monkeypatch.setattr(exporting, "export_onnx", known)


def export(root: Path, to: str = "exported/cnn", *, int8: str = "never") -> None:
    sides = [root / "data/packed" / side for side in ("train", "val", "test")]
    run(
        root / "models/cnn", *sides, root / "predictions/cnn.parquet", root / to, root / "timing.json",
        params=Params(int8=int8),
    )  # fmt: skip


def copy_of(made: Path, root: Path) -> Exported:
    """A copy of the exported folder to damage."""
    root.mkdir(parents=True, exist_ok=True)
    for path in (made / "exported/cnn").iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    return Exported(root, made / "timing.json")


def rewrite(exported: Exported, change: Any) -> None:
    """Put another model in place of the plain one, with a record that vouches for it."""
    path = exported.folder / FILES["fp32"]
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    record = read_json(exported.folder / "export.json")
    record["files"]["fp32"] |= {"sha256": digest_file(path), "bytes": path.stat().st_size}
    write_json(exported.folder / "export.json", record)


@pytest.mark.slow
@pytest.mark.parametrize("arch", NETWORKS)
def test_any_number_of_pictures_is_answered_as_torch_does(arch: str, tmp_path: Path) -> None:
    save_network(tmp_path / "cnn", arch)
    at_once = export_onnx(tmp_path / "cnn", tmp_path / "model.onnx", (IMAGES, PROBABILITIES), OPSET)
    assert at_once == 64
    session = open_session((tmp_path / "model.onnx").read_bytes(), CONTRACT, tmp_path / "model.onnx")
    images = pictures(7)
    expected_NK = load_predictor(tmp_path / "cnn").predict_proba(images)
    assert np.ptp(expected_NK, axis=0).max() > 0.1  # the pictures matter
    for n_images in (1, 7):
        (got_NK,) = session.run([PROBABILITIES], {IMAGES: images[:n_images]})
        np.testing.assert_allclose(got_NK, expected_NK[:n_images], atol=2e-6)


def test_the_same_model_gives_the_same_bytes_wherever_it_lies(made: Path, capfd: Any) -> None:
    record = read_record(made / "exported/cnn")
    export(made, "elsewhere/cnn")
    out, err = capfd.readouterr()
    assert out.startswith("export: cnn answers as before on 18 images (largest difference ")
    assert (out.count("\n"), err) == (1, "")
    plain = FILES["fp32"]
    assert (made / "elsewhere/cnn" / plain).read_bytes() == (made / "exported/cnn" / plain).read_bytes()
    assert str(made).encode() not in (made / "exported/cnn" / plain).read_bytes()
    again = read_record(made / "elsewhere/cnn")
    assert again["files"] == {"fp32": record["files"]["fp32"]}
    assert {**again, "files": 0, "check": 0} == {**record, "files": 0, "check": 0}
    assert record["weights_sha256"] == load_card(made / "models/cnn")["weights"]["sha256"]
    assert record["check"]["n_images"] == 18
    assert record["check"]["largest_difference"] < 1e-5


def test_8_bits_are_kept_where_they_lose_little_and_used_where_they_are_faster(
    made: Path, tmp_path: Path
) -> None:
    exported, card = copy_of(made, tmp_path / "cnn"), load_card(made / "models/cnn")
    record = read_record(exported.folder)
    check = record["check"]["int8"]
    assert check["points_lost"] == pytest.approx(
        check["fp32_accuracy_on_val"] - check["int8_accuracy_on_val"]
    )
    if not check["kept"]:
        assert set(record["files"]) == {"fp32"}
        return
    timing = read_json(exported.timing)
    assert timing["use"] == min(timing["latency_ms"], key=timing["latency_ms"].get)
    for used in ("fp32", "int8"):
        write_json(tmp_path / "timing.json", {"use": used})
        assert OnnxPredictor(exported._replace(timing=tmp_path / "timing.json"), card).kind == used
    assert fastest(exported._replace(timing=tmp_path / "none.json"), record) == "fp32"
    images = np.load(made / f"data/packed/val/{SIDE}/pixels.npy")
    small, plain = (OnnxPredictor(exported, card, kind).predict_proba(images) for kind in ("int8", "fp32"))
    assert 0 < np.abs(small - plain).max() < 0.1


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        ("val", 2e-4, r"^val/4.png: the exported network answers '\w+', the predictions say '\w+'; "
                      r"probabilities differ by 0\.0002, 0\.0001 is allowed; nothing was exported"),
        ("test", 2e-4, r"^test/4.png: the exported network .* probabilities differ by 0\.0002"),
        ("test", float("nan"), r"^test/4.png: .* differ by nan, "),
    ],
)  # fmt: skip
def test_a_network_that_answers_otherwise_is_not_exported(
    made: Path, quick: None, tmp_path: Path, side: str, change: float, message: str
) -> None:
    table = pa.parquet.read_table(made / "predictions/cnn.parquet")
    at = {"val": 4, "test": 13}[side]
    column = table["p_cat"].to_numpy().copy()
    column[at] += change
    write_table(
        tmp_path / "cnn.parquet", table.set_column(table.schema.get_field_index("p_cat"), "p_cat", [column])
    )
    sides = [made / "data/packed" / name for name in ("train", "val", "test")]
    out, timing = tmp_path / "exported/cnn", tmp_path / "timing.json"
    with pytest.raises(ModelError, match=message):
        run(made / "models/cnn", *sides, tmp_path / "cnn.parquet", out, timing, params=Params(int8="never"))
    assert list((tmp_path / "exported").iterdir()) == []
    assert not timing.exists()


def test_predictions_of_other_images_are_no_proof(made: Path, quick: None, tmp_path: Path) -> None:
    table = pa.parquet.read_table(made / "predictions/cnn.parquet")
    write_table(tmp_path / "cnn.parquet", table.slice(1))
    sides = [made / "data/packed" / name for name in ("train", "val", "test")]
    with pytest.raises(DataError, match="its val images are not those packed; run `dvc repro predict`"):
        run(
            made / "models/cnn", *sides, tmp_path / "cnn.parquet", tmp_path / "out", tmp_path / "timing.json",
            params=Params(int8="never"),
        )  # fmt: skip


def test_a_baseline_leaves_an_empty_record(made: Path, tmp_path: Path, capsys: Any) -> None:
    card = {name: value for name, value in load_card(made / "models/cnn").items() if "arch_args" not in name}
    write_json(
        tmp_path / "svm/card.json",
        card | {"kind": "baseline", "features": {}, "calibration": {"scale": 1.0, "bias": [0.0]}},
    )
    save_manifest(tmp_path / "svm")
    nowhere = [tmp_path / "none"] * 4
    run(
        tmp_path / "svm", *nowhere, tmp_path / "out/svm", tmp_path / "timing.json", params=Params(int8="auto")
    )
    assert capsys.readouterr().out == "export: svm is a baseline, which has no network to export\n"
    assert [path.name for path in (tmp_path / "out/svm").iterdir()] == ["export.json"]
    assert read_record(tmp_path / "out/svm")["files"] == {}
    assert not stands_for(tmp_path / "out/svm", card)
    assert read_json(tmp_path / "timing.json") == {"latency_ms": None, "use": None}


def outside(model: Any) -> None:
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def outside_a_node(model: Any) -> None:
    """A tensor that is no initializer, and does not say itself that it lies elsewhere."""
    tensor = onnx.TensorProto(name="hidden")
    tensor.external_data.add(key="location", value="../x")
    model.graph.node.add(op_type="Constant", output=["x"]).attribute.append(
        onnx.helper.make_attribute("value", tensor)
    )


def foreign(model: Any) -> None:
    model.opset_import.add(domain="evil", version=1)


def another_end(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = SIDE + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside, r"'.+' lies in another file; only models that are one file are loaded$"),
        (outside_a_node, r"'hidden' lies in another file; only models that are one file are loaded$"),
        (
            foreign,
            r"operator sets \{'ai.onnx': 20, 'evil': 1\}, not ai.onnx 20; run `dvc repro --force export`$",
        ),
        (another_end, r"(takes and gives|ONNX Runtime cannot load it) .*; run `dvc repro --force export`$"),
        (lambda model: model.graph.ClearField("node"), r"ONNX Runtime cannot load it \(.*\); run `dvc repro"),
    ],
)
def test_a_model_that_reaches_out_or_is_another_is_refused(
    made: Path, tmp_path: Path, change: Any, message: str
) -> None:
    exported = copy_of(made, tmp_path / "cnn")
    rewrite(exported, change)
    with pytest.raises(ModelError, match=message) as caught:
        OnnxPredictor(exported, load_card(made / "models/cnn"), "fp32")
    assert "\n" not in str(caught.value)


def test_a_file_that_the_record_does_not_vouch_for_is_not_read(made: Path, tmp_path: Path) -> None:
    exported, card = copy_of(made, tmp_path / "cnn"), load_card(made / "models/cnn")
    path = exported.folder / FILES["fp32"]
    content = path.read_bytes()
    for altered, message in (
        (content[:-1] + bytes([content[-1] ^ 1]), "its sha256 is not the one in export.json"),
        (content + b"x", rf"{len(content) + 1:,} bytes, not {len(content):,}; run `dvc checkout`"),
    ):
        path.write_bytes(altered)
        with pytest.raises(ModelError, match=message):
            OnnxPredictor(exported, card, "fp32")
    path.unlink()
    with pytest.raises(ModelError, match=r"model.onnx: missing; run `dvc checkout`"):
        OnnxPredictor(exported, card, "fp32")
    for part, wrong in (("format", 9), ("files", {"fp32": {"file": "../x"}}), ("at_once", 0), ("opset", 1)):
        write_json(
            exported.folder / "export.json", read_json(made / "exported/cnn/export.json") | {part: wrong}
        )
        with pytest.raises(ModelError, match=part):
            read_record(exported.folder)


def test_the_runtime_is_the_one_asked_for_or_the_one_there_is(made: Path, tmp_path: Path) -> None:
    model, exported = made / "models/cnn", Exported(made / "exported/cnn", made / "none.json")
    names = {
        runtime: type(open_predictor(model, exported, runtime)).__name__
        for runtime in ("auto", "onnx", "torch")
    }
    assert names == {"auto": "OnnxPredictor", "onnx": "OnnxPredictor", "torch": "Predictor"}
    assert type(open_predictor(model, None)).__name__ == "Predictor"
    stale = copy_of(made, tmp_path / "cnn")
    record = read_json(stale.folder / "export.json")
    write_json(stale.folder / "export.json", record | {"weights_sha256": "0" * 64})
    assert type(open_predictor(model, stale)).__name__ == "Predictor"
    with pytest.raises(
        ModelError, match=r"models/cnn: no exported network of it in .*cnn; use --runtime auto$"
    ):
        open_predictor(model, stale, "onnx")
    images = np.load(made / f"data/packed/test/{SIDE}/pixels.npy")
    onnx_NK, torch_NK = (
        open_predictor(model, exported, one).predict_proba(images) for one in ("onnx", "torch")
    )
    np.testing.assert_allclose(onnx_NK, torch_NK, atol=1e-5)
    with pytest.raises(
        ModelError, match=r"images: uint8 \(9, 12, 12\); this model takes uint8 \(N, 12, 12, 1\)"
    ):
        open_predictor(model, exported).predict_proba(images[..., 0])


def test_predict_answers_without_torch_and_as_torch_does(made: Path) -> None:
    write_image(made / "a.png", 90)
    before = digest_folder(made / "exported")
    code = (
        "import sys\nfrom convflow import cli\nstatus = cli.run(sys.argv[1:])\n"
        "print({'torch', 'onnxruntime', 'sklearn', 'mlflow', 'pandas'} & set(sys.modules), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    command = ["predict", "--json", "--model", "models/cnn", "a.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=made, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["model: models/cnn", "{'onnxruntime'}"]
    predictor = load_predictor(made / "models/cnn")
    (prob_K,) = predictor.predict_proba(predictor.decode(made / "a.png")[None])
    (answer,) = json.loads(done.stdout)
    assert answer["label"] == CLASSES[prob_K.argmax()]
    assert answer["probabilities"] == pytest.approx(dict(zip(CLASSES, prob_K, strict=True)), abs=1e-4)
    assert digest_folder(made / "exported") == before
