"""The stage `predict`: one table of val and test, straight from the packed folders."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from convflow.baselines.fitting import fit_baseline
from convflow.baselines.predictor import save_baseline
from convflow.baselines.rows import Search
from convflow.errors import DataError
from convflow.files import read_json
from convflow.learning.bundle import save_bundle
from convflow.learning.predictor import load_predictor
from convflow.nets.registry import build
from convflow.stages.predict import run
from convflow.tables import read_about, read_table
from made_features import made_rows
from made_packed import SIDE, packed_folder, pictures

CLASSES = ["bad one", "good"]


@pytest.fixture
def project(tmp_path):
    """A folder with a model and packed val (5 images) and test (4)."""
    for seed, (side, n_images) in enumerate((("val", 5), ("test", 4))):
        packed_folder(tmp_path / "packed" / side / str(SIDE), n_images, classes=CLASSES, seed=seed)
    torch.manual_seed(0)
    card = {
        "kind": "network",
        "arch": "residual",
        "arch_args": {"width": 4},
        "normalise": "dataset",
        "n_by_class": {"bad one": 3, "good": 4},
        "classes": CLASSES,
        "input": {"size_px": SIDE, "channels": 1, "fit": "stretch"},
    }
    (tmp_path / "cnn").mkdir()
    model = build("residual", 2, 1, SIDE, {"width": 4})
    save_bundle(tmp_path / "cnn", model.state_dict(), card)
    return tmp_path


def predict(project):
    out = project / "predictions" / "cnn.parquet"
    run(project / "cnn", project / "packed/val", project / "packed/test", out, project / "timing.json")
    return out


def test_every_image_of_val_and_test_is_a_row_with_all_its_probabilities(project):
    out = predict(project)
    table = read_table(out)
    assert {field.name: str(field.type) for field in table.schema} == {
        "path": "string",
        "sha256": "string",
        "split": "string",
        "width": "int32",
        "height": "int32",
        "brightness_mean": "double",
        "brightness_spread": "double",
        "label": "string",
        "group": "string",
        "weight": "double",
        "tag_site": "string",
        "p_bad one": "float",
        "p_good": "float",
    }
    assert table["split"].to_pylist() == ["val"] * 5 + ["test"] * 4
    assert table["label"].to_pylist()[:3] == ["bad one", "good", "bad one"]
    assert read_about(out) == {
        "classes": CLASSES,
        "commonest": "good",
        "model": "cnn",
        "protocol": "one grouped split, seed 4",
    }
    predictor = load_predictor(project / "cnn")
    images = np.concatenate([pictures(5, seed=0)[0], pictures(4, seed=1)[0]])
    prob_NK = np.column_stack([table[f"p_{name}"].to_numpy() for name in CLASSES])
    np.testing.assert_allclose(prob_NK, predictor.predict_proba(images), atol=1e-6)
    np.testing.assert_allclose(prob_NK.sum(axis=1), 1, atol=1e-6)


def test_the_same_inputs_give_the_same_bytes(project):
    assert predict(project).read_bytes() == predict(project).read_bytes()


def test_a_side_without_images_adds_no_rows(project):
    empty = project / "empty"
    packed_folder(empty / str(SIDE), 0, classes=CLASSES)
    out = project / "some.parquet"
    run(project / "cnn", project / "packed/val", empty, out, project / "timing.json")
    table = read_table(out)
    assert table.num_rows == 5
    assert table.schema.field("split").type == pa.string()
    assert pc.all(pc.equal(table["split"], "val")).as_py()


@pytest.mark.parametrize("changed", [{"classes": ["bad one", "worse"]}, {"channels": 3}])
def test_images_packed_otherwise_than_the_model_was_trained_on_are_refused(project, changed):
    packed_folder(project / "other" / str(SIDE), 4, **{"classes": CLASSES, **changed})
    other = project / "other"
    with pytest.raises(
        DataError, match=rf"other/{SIDE}: packed otherwise than the model was trained on; run `dvc rep"
    ):
        run(project / "cnn", project / "packed/val", other, project / "p.parquet", project / "t.json")
    assert not (project / "p.parquet").exists()
    assert not (project / "t.json").exists()


def test_a_size_that_was_not_packed_is_named(project):
    (project / "packed/test" / str(SIDE)).rename(project / "packed/test/99")
    with pytest.raises(
        DataError, match=rf"packed/test: no pictures of {SIDE} px; add {SIDE} to pack.sizes_px"
    ):
        predict(project)


def test_answers_are_timed_alone_and_in_batches(project):
    predict(project)
    timing = read_json(project / "timing.json")
    assert sorted(timing) == ["device", "flops", "images_per_s", "latency_ms", "threads"]
    assert timing["flops"] == load_predictor(project / "cnn").flops()
    assert list(timing["latency_ms"]) == ["1", "64"]
    for found in timing["latency_ms"].values():
        assert 0 < found["median"] <= found["p95"]
    assert timing["images_per_s"] == pytest.approx(1000 / timing["latency_ms"]["64"]["median"], rel=0.1)


def test_a_baseline_answers_in_the_same_columns(project):
    rows = made_rows([0, 1, 1], 2)
    (project / "majority").mkdir()
    card = {
        "arch": "majority", "n_by_class": {"bad one": 1, "good": 2}, "classes": CLASSES, "features": {},
        "input": {"size_px": SIDE, "channels": 1, "fit": "stretch"},
    }  # fmt: skip
    save_baseline(project / "majority", fit_baseline("majority", rows, rows, Search({})).baseline, card)
    out = project / "majority.parquet"
    run(project / "majority", project / "packed/val", project / "packed/test", out, project / "t.json")
    assert read_table(out).schema.equals(read_table(predict(project)).schema)
    assert set(read_table(out)["p_good"].to_pylist()) == {np.float32(2 / 3)}
    assert read_about(out)["model"] == "majority"
    assert read_json(project / "t.json")["flops"] == 0
