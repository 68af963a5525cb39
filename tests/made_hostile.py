"""Files made to harm whoever reads them, and a watch on what happened."""

import io
import json
import os
import pickle
import resource
import signal
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from convflow.errors import ConvflowError
from convflow.files import digest_file, read_json, write_json
from convflow.manifest import save_manifest

WAIT_S = 20
_MOST_MIB = 300  # what Python's own modules take included
CANARY = "canary"  # in the working folder: whoever runs what a file says makes it


class Evil:
    """Unpickled, it writes the canary."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({CANARY!r}, 'w').close()",)


@contextmanager
def watched() -> Iterator[None]:
    """Whatever runs inside ends soon, takes little memory, and runs nothing of what it reads."""

    def late(*_: object) -> None:
        pytest.fail(f"no answer in {WAIT_S} s")

    before, memory = signal.signal(signal.SIGALRM, late), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(WAIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 1024 * _MOST_MIB
    assert not Path(CANARY).exists(), "executed"


def refused(load: Callable[[], object], file: str, match: str | None = None) -> str:
    """One clear line that names the file and says what to do."""
    with watched(), pytest.raises(ConvflowError, match=match) as caught:
        load()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert file in text
    assert "; " in text or ": run `" in text
    return text


def vouch(folder: Path) -> None:
    """Digests that fit: malice, not the disk's mistake."""
    try:
        card = read_json(folder / "card.json")
        name = card["weights"]["file"]
        if (folder / name).is_file():
            write_json(
                folder / "card.json", card | {"weights": {"file": name, "sha256": digest_file(folder / name)}}
            )
    except (ConvflowError, KeyError, TypeError):
        pass
    save_manifest(folder)


# --- pickles, in every dress


def zipped(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return stream.getvalue()


def _torch(value: object, **how: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **how)
    return stream.getvalue()


def _numpy(value: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([value], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _tarred(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        opened.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _torch_zip(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    names = {"version": b"3\n", "byteorder": b"little"} | files
    return zipped({f"archive/{name}": data for name, data in names.items()}, how)


EVIL = pickle.dumps({"net.head.1.bias": Evil()}, protocol=2)
# bytearray(10**11) by REDUCE: allowed by torch, and all of it is written to
_GREEDY = b"\x80\x02cbuiltins\nbytearray\n(\x8a\x05" + (10**11).to_bytes(5, "little") + b"tR."
CODE = {
    "pickle 0": pickle.dumps(Evil(), protocol=0),
    "pickle 2": EVIL,
    "pickle 5": pickle.dumps({"a": Evil()}, protocol=5),
    "torch zip": _torch({"net.head.1.bias": Evil()}),
    "torch legacy": _torch({"net.head.1.bias": Evil()}, _use_new_zipfile_serialization=False),
    "torch module": _torch(torch.nn.Linear(2, 2)),
    "torch zip by hand": _torch_zip({"data.pkl": EVIL}),
    "torch zip, two pickles": _torch_zip({"data.pkl": pickle.dumps({}, protocol=2), "constants.pkl": EVIL}),
    "joblib": b"\x80\x04" + pickle.dumps([Evil()], protocol=4)[2:],
    "zlib, as joblib packs": zlib.compress(pickle.dumps(Evil())),
    "numpy of objects": _numpy(Evil()),
    "skops with a pickle": zipped({"schema.json": b'{"__loader__": "Evil"}', "1.npy": _numpy(Evil())}),
    "bare opcode": b"cposix\nsystem\n(S'touch " + CANARY.encode() + b"'\ntR.",
}
GREED = {
    "empty": b"",
    "text": b"version https://git-lfs.github.com/spec/v1\n",
    "zip, packed a thousandfold": zipped({"schema.json": bytes(2**26)}, zipfile.ZIP_DEFLATED),
    "torch zip, packed": _torch_zip({"data.pkl": bytes(2**24)}, zipfile.ZIP_DEFLATED),
    "torch zip, greedy": _torch_zip({"data.pkl": _GREEDY}),
    "greedy pickle": _GREEDY,
    "zip with a way out": zipped({"../../canary": b"", "/canary": b""}),
    "torch zip with a way out": _torch_zip({"data.pkl": pickle.dumps({}, protocol=2), "../../canary": b""}),
    "tar with a way out": _tarred("../canary", b"x"),
    "onnx": b"\x08\x0a\x12\x07pytorch:\x00",
    "nothing but zeros": bytes(4096),
}  # fmt: skip


# --- safetensors by hand


def safetensors(header: object, data: bytes = b"", claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def _one(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "header of 2**63 bytes": safetensors(b"{}", claimed=2**63),
    "header of 100 GB": safetensors(b"{}", claimed=10**11),
    "header longer than the file": safetensors(b"{}", claimed=1000),
    "header that is no JSON": safetensors(b"{{{{"),
    "header that is a list": safetensors([1, 2]),
    "header nested without end": safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "offsets beyond the file": safetensors({"a": _one(offsets=(0, 10**9))}, bytes(8)),
    "offsets of 100 GB": safetensors({"a": _one(shape=(25 * 10**9,), offsets=(0, 10**11))}, bytes(8)),
    "offsets below nothing": safetensors({"a": _one(offsets=(-8, 0))}, bytes(8)),
    "offsets backwards": safetensors({"a": _one(offsets=(8, 0))}, bytes(8)),
    "offsets that overlap": safetensors({"a": _one(), "b": _one(offsets=(4, 12))}, bytes(12)),
    "a hole": safetensors({"a": _one(), "b": _one(offsets=(16, 24))}, bytes(24)),
    "bytes left over": safetensors({"a": _one()}, bytes(80)),
    "10**12 numbers": safetensors({"a": _one(shape=(10**12,))}, bytes(8)),
    "a shape that overflows": safetensors({"a": _one(shape=(2**40, 2**40))}, bytes(8)),
    "a shape below nothing": safetensors({"a": _one(shape=(-2,))}, bytes(8)),
    "a shape of nothing, often": safetensors({"a": _one(shape=(0, 10**12), offsets=(0, 0))}),
    "a type that there is not": safetensors({"a": _one(dtype="PICKLE")}, bytes(8)),
    "the same name twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(8)
    ),
    "cut short": safetensors({"a": _one()}, bytes(3)),
}  # fmt: skip


# --- places


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "link to a system's file": lambda path: path.symlink_to("/etc/passwd"),
    "link out of the folder": lambda path: path.symlink_to("../../elsewhere"),
    "loop of links": lambda path: path.symlink_to(path),
    "broken link": lambda path: path.symlink_to("nowhere"),
    "nothing": lambda path: None,
}


def put(path: Path, place: str) -> None:
    """In place of the file at `path`, something that is none."""
    _replace(path, PLACES[place])
