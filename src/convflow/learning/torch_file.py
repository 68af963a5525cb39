"""What a .pth or .pt file says it holds, read before torch is handed it; nothing is built, nothing executed.

torch's own reader, with weights_only, executes nothing either; but a small file can still make it take any
amount of memory. So here only what a state dict is made of passes.
"""

import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

_ZIP = b"PK\x03\x04"  # by this torch, too, tells its two formats apart
_LEGACY_PICKLES = 5  # then come the bytes of the tensors
_MOST_BYTES = 2**20  # of a pickle: five times what the names and shapes of a large network take
_OF_A_STATE_DICT = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch(\.storage)? [A-Z][A-Za-z0-9]*Storage"
)
# They call or make what GLOBAL does not name; torch.save writes none of them.
_REFUSED = {
    "BYTEARRAY8", "EXT1", "EXT2", "EXT4", "INST", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "OBJ", "PERSID",
    "READONLY_BUFFER", "STACK_GLOBAL",
}  # fmt: skip


def audit(path: Path) -> None:
    """Look through the file at `path`.

    Raises:
        ValueError: it holds something else than tensors and plain values, or is packed.
        Exception: whatever zipfile and pickletools meet in a file made to be wrong.
    """
    with path.open("rb") as stream:
        zipped = stream.read(len(_ZIP)) == _ZIP
        stream.seek(0)
        if zipped:
            _audit_zip(stream, path.stat().st_size)
        else:
            for _ in range(_LEGACY_PICKLES):
                _audit_pickle(stream, stream.tell() + _MOST_BYTES)


def _audit_zip(stream: IO[bytes], n_bytes: int) -> None:
    with zipfile.ZipFile(stream) as opened:
        infos = opened.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("packed, where nothing should be")  # a small file could become any size
        if sum(info.file_size for info in infos) > n_bytes:
            raise ValueError("its parts are larger than itself")
        names = [info.filename.lower() for info in infos]
        if len(set(names)) != len(names) or any(".." in name.split("/") for name in names):
            raise ValueError("its parts are named as torch names none")
        pickles = [info for info in infos if info.filename.endswith(".pkl")]
        if [info.filename.rpartition("/")[2] for info in pickles] != ["data.pkl"]:
            raise ValueError("no file of torch.save")
        with opened.open(pickles[0]) as part:
            _audit_pickle(part, _MOST_BYTES)


def _audit_pickle(stream: IO[bytes], end: int) -> None:
    for opcode, argument, at in pickletools.genops(stream):
        if opcode.name in _REFUSED:
            raise ValueError(f"holds {opcode.name}, which no state dict has")
        if opcode.name == "GLOBAL" and not _OF_A_STATE_DICT.fullmatch(str(argument)):
            raise ValueError(f"holds {argument!s:.60}, which no state dict has")
        if (at or 0) > end:
            raise ValueError("names and shapes without end")
