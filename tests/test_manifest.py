"""manifest.txt: no bit of a model folder changes unseen."""

import os
import random
import shutil
from pathlib import Path

import pytest
import torch

from convflow.baselines import kinds
from convflow.baselines.predictor import save_baseline
from convflow.cards import load_card, save_card, whole_weights
from convflow.errors import ModelError
from convflow.files import digest_file, write_text
from convflow.learning import bundle
from convflow.learning.bundle import save_bundle
from convflow.manifest import MANIFEST, _digest, open_manifest, plain_size, save_manifest
from convflow.models import load_predictor
from convflow.nets.registry import build
from made_baselines import card as baseline_card
from made_baselines import fit

CARD = {
    "kind": "network", "name": "cnn", "arch": "residual", "arch_args": {"width": 1}, "normalise": "dataset",
    "classes": ["bad", "good"], "input": {"size_px": 8, "channels": 1, "fit": "stretch"},
}  # fmt: skip
FLIPS = 1000


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("network", "logistic"):
        write_text(root / kind / "history.jsonl", '{"epoch": 1, "loss": 0.5}\n')
    torch.manual_seed(0)
    save_bundle(root / "network", build("residual", 2, 1, 8, {"width": 1}).state_dict(), CARD)
    save_baseline(root / "logistic", fit("logistic"), baseline_card("logistic"))
    return root


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    return shutil.copytree(models / "network", tmp_path / "network")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_predictor(folder)
    assert "\n" not in str(caught.value)


def test_it_lists_every_file_with_its_size_and_digest(folder: Path) -> None:
    names = ["card.json", "history.jsonl", "weights.safetensors"]
    lines = (folder / MANIFEST).read_text().splitlines()
    assert lines[0] == "convflow manifest 1"
    assert lines[1:-1] == [
        f"{digest_file(folder / name)} {(folder / name).stat().st_size} {name}" for name in names
    ]
    assert list(open_manifest(folder).entries) == names
    load_predictor(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network", "logistic"])
def test_of_a_thousand_flipped_bits_each_is_found_before_weights_are_used(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = shutil.copytree(models / kind, tmp_path / kind)
    monkeypatch.setattr(bundle, "load_file", None)  # whoever gets so far fails otherwise than by a ModelError
    monkeypatch.setattr(bundle, "build", None)
    monkeypatch.setattr(type(kinds.load_kind("logistic")), "load", None)
    files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(files) == 4
    draw, seen = random.Random(0), set()
    for number in range(FLIPS):
        path = list(files)[number % 4]  # as many in the small files as in the large
        data = bytearray(files[path])
        bit = draw.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            load_predictor(folder)
        assert "\n" not in str(caught.value)
        seen.add(path.name if f"{path}: " in str(caught.value) else f"another than {path.name}")
        path.write_bytes(files[path])
    assert seen == {path.name for path in files}


def test_every_byte_of_the_manifest_itself_counts(folder: Path) -> None:
    path = folder / MANIFEST
    data = path.read_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(ModelError, match=r"manifest\.txt: damaged; run `dvc checkout` or train again$"):
            open_manifest(folder)


@pytest.mark.parametrize("cut", [0, 1, 64, 65, 66, -1])
def test_a_manifest_cut_short_or_lengthened_is_refused(folder: Path, cut: int) -> None:
    path = folder / MANIFEST
    data = path.read_bytes()
    for changed in (data[: len(data) - cut] if cut > 0 else data + b"\n", b"\n" + data, data * 2):
        path.write_bytes(changed)
        refused(folder, r"manifest\.txt: damaged")


def rewrite(folder: Path, change) -> None:
    """Another manifest, its own digest the right one."""
    lines = (folder / MANIFEST).read_text(encoding="latin-1").splitlines(keepends=True)[:-1]
    text = "".join(change(lines))
    (folder / MANIFEST).write_bytes((text + _digest(text)).encode("latin-1"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[1:], "damaged"),
        (lambda lines: [lines[0].replace("1", "2"), *lines[1:]], "damaged"),
        (lambda lines: [*lines, lines[-1]], "not a list of files"),
        (lambda lines: [*lines, "\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 ../x\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 /etc/passwd\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 .x\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 ü\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " -1 x\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 63 + " 1 x\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + f" 1 {MANIFEST}\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 x\r\n"], "not a list of files"),
        (lambda lines: [*lines, "0" * 64 + " 1 x\n"], "x: missing"),
        (lambda lines: [*lines, *["0" * 64 + f" 1 x{n}\n" for n in range(999)]], "larger than 65,536 bytes"),
        (lambda lines: lines[:-1], r"weights.safetensors: not in manifest.txt"),
        (lambda lines: [lines[0], *lines[2:]], r"card.json: not in manifest.txt"),
    ],
)
def test_a_manifest_that_lists_otherwise_is_refused(folder: Path, change, match: str) -> None:
    rewrite(folder, change)
    refused(folder, rf"{match}; |{match}.*; ")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda at: (at / MANIFEST).unlink(),
            r"manifest\.txt: missing, so nothing vouches for .*; run `dvc ch",
        ),
        (lambda at: (at / "history.jsonl").unlink(), r"history\.jsonl: missing; run `dvc checkout` or train"),
        (lambda at: (at / "weights.safetensors").unlink(), r"weights\.safetensors: missing; run `dvc checko"),
        (
            lambda at: (at / "more.json").write_text("x"),
            r"more\.json: not in manifest\.txt; move it elsewhere,",
        ),
        (
            lambda at: (at / "more").mkdir(),
            r"more: not in manifest\.txt; move it elsewhere, or run `dvc check",
        ),
        (
            lambda at: (at / "history.jsonl").write_text("x"),
            r"history\.jsonl: 1 bytes, 26 in manifest\.txt; run",
        ),
        (
            lambda at: (at / "history.jsonl").write_text('{"epoch": 2, "loss": 0.5}\n'),
            r"history\.jsonl: its sha256 is not the one in manifest\.txt; run `dvc checkout` or train again$",
        ),
    ],
)
def test_a_file_that_is_missing_too_many_or_changed_is_named(folder: Path, change, match: str) -> None:
    change(folder)
    refused(folder, match)


