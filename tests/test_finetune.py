"""The ladder on frozen features, and the network that comes out of it."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from convflow.errors import DataError, ModelError, ParamsError
from convflow.evaluation.plotdata import read_history
from convflow.files import digest_file, read_json
from convflow.learning.assembling import assemble
from convflow.learning.bundle import save_bundle
from convflow.learning.climbing import Stand
from convflow.learning.predictor import load_predictor
from convflow.learning.probing import Probe
from convflow.nets import backbones
from convflow.nets.backbones import Spec, build_trunk, views_of
from convflow.nets.registry import build
from convflow.stages import embed, finetune
from convflow.tables import read_about, read_table, write_table
from made_packed import SIDE, packed_folder

EMBED = {
    "packed_px": 24, "source": "efficientnet_lite0", "arch": None, "sha256": None, "size_px": 32,
    "pooling": "mean_std", "views": "mirror", "mode": "fp32", "device": "cpu",
}  # fmt: skip
PROBE = {"depths": "auto", "c": [0.001, 0.01, 0.1], "folds": 3, "seed": 0, "unsure": "weight"}
AUGMENT = {"rotate_degrees": 0.0, "shift": 0.0, "scale": 0.0, "brightness": 0.0, "contrast": 0.0}
TUNE = {
    "method": "lp_ft", "blocks": 2, "epochs": 2, "batch_size": 12, "lr": 0.001, "decay": 0.7,
    "weight_decay": 0.01, "ema": 0.9, "label_smoothing": 0.0, "seed": 0, "runs": 2, "augment": AUGMENT,
    "device": "cpu", "precision": "fp32", "deterministic": False,
}  # fmt: skip
WARY = PROBE | {"c": [1e-6]}  # a head so cautious that any training helps
RUNGS = ["probe", "views", "temperature"]
CLASSES = ["a", "b", "c"]


def params(**changed) -> finetune.Params:
    known = {
        "models": ["finetuned"], "rungs": RUNGS, "budget_minutes": None, "keep_errors": 1.0, "probe": PROBE,
        "tune": TUNE,
    }  # fmt: skip
    return finetune.Params.model_validate({**known, **changed})


class Project:
    """Packed sides, their features, and what finetune makes of them."""

    def __init__(self, root, channels=1, **changed):
        self.root = root
        self.sides = [
            packed_folder(root / f"packed/{side}", n, classes=CLASSES, channels=channels, seed=n)
            for side, n in (("train", 36), ("val", 30))
        ]
        self.embed(**changed)

    def embed(self, **changed):
        embed.run(
            *self.sides, self.root / "embedded", params=embed.Params.model_validate({**EMBED, **changed})
        )

    def finetune(self, name="finetuned", **changed):
        model, timing = self.root / "models" / name, self.root / f"fit-{name}.json"
        ladder = self.root / f"ladder-{name}.png"
        finetune.run(self.root / "embedded", *self.sides, model, timing, ladder, params=params(**changed))
        return model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    project = Project(root)
    project.finetune()
    return project


def copy_of(project, folder):
    copied = Project.__new__(Project)
    copied.root = folder / "project"
    shutil.copytree(project.root, copied.root)
    copied.sides = [copied.root / "packed/train", copied.root / "packed/val"]
    return copied


@pytest.fixture
def project(made, tmp_path):
    """A copy that a test may spoil."""
    return copy_of(made, tmp_path)


def test_the_network_answers_raw_pixels_as_the_ladder_said_it_would(made):
    predictor = load_predictor(made.root / "models/finetuned")
    images, label_N = (np.load(made.sides[1] / name) for name in ("pixels.npy", "labels.npy"))
    prob_NK = predictor.predict_proba(images)
    val = predictor.card["val"]
    assert float((prob_NK.argmax(axis=1) == label_N).mean()) == pytest.approx(val["accuracy"])
    loss = -np.log(prob_NK[np.arange(30), label_N]).mean()
    assert float(loss) == pytest.approx(val["loss"], abs=1e-3)
    assert val["accuracy"] > 0.6


def test_the_same_inputs_give_the_same_bytes(made, project):
    model = project.finetune()
    for name in ("card.json", "weights.safetensors", "history.jsonl", "manifest.txt"):
        assert (model / name).read_bytes() == (made.root / "models/finetuned" / name).read_bytes()


def test_the_card_says_where_it_came_from_and_which_rungs_were_tried(made):
    card = read_json(made.root / "models/finetuned/card.json")
    assert card["backbone"] == {
        "source": "efficientnet_lite0", "computed_in": "fp32",
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    }  # fmt: skip
    assert [rung["name"] for rung in card["rungs"]] == RUNGS
    standing = [rung for rung in card["rungs"] if rung["kept"]][-1]
    assert card["chosen_rung"] == standing["name"]
    assert card["val"] == {"loss": standing["loss"], "accuracy": standing["accuracy"]}
    assert card["arch_args"]["views"] == ("none" if card["chosen_rung"] == "probe" else "mirror")
    assert len(card["probe"]["search"]) == 9
    assert "seconds" not in json.dumps(card)
    assert "minutes" not in json.dumps(card)


def test_minutes_stand_with_the_timings_and_the_history_is_one_of_epochs(made):
    timing = read_json(made.root / "fit-finetuned.json")
    minutes = [rung["minutes"] for rung in timing["rungs"]]
    assert minutes == sorted(minutes)
    assert timing["seconds"] > 0
    history = read_history(made.root / "models/finetuned/history.jsonl")
    assert [line["epoch"] for line in history] == [1, 2, 3]
    card = read_json(made.root / "models/finetuned/card.json")
    assert [line["val_loss"] for line in history] == [rung["loss"] for rung in card["rungs"]]
    assert history[0]["train_accuracy"] >= history[0]["val_accuracy"] - 0.1
    assert card["rungs"][card["best_epoch"] - 1]["name"] == card["chosen_rung"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_ones_own_can_be_what_is_built_upon(tmp_path, channels):
    torch.manual_seed(0)
    model = build("residual", 2, 1, 24, {"width": 8}, "image").eval()
    card = {
        "kind": "network", "arch": "residual", "arch_args": {"width": 8}, "normalise": "image",
        "classes": ["x", "y"], "input": {"size_px": 24, "channels": 1, "fit": "stretch"},
    }  # fmt: skip
    (tmp_path / "cnn").mkdir()
    save_bundle(tmp_path / "cnn", model.state_dict(), card)
    own = {"source": str(tmp_path / "cnn"), "sha256": digest_file(tmp_path / "cnn/weights.safetensors")}
    project = Project(tmp_path, channels, **own, size_px=None, views="none")
    made = project.finetune(rungs=["views", "probe"], tune=TUNE | {"blocks": 9})  # which no rung asks for
    assert [rung["name"] for rung in read_json(made / "card.json")["rungs"]] == ["probe"]  # one view is all
    predictor = load_predictor(made)
    images, label_N = (np.load(project.sides[1] / name) for name in ("pixels.npy", "labels.npy"))
    prob_NK = predictor.predict_proba(images)
    assert -np.log(prob_NK[np.arange(30), label_N]).mean() == pytest.approx(
        predictor.card["val"]["loss"], abs=1e-3
    )
    assert predictor.card["arch_args"]["trunk"]["size_px"] == 24
    assert predictor.contract.size_px == SIDE


@pytest.fixture(scope="module")
def tuned(made, tmp_path_factory):
    """All rungs; tune is kept whatever it does, soup is told apart by its seed."""
    project = copy_of(made, tmp_path_factory.mktemp("tuned"))
    project.finetune(rungs=["probe", "tune", "soup", "temperature"], keep_errors=0.0, probe=WARY)
    return project


def test_a_tuned_network_answers_raw_pixels_as_the_ladder_said_it_would(tuned):
    predictor = load_predictor(tuned.root / "models/finetuned")
    card = predictor.card
    kept = {rung["name"]: rung["kept"] for rung in card["rungs"]}
    assert kept["tune"]
    images, label_N = (np.load(tuned.sides[1] / name) for name in ("pixels.npy", "labels.npy"))
    prob_NK = predictor.predict_proba(images)
    loss = -np.log(prob_NK[np.arange(30), label_N]).mean()
    assert float(loss) == pytest.approx(card["val"]["loss"], abs=2e-3)
    assert card["tune"] == {
        "method": "lp_ft", "blocks": 2, "asked": 2, "epochs": {"tune": [2], "soup": [2]},
    }  # fmt: skip
    assert card["arch"] == "transfer"
    assert card["skipped"] == []


def test_the_history_has_a_line_per_epoch_and_one_per_rung(tuned):
    path = tuned.root / "models/finetuned/history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["rung"], line["run"], line["run_epoch"]) for line in lines] == [
        ("probe", None, None),
        ("tune", 1, 1), ("tune", 1, 2), ("tune", None, None),
        ("soup", 2, 1), ("soup", 2, 2), ("soup", None, None),
        ("temperature", None, None),
    ]  # fmt: skip
    assert [line["epoch"] for line in read_history(path)] == list(range(1, 9))
    card = read_json(tuned.root / "models/finetuned/card.json")
    best = lines[card["best_epoch"] - 1]
    assert (best["rung"], best["val_loss"]) == (card["chosen_rung"], card["val"]["loss"])
    assert card["epochs"] == 8
    assert min(line["val_loss"] for line in lines[1:3]) == pytest.approx(lines[3]["val_loss"], abs=1e-3)


def test_minutes_and_the_picture_stand_beside_the_timings_and_not_in_the_model(tuned):
    picture = tuned.root / "ladder-finetuned.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    model = tuned.root / "models/finetuned"
    assert {path.name for path in model.iterdir()} == {
        "card.json", "history.jsonl", "manifest.txt", "weights.safetensors",
    }  # fmt: skip
    for name in ("card.json", "history.jsonl"):
        text = (model / name).read_text()
        assert "minutes" not in text
        assert "second" not in text
    timing = read_json(tuned.root / "fit-finetuned.json")
    assert [rung["name"] for rung in timing["rungs"]] == ["probe", "tune", "soup", "temperature"]


def test_the_same_inputs_give_the_same_bytes_after_tuning_too(tuned, tmp_path):
    again = copy_of(tuned, tmp_path)
    model = again.finetune(rungs=["probe", "tune", "soup", "temperature"], keep_errors=0.0, probe=WARY)
    for name in ("card.json", "weights.safetensors", "history.jsonl", "manifest.txt"):
        assert (model / name).read_bytes() == (tuned.root / "models/finetuned" / name).read_bytes()


def test_a_budget_that_is_spent_ends_the_ladder_with_a_reason(project, capsys):
    model = project.finetune(rungs=["probe", "tune", "temperature"], budget_minutes=1e-6)
    card = read_json(model / "card.json")
    assert card["chosen_rung"] == "probe"
    assert [one["name"] for one in card["skipped"]] == ["tune", "temperature"]
    assert "finetune: tune not tried, no time was left for it" in capsys.readouterr().out


def test_groups_stay_together_where_the_split_keeps_them(project):
    def groups_of(folder):
        from convflow.data.packed import Packed

        return finetune._taught(Packed(folder)).group_N

    rows = read_table(project.sides[0] / "rows.parquet")
    about = read_about(project.sides[0] / "rows.parquet")
    assert about["method"] == "grouped"
    names = pa.array([None, *(f"g{n % 5}" for n in range(35))], pa.string())
    rows = rows.set_column(rows.column_names.index("group"), "group", names)
    write_table(project.sides[0] / "rows.parquet", rows, about=about)
    group_N = groups_of(project.sides[0])
    assert len(set(group_N.tolist())) == 6
    assert group_N[1] == group_N[6] != group_N[2]
    write_table(project.sides[0] / "rows.parquet", rows, about={"method": "stratified"})
    assert groups_of(project.sides[0]) is None


def test_other_images_than_those_described_are_refused(project):
    np.save(project.sides[0] / "weights.npy", np.full(36, 0.5, np.float32))
    with pytest.raises(DataError, match=r"embedded: features of other images .*run `dvc repro embed`"):
        project.finetune()


def test_other_weights_than_those_described_are_refused(project):
    about = read_json(project.root / "embedded/embedded.json") | {"sha256": "0" * 64}
    (project.root / "embedded/embedded.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"its sha256 is 5793.*, not 0{64}"):
        project.finetune()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"rungs": ["temperature"]}, r"finetune.rungs: \['temperature'\] has nothing to stand on"),
        (
            {"rungs": ["soup", "tune"]},
            r"finetune.rungs: \['tune', 'soup'\] has nothing to stand on; add probe",
        ),
        (
            {"rungs": ["probe", "tune"], "tune": TUNE | {"blocks": 9}},
            "finetune.tune.blocks: 9 of 9 stages; set it to all, or to less",
        ),
        ({"probe": PROBE | {"depths": [[8], [1]]}}, r"finetune.probe.depths: \[1\] is not among \[3, 4"),
    ],
)
def test_params_that_cannot_be_meant_are_answered_in_one_line(project, changed, match):
    with pytest.raises(ParamsError, match=match):
        project.finetune(**changed)


def test_sides_without_images_or_with_one_class_are_named(project):
    np.save(project.sides[0] / "labels.npy", np.zeros(36, np.int64))
    with pytest.raises(DataError, match="packed/train: images of one class only; add some of another"):
        project.finetune()
    for name in ("pixels", "labels", "weights"):
        path = project.sides[1] / f"{name}.npy"
        np.save(path, np.load(path)[:0])
    with pytest.raises(DataError, match="packed/val: no images; add some, or give this side"):
        project.finetune()


def test_what_is_assembled_answers_as_its_parts_do(monkeypatch):
    torch.manual_seed(0)
    trunk = build_trunk(Spec("efficientnet_lite0", {}, 3, 224, 32)).eval()
    image = torch.randint(0, 256, (4, 1, 20, 20), dtype=torch.uint8)
    widths = {4: 80, 6: 192}
    with torch.inference_mode():
        views = [trunk(view, [4, 6]) for view in views_of(trunk.prepare(image), "flips")]
    feature_NF = torch.stack(views).mean(dim=0)
    numbers = torch.randn(192 * 3 + 3, dtype=torch.float64) * 0.1
    weight_FK, bias_K = numbers[3:].reshape(192, 3), numbers[:3]
    mean_F, std_F = feature_NF[:, 80:].mean(dim=0), torch.full((192,), 0.2)
    probe = Probe((6,), 1.0, mean_F, std_F, weight_FK, bias_K, [])
    network = assemble(trunk, Stand(probe, True, 2.5), 1, "flips")
    expected = probe.logits(feature_NF.numpy(), widths) / 2.5
    with torch.inference_mode():
        torch.testing.assert_close(network(image).double(), expected, atol=1e-4, rtol=1e-4)
        monkeypatch.setitem(backbones._AT_ONCE, "cpu", 0)  # one picture at a time
        torch.testing.assert_close(network(image).double(), expected, atol=1e-4, rtol=1e-4)
    assert len(network.net.trunk.stages) == 7
    assert len(trunk.stages) == 9  # ours is left whole
