"""Files of weights made to harm, given as embed.source: one line each, nothing executed, no waiting."""

import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convflow.errors import ConvflowError
from convflow.files import digest_file
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.learning.torch_file import audit
from convflow.learning.weights import read_weights
from made_hostile import CODE, GREED, PLACES, SAFETENSORS, put, refused


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return tmp_path / "folder"


def load(path: Path) -> object:
    """By the road of embed.source, its digest the right one."""
    digest = digest_file(path) if path.is_file() and path.stat().st_size < 2**30 else "0" * 64
    return open_pretrained(str(path), Wanted(arch="resnet18", sha256=digest))


@pytest.mark.parametrize(
    "extension", ["pt", "pth", "safetensors", "bin", "pkl", "ckpt", "joblib", "onnx", "npy", "skops"]
)
@pytest.mark.parametrize("name", [*CODE, *GREED])
def test_no_file_of_weights_is_executed(here: Path, extension: str, name: str) -> None:
    path = here / f"w.{extension}"
    path.write_bytes((CODE | GREED)[name])
    refused(lambda: load(path), path.name)


@pytest.mark.parametrize("name", [name for name in SAFETENSORS if "nothing, often" not in name])
def test_safetensors_that_lie_are_refused(here: Path, name: str) -> None:
    path = here / "w.safetensors"
    path.write_bytes(SAFETENSORS[name])
    refused(lambda: load(path), path.name)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_what_is_no_file_is_never_opened(here: Path, place: str, extension: str) -> None:
    path = here / f"w.{extension}"
    path.write_bytes(b"")
    put(path, place)
    refused(lambda: load(path), path.name)


def test_a_file_above_the_limit_is_not_read(here: Path) -> None:
    path = here / "w.safetensors"
    with path.open("wb") as stream:
        stream.truncate(10**11)  # takes no room on disk
    refused(lambda: load(path), path.name, r"100,000,000,000 bytes, above the limit of 8,589,934,592")


def saved(path: Path, value: object, *, legacy: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_state_dicts_pass(here: Path, legacy: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    tied = torch.ones(3)
    for value in (
        net.state_dict(),
        dict(net.state_dict()),
        {"half": torch.ones(2).half(), "brain": torch.ones(2).bfloat16(), "whole": torch.arange(3)},
        {"parameter": torch.nn.Parameter(torch.ones(2)), "a": tied, "b": tied, "flag": torch.tensor(True)},
        {"scalar": torch.tensor(1.5), "none": torch.zeros(0, 3)},
    ):
        path = saved(here / "w.pth", value, legacy=legacy)
        found = read_weights(path, digest_file(path))
        assert found.keys() == value.keys()
        for name, tensor in value.items():
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"a": torch.ones(2, device="meta")}, "refused|no plain tensor"),
        ({"a": torch.ones(2, 2).to_sparse()}, "refused|no plain tensor"),
        ({"a": torch.zeros(1).expand(10**12)}, "a claims more numbers than there are"),
        ({f"{n}": torch.zeros(50).expand(10, 50) for n in range(9)}, "claims more numbers than there are"),
        ({"a": torch.tensor([1.0, float("nan")])}, "a holds values that are not finite"),
        ({"a.b": torch.tensor([float("inf")])}, r"a\.b holds values that are not finite"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, r"a is torch\.complex64; save it as float32"),
        ({3: torch.ones(2)}, "3 is no plain tensor"),
        ({"a": {"b": torch.ones(2)}}, "holds more than tensors by name"),
        ({"a": OrderedDict(b=3)}, "holds more than tensors by name"),
        ([torch.ones(2)], "holds more than tensors by name"),
        (torch.ones(2), "holds more than tensors by name"),
        ({"a": 1, "b": {1, 2}}, "which no state dict has|more than tensors"),
        (torch.nn.Linear(1, 1), "holds torch.nn.modules.linear Linear, which no state dict has"),
        ({"a": torch.device("cpu")}, "holds torch device, which no state dict has"),
        ({"a": bytearray(3)}, "which no state dict has"),
    ],
)
def test_what_is_no_state_dict_of_finite_tensors_is_refused(
    here: Path, value: object, match: str, legacy: bool
) -> None:
    path = saved(here / "w.pth", value, legacy=legacy)
    refused(lambda: load(path), path.name, match)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_safetensors_that_are_not_finite_are_refused(here: Path, value: float) -> None:
    path = here / "w.safetensors"
    save_file({"good": torch.ones(2), "conv.weight": torch.tensor([value])}, path)
    refused(lambda: load(path), path.name, r"conv\.weight holds values that are not finite")


@pytest.mark.slow
def test_a_stream_of_opcodes_without_end_is_left_soon(here: Path) -> None:
    path = here / "w.pth"
    path.write_bytes(b"\x80\x02" + b"N0" * 2**20 + b".")
    refused(lambda: load(path), path.name, "names and shapes without end")


def test_a_storage_that_claims_100_gb_takes_none(here: Path) -> None:
    path = saved(here / "w.pth", {"a": torch.ones(2)}, legacy=True)
    data = path.read_bytes()
    assert data.count(b"K\x02N") == 1  # the storage's length, and no view of it
    path.write_bytes(data.replace(b"K\x02N", b"\x8a\x05" + (25 * 10**9).to_bytes(5, "little") + b"N"))
    refused(lambda: load(path), path.name)


@pytest.mark.parametrize("extension", ["pth", "safetensors"])
def test_a_file_cut_short_or_altered_is_refused_or_harmless(here: Path, extension: str) -> None:
    """Its digest is the right one all the same: somebody has pinned a broken file."""
    net, path = torch.nn.Linear(3, 2), here / f"w.{extension}"
    if extension == "pth":
        torch.save(net.state_dict(), path)
    else:
        save_file(net.state_dict(), path)
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for at in torch.randint(0, len(data), (60,), generator=generator).tolist():
        path.write_bytes(data[:at])
        refused(lambda: load(path), path.name)
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            found = read_weights(path, digest_file(path))
        except ConvflowError as error:
            assert "\n" not in str(error)  # noqa: PT017  other weights are as good
        else:
            assert all(torch.isfinite(tensor).all() for tensor in found.values())


def test_the_audit_sees_what_torch_would_build(here: Path) -> None:
    path = here / "w.pth"
    for data in (CODE["torch zip"], CODE["torch legacy"], CODE["pickle 0"], CODE["pickle 5"]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="which no state dict has"):
            audit(path)
    path.write_bytes(struct.pack("<I", 0x04034B50) + pickle.dumps({}))
    with pytest.raises(Exception, match="zip"):
        audit(path)
