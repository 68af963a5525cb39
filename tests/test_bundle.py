"""A model folder: what goes in comes out; anything else is one line, soon and without much memory."""

import json
import math
import resource

import pytest
import torch
from safetensors.torch import save_file

from convflow.cards import load_card
from convflow.errors import ModelError
from convflow.files import digest_file, read_json, write_json
from convflow.learning import bundle
from convflow.learning.bundle import load_bundle, save_bundle
from convflow.manifest import save_manifest
from convflow.nets.registry import build

CARD = {
    "kind": "network",
    "name": "cnn",
    "arch": "residual",
    "arch_args": {"width": 4},
    "normalise": "dataset",
    "classes": ["bad", "good"],
    "input": {"size_px": 16, "channels": 3, "fit": "stretch"},
}


def network(n_classes=2, channels=3, width=4):
    torch.manual_seed(0)
    model = build("residual", n_classes, channels, 16, {"width": width})
    return model.to(memory_format=torch.channels_last).eval()


@pytest.fixture
def folder(tmp_path):
    save_bundle(tmp_path, network().state_dict(), CARD)
    return tmp_path


def change_card(folder, **changed):
    card = read_json(folder / "card.json") | changed
    write_json(folder / "card.json", card)
    save_manifest(folder)


def put_weights(folder, weights):
    """Weights with a digest that fits: the writer's mistake, not the disk's."""
    save_file(weights, folder / "weights.safetensors")
    vouch(folder)


def vouch(folder):
    """A digest that fits whatever is in the file."""
    name = "weights.safetensors"
    change_card(folder, weights={"file": name, "sha256": digest_file(folder / name)})


