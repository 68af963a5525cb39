"""Features of a frozen trunk: what they are, that they are computed once, and how fast is chosen."""

import json

import numpy as np
import pytest
import torch

from convflow.errors import DataError
from convflow.files import read_json
from convflow.learning import embedding
from convflow.learning.embedded import Embedded
from convflow.learning.embedding import deviation, embed_to, fastest, freeze, later_stages, pick_mode
from convflow.nets import backbones
from convflow.nets.backbones import Spec, build_trunk
from convflow.stages import embed
from made_packed import packed_folder, pictures

SPEC = Spec("efficientnet_lite0", {}, 3, 224, 32)
PARAMS = {
    "packed_px": 24,
    "source": "efficientnet_lite0", "arch": None, "sha256": None, "size_px": 32, "pooling": "mean",
    "views": "flips", "mode": "fp32", "device": "cpu",
}  # fmt: skip


def params(**changed) -> embed.Params:
    return embed.Params.model_validate({**PARAMS, **changed})


@pytest.fixture
def trunk():
    torch.manual_seed(0)
    made = build_trunk(SPEC).eval()
    for stage in made.stages:
        for name, buffer in stage.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
    return made


@pytest.fixture
def sides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["a", "b"]
    return [
        packed_folder(tmp_path / f"packed/{side}", n, classes=names, seed=n)
        for side, n in (("train", 9), ("val", 5))
    ]


@torch.inference_mode()
def test_features_lie_by_image_view_and_stage(trunk, tmp_path, monkeypatch):
    monkeypatch.setitem(backbones._AT_ONCE, "cpu", 0)  # one at a time
    images, _ = pictures(9)
    embed_to(tmp_path / "f.npy", freeze(trunk, [3, 5], "fp32", "cpu"), images, "flips", text="")
    found = np.load(tmp_path / "f.npy")
    assert (found.dtype, found.shape) == (np.float32, (9, 4, 40 + 112))
    mirrored = torch.from_numpy(images[8:9, :, ::-1].copy()).permute(0, 3, 1, 2)
    prepared = trunk.prepare(mirrored)
    expected = torch.cat([trunk(prepared, [3]), trunk(prepared, [5])], dim=1)[0]
    np.testing.assert_allclose(found[8, 1], expected, atol=1e-4, rtol=1e-3)


def test_no_images_have_no_features(trunk, tmp_path):
    images, _ = pictures(0)
    embed_to(tmp_path / "f.npy", freeze(trunk, [1], "fp32", "cpu"), images, "none", text="")
    assert np.load(tmp_path / "f.npy").shape == (0, 1, 16)


