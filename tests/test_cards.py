"""A model's card: what it must say, and that it vouches for one file beside it."""

import json

import pytest

from convflow.cards import load_card, save_card, whole_weights
from convflow.errors import ModelError
from convflow.files import digest_file, read_json, write_json
from convflow.manifest import save_manifest

CONTRACT = {"size_px": 16, "channels": 1, "fit": "stretch"}
CARDS = {
    "network": {
        "kind": "network", "arch": "residual", "arch_args": {}, "normalise": "image", "classes": ["a", "b"],
        "input": CONTRACT,
    },
    "baseline": {
        "kind": "baseline", "arch": "svm", "features": {}, "calibration": {"scale": 1.5, "bias": [0, -0.5]},
        "classes": ["a", "b"], "input": CONTRACT,
    },
}  # fmt: skip


@pytest.fixture(params=CARDS)
def folder(request, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"weights")
    save_card(tmp_path, CARDS[request.param], "weights.bin")
    return tmp_path


def refused(folder, match, kind=None):
    with pytest.raises(ModelError, match=match) as caught:
        load_card(folder, kind)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 450


def change(folder, **changed):
    write_json(folder / "card.json", read_json(folder / "card.json") | changed)
    save_manifest(folder)


def test_the_card_comes_back_with_what_it_vouches_for(folder):
    card = load_card(folder)
    weights = {"file": "weights.bin", "sha256": digest_file(folder / "weights.bin")}
    assert card == CARDS[card["kind"]] | {"format": 1, "weights": weights}
    assert load_card(folder, card["kind"]) == card
    assert whole_weights(folder, card) == folder / "weights.bin"


def test_another_kind_than_wanted_is_refused(folder):
    kind = read_json(folder / "card.json")["kind"]
    (other,) = set(CARDS) - {kind}
    refused(folder, rf"card.json: kind is '{kind}', not {other}; run `dvc checkout` or train again$", other)


def test_weights_that_are_missing_or_altered_are_refused(folder):
    card = load_card(folder)
    (folder / "weights.bin").write_bytes(b"weighty")
    with pytest.raises(
        ModelError, match=r"weights.bin: its sha256 is not the one on card.json; run `dvc che"
    ):
        whole_weights(folder, card)
    (folder / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights.bin: missing; run `dvc checkout` or train again$"):
        whole_weights(folder, card)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, r": no card.json, so no model of convflow; run `dvc repro` or give another folder$"),
        ("{", r"card.json: not JSON \("),
        ("[1]", r"card.json: format \[1\], this convflow reads 1; train it anew$"),
        ("{}", r"card.json: format None, this convflow reads 1; train it anew$"),
        ('{"format": 1}', r"card.json: kind is None, not network or baseline; run `dvc checkout`"),
        ('{"format": 1, "kind": ["network"]}', r"card.json: kind is \['network'\], not network or baseline;"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path, text, match):
    if text is not None:
        (tmp_path / "card.json").write_text(text)
        save_manifest(tmp_path)
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"arch": None}, "arch is None"),
        ({"classes": []}, r"classes is \[\]"),
        ({"classes": ["a", "a"]}, r"classes is \['a', 'a'\]"),
        ({"classes": [1, 2]}, r"classes is \[1, 2\]"),
        ({"classes": [f"class {n}" for n in range(10**5)] + [0]}, "classes is"),
        ({"input": {**CONTRACT, "size_px": 4}}, "input is"),
        ({"input": {**CONTRACT, "size_px": True}}, "input is"),
        ({"input": {**CONTRACT, "channels": 2}}, "input is"),
        ({"input": {**CONTRACT, "more": 1}}, "input is"),
        ({"weights": {"file": "weights.bin"}}, "weights is"),
        ({"weights": {"file": "../weights.bin", "sha256": "0"}}, "weights is"),
        ({"weights": {"file": "/etc/passwd", "sha256": "0"}}, "weights is"),
    ],
)
def test_a_card_that_says_something_absurd_is_refused(folder, changed, match):
    change(folder, **changed)
    refused(folder, rf"card.json: {match}.*; run `dvc checkout` or train again$")


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("network", {"arch_args": None}),
        ("network", {"normalise": "always"}),
        ("baseline", {"features": [1]}),
        ("baseline", {"calibration": None}),
        ("baseline", {"calibration": {"scale": 1.0}}),
        ("baseline", {"calibration": {"scale": 0, "bias": [0, 0]}}),
        ("baseline", {"calibration": {"scale": True, "bias": [0, 0]}}),
        ("baseline", {"calibration": {"scale": 1.0, "bias": [0, "1"]}}),
    ],
)
def test_each_kind_says_what_it_needs(tmp_path, kind, changed):
    (tmp_path / "w").write_bytes(b"")
    save_card(tmp_path, CARDS[kind] | changed, "w")
    refused(tmp_path, rf"card.json: {next(iter(changed))} is .*; run `dvc checkout` or train again$")


def test_a_number_that_is_none_is_refused(tmp_path):
    (tmp_path / "w").write_bytes(b"")
    save_card(tmp_path, CARDS["baseline"], "w")
    text = (tmp_path / "card.json").read_text()
    for value in ("NaN", "Infinity"):
        (tmp_path / "card.json").write_text(text.replace("1.5", value))
        save_manifest(tmp_path)
        assert json.loads((tmp_path / "card.json").read_text())
        refused(tmp_path, "calibration is")