def refused(folder, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450


def test_the_network_comes_back_with_the_same_weights_and_answers(folder):
    model, card = load_bundle(folder)
    assert {name: card[name] for name in CARD} == CARD
    assert not model.training
    for name, tensor in network().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    image = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(model.to(memory_format=torch.channels_last)(image), network()(image))
    assert all(parameter.device.type == "cpu" for parameter in [*model.parameters(), *model.buffers()])


def test_the_same_weights_give_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    save_bundle(other, network().state_dict(), CARD)
    for name in ("weights.safetensors", "card.json", "manifest.txt"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_nothing_in_the_folder_is_a_pickle_and_nothing_unpickles(folder, monkeypatch):
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "manifest.txt",
        "weights.safetensors",
    ]
    data = (folder / "weights.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert set(header) == set(network().state_dict())
    monkeypatch.setattr(torch, "load", None)
    load_bundle(folder)


def test_an_altered_byte_is_noticed_before_anything_is_read(folder, monkeypatch):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    monkeypatch.setattr(bundle, "load_file", None)
    monkeypatch.setattr(bundle, "build", None)
    refused(folder, r"weights.safetensors: its sha256 is not the one on card.json; run `dvc checkout`")


def test_missing_parts_are_named(folder, tmp_path_factory):
    (folder / "weights.safetensors").unlink()
    refused(folder, r"weights.safetensors: missing; run `dvc checkout`")
    refused(
        tmp_path_factory.mktemp("empty"), r"empty0: no card.json, so no model of convflow; run `dvc repro`"
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", r"card.json: not JSON \("),
        ("[]", r"card.json: format \[\], this convflow reads 1"),
        ("{}", r"card.json: format None, this convflow reads 1; train it anew"),
        ('{"format": 2}', r"card.json: format 2, this convflow reads 1"),
        ('{"format": 1}', r"card.json: kind is None, not network( or baseline)?; run `dvc checkout`"),
    ],
)
def test_a_card_of_another_kind_is_refused(folder, text, match):
    (folder / "card.json").write_text(text)
    save_manifest(folder)
    refused(folder, match)
    with pytest.raises(ModelError, match=match):
        load_card(folder)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kind": "baseline"}, "kind is 'baseline', not network; run `dvc checkout`"),
        ({"arch": None}, "arch is None"),
        ({"arch": "os.system"}, "no architecture 'os.system'; choose one of residual"),
        ({"arch_args": [1]}, r"arch_args is \[1\]"),
        ({"arch_args": {"width": 10**9}}, "width 1000000000 is not in 1..1024"),
        ({"arch_args": {"width": 10**40}}, "is not in 1..1024"),
        ({"arch_args": {"width": 1024}}, r"does not fit residual \(.*size mismatch"),
        ({"arch_args": {"nonsense": "x" * 10_000}}, "does not suit residual"),
        ({"classes": 1_000_000}, "classes is 1000000"),
        ({"classes": [f"class {n}" for n in range(1_000_000)]}, r"does not fit residual \(.*size mismatch"),
        ({"classes": ["a", "a"]}, r"classes is \['a', 'a'\]"),
        ({"classes": [1, 2]}, r"classes is \[1, 2\]"),
        ({"classes": []}, r"classes is \[\]"),
        ({"input": {"size_px": 10**9, "channels": 3, "fit": "stretch"}}, "input is .*1000000000"),
        ({"input": {"size_px": 16.0, "channels": 3, "fit": "stretch"}}, "input is .*16.0"),
        ({"input": {"size_px": 16, "channels": 10**9, "fit": "stretch"}}, "input is .*1000000000"),
        ({"input": {"size_px": 16, "channels": 3, "fit": "zoom"}}, "input is .*zoom"),
        ({"input": {"size_px": 16, "channels": 3, "fit": "pad", "more": 1}}, "input is .*more"),
        ({"input": None}, "input is None"),
        ({"weights": {}}, "weights is {}"),
    ],
)
def test_an_absurd_card_is_refused_without_taking_memory(folder, changed, match):
    change_card(folder, **changed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(folder, match)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB; bytes on a Mac, stricter then
    assert grown < 400_000


def test_the_network_takes_no_memory_before_the_weights_are_seen_to_fit(folder, monkeypatch):
    places = []
    monkeypatch.setattr(bundle, "build", lambda *given: places.append(torch.empty(1).device) or build(*given))
    load_bundle(folder)
    assert places == [torch.device("meta")]


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (network(n_classes=3), "size mismatch"),
        (network(channels=1), "size mismatch"),
        (network(width=8), "size mismatch"),
        (torch.nn.Linear(2, 2), "Missing key"),
    ],
)
def test_weights_of_another_shape_are_refused(folder, other, match):
    put_weights(folder, {name: tensor.contiguous() for name, tensor in other.state_dict().items()})
    refused(folder, rf"weights.safetensors: does not fit residual \(.*{match}.*\); train again")


def test_a_file_that_is_no_safetensors_is_refused(folder):
    (folder / "weights.safetensors").write_bytes(b"\x80\x04no weights")
    vouch(folder)
    refused(folder, r"weights.safetensors: does not fit residual \(")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weights = network().state_dict()
    weights["net.head.1.bias"][1] = value
    put_weights(folder, {name: tensor.contiguous() for name, tensor in weights.items()})
    refused(folder, "net.head.1.bias holds values that are not finite; train again with a lower train.lr")


def test_weights_of_another_precision_become_float32(folder):
    put_weights(
        folder, {name: tensor.double().contiguous() for name, tensor in network().state_dict().items()}
    )
    model, _ = load_bundle(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_network_of_torchvision_comes_back_too(tmp_path):
    torch.manual_seed(0)
    model = build("mobilenet_v3_small", 2, 1, 32, {}).eval()
    card = {**CARD, "arch": "mobilenet_v3_small", "arch_args": {}}
    card["input"] = {"size_px": 32, "channels": 1, "fit": "crop"}
    save_bundle(tmp_path, model.state_dict(), card)
    image = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    assert torch.equal(load_bundle(tmp_path)[0](image), model(image))