@pytest.mark.parametrize(("arch", "n_norms"), [("resnet18", 20), ("efficientnet_lite0", 49), ("residual", 0)])
@torch.inference_mode()
def test_folded_norms_leave_the_function_as_it_was(arch, n_norms):
    torch.manual_seed(0)
    made = build_trunk(Spec(arch, {"width": 4} if arch == "residual" else {}, 3, 64, 64)).eval()
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    image = torch.rand(2, 3, 64, 64)
    depths = range(len(made.stages))
    before = made(image, depths)
    frozen = freeze(made, depths, "fp32", "cpu")
    left = [module for module in frozen.trunk.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert left == []
    torch.testing.assert_close(frozen(image), before, atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in made.modules())  # ours is left alone


@torch.inference_mode()
def test_every_mode_gives_about_the_same_features(trunk):
    image = torch.rand(2, 3, 32, 32)
    exact = freeze(trunk, [4], "fp32", "cpu")(image)
    torch.testing.assert_close(freeze(trunk, [4], "channels_last", "cpu")(image), exact, atol=1e-4, rtol=1e-4)
    near = freeze(trunk, [4], "bf16", "cpu")(image)
    assert near.dtype == torch.float32
    assert float((near - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize(
    ("seconds", "mode"),
    [
        ({"fp32": 1.0}, "fp32"),
        ({"fp32": 1.0, "channels_last": 0.5, "bf16": 0.3}, "bf16"),
        ({"fp32": 1.0, "channels_last": 0.5, "bf16": 0.45}, "channels_last"),
        ({"fp32": 1.0, "channels_last": 0.9, "bf16": 0.8}, "bf16"),
        ({"fp32": 1.0, "channels_last": 2.0, "bf16": 3.0}, "fp32"),
    ],
)
def test_a_less_exact_mode_must_be_clearly_faster(seconds, mode):
    assert fastest(seconds) == mode


def test_the_mode_is_measured_once_and_remembered(trunk, tmp_path, monkeypatch):
    asked = []

    def timed(frozen, images):
        asked.append(frozen.mode)
        return {"fp32": 3.0, "channels_last": 1.0, "bf16": 9.0}[frozen.mode], torch.ones(9, 3)

    monkeypatch.setattr(embedding, "_timed", timed)
    monkeypatch.setattr(embedding, "pick_precision", lambda wanted, device: "bf16")
    images, _ = pictures(9)
    memory = tmp_path / "memory.json"
    for _ in range(2):
        assert pick_mode(trunk, [1], images, "cpu", memory) == "channels_last"
    assert asked == ["fp32", "channels_last", "bf16"]
    assert next(iter(read_json(memory).values()))["ms_per_image"]["fp32"] == pytest.approx(3000 / 9, abs=0.01)
    monkeypatch.setattr(embedding, "pick_precision", lambda wanted, device: "fp32")
    assert pick_mode(trunk, [2], images, "cpu", memory) == "channels_last"  # another question: asked anew
    assert asked[3:] == ["fp32", "channels_last"]
    memory.write_text(json.dumps({"key": {"mode": "warp"}}))
    pick_mode(trunk, [1], images, "cpu", memory)
    assert len(asked) == 7


@pytest.mark.parametrize(("noise", "mode"), [(0.001, "bf16"), (0.1, "channels_last")])
def test_a_fast_mode_with_other_features_is_not_taken(trunk, tmp_path, monkeypatch, noise, mode):
    exact = torch.randn(400, 20, generator=torch.Generator().manual_seed(0))

    def timed(frozen, images):
        away = noise if frozen.mode == "bf16" else 0.0
        return {"fp32": 4.0, "channels_last": 2.0, "bf16": 1.0}[frozen.mode], exact + away

    monkeypatch.setattr(embedding, "_timed", timed)
    monkeypatch.setattr(embedding, "pick_precision", lambda wanted, device: "bf16")
    memory = tmp_path / "memory.json"
    assert pick_mode(trunk, [1], pictures(2)[0], "cpu", memory) == mode
    assert next(iter(read_json(memory).values()))["deviation"]["bf16"] == pytest.approx(noise, rel=0.1)


def test_features_that_hardly_vary_do_not_count_as_different():
    exact = torch.stack([torch.linspace(0, 1, 50), torch.full((50,), 7.0)], dim=1)
    other = exact + torch.tensor([0.0, 0.01])
    assert deviation(other, exact) == 0.0
    assert deviation(exact[:, 1:], exact[:, 1:]) == 0.0
    assert deviation(exact + torch.tensor([0.1, 0.0]), exact) == pytest.approx(
        0.1 / exact[:, 0].std(correction=0)
    )


def test_measuring_leaves_the_threads_as_they_were(trunk):
    torch.set_num_threads(2)
    images, _ = pictures(2)
    seconds, feature_NF = embedding._timed(freeze(trunk, [1], "fp32", "cpu"), images)
    assert seconds > 0
    assert feature_NF.shape == (2, 16)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_the_last_two_thirds_of_the_stages_are_kept():
    assert [later_stages(n) for n in (1, 2, 5, 9)] == [[0], [0, 1], [1, 2, 3, 4], [3, 4, 5, 6, 7, 8]]


def test_the_stage_writes_the_same_bytes_each_time_and_says_what_they_are(sides, tmp_path, capsys):
    for name in ("one", "two"):
        embed.run(*sides, tmp_path / name, params=params())
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["embedded.json", "train.npy", "val.npy"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    found = Embedded(tmp_path / "one")
    assert found.sides["train"].shape == (9, 4, 2024)
    assert (found.about.depths, found.about.widths) == ([3, 4, 5, 6, 7, 8], [40, 80, 112, 192, 320, 1280])
    assert (found.about.mode, found.about.views) == ("fp32", "flips")
    assert "embed: 2,024 features of each of 14 images, views: flips" in capsys.readouterr().out


def test_what_was_measured_counts_for_these_weights_and_pictures_alone(trunk, tmp_path):
    image_NSSC, _ = pictures(9)
    ask = [trunk, [3], image_NSSC, "cpu", tmp_path / "modes.json"]
    pick_mode(*ask)
    pick_mode(*ask)
    assert len(read_json(tmp_path / "modes.json")) == 1
    pick_mode(trunk, [3], 255 - image_NSSC, "cpu", tmp_path / "modes.json")
    with torch.no_grad():
        next(trunk.parameters()).mul_(1.5)
    pick_mode(*ask)
    assert len(read_json(tmp_path / "modes.json")) == 3


def test_auto_remembers_below_the_project(sides, tmp_path):
    embed.run(*sides, tmp_path / "f", params=params(mode="auto", views="none"))
    known = read_json(tmp_path / ".convflow/embedding.json")
    assert [entry["mode"] for entry in known.values()] == [Embedded(tmp_path / "f").about.mode]


def test_sides_packed_differently_are_refused(sides, tmp_path):
    other = packed_folder(tmp_path / "other", 4, classes=["a", "c"])
    with pytest.raises(DataError, match=r"other: packed otherwise than .*train; run `dvc repro -f pack`"):
        embed.run(sides[0], other, tmp_path / "f", params=params())


def test_a_folder_of_features_is_whole_or_named(sides, tmp_path):
    folder = tmp_path / "f"
    embed.run(*sides, folder, params=params(views="none"))
    np.save(folder / "val.npy", np.zeros((5, 2, 2024), np.float32))
    with pytest.raises(
        DataError, match=r"val.npy: \(5, 2, 2024\), not \(N, 1, 2024\); run `dvc repro -f embed`"
    ):
        Embedded(folder)
    (folder / "val.npy").unlink()
    with pytest.raises(
        DataError, match=r"f: not features of convflow \(.*val.npy.*\); run `dvc repro -f embed`"
    ):
        Embedded(folder)