def test_files_that_begin_with_a_dot_are_nobodys(folder: Path) -> None:
    write_text(folder / ".gitignore", "/x\n")
    load_predictor(folder)
    save_manifest(folder)
    assert ".gitignore" not in (folder / MANIFEST).read_text()


def test_every_file_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(
        "convflow.manifest.digest_file", lambda path: read.append(path.name) or digest_file(path)
    )
    card = load_card(folder)
    assert read == ["card.json"]
    whole_weights(folder, card)
    assert sorted(read[1:]) == ["card.json", "history.jsonl", "weights.safetensors"]


def test_what_cannot_be_listed_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"w")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder: has no place in a model folder"):
        save_card(tmp_path, {}, "w")
    (tmp_path / "folder").rmdir()
    (tmp_path / "ü").write_bytes(b"w")
    with pytest.raises(ValueError, match="ü: has no place in a model folder"):
        save_manifest(tmp_path)


def test_a_folder_moved_copied_or_linked_to_is_the_same(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    load_predictor(tmp_path / "link")
    load_predictor(Path(shutil.copytree(folder, tmp_path / "copy")))


def test_links_into_the_cache_of_dvc_are_followed(folder: Path, tmp_path: Path) -> None:
    """As `dvc config cache.type symlink` leaves a folder."""
    for path in [*folder.iterdir()]:
        kept = tmp_path / "cache/files/md5/ab" / f"{len(path.name):030x}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, kept)
        path.symlink_to(kept)
    load_predictor(folder)
    (folder / "card.json").unlink()
    shutil.copy(tmp_path / "cache/files/md5/ab" / f"{9:030x}", tmp_path / "card.json")
    (folder / "card.json").symlink_to("../card.json")
    refused(folder, r"card\.json: a link that leaves the folder; put the file itself there")


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as stream:
        stream.truncate(10**11)
    with pytest.raises(ModelError, match=r"x: 100,000,000,000 bytes, above the limit of 8,589,934,592; run"):
        plain_size(tmp_path / "x")
