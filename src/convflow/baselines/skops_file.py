"""scikit-learn's estimators and numpy's arrays in a skops file: never a pickle, and the same bytes each time.

What a file may hold is a fixed list, shorter than skops' own: this module reads its table of contents
against the list before skops builds anything.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import sklearn.utils

# skops imports all of scikit-learn, and with it torch, to list the estimators it trusts by itself: 5 s.
# With none to list it takes 0.4 s, and trusts none; those that we save are named below.
_all_estimators = sklearn.utils.all_estimators
sklearn.utils.all_estimators = lambda *given, **named: []
try:
    import skops.io
finally:
    sklearn.utils.all_estimators = _all_estimators

ESTIMATORS = (
    "sklearn.decomposition._pca.PCA",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.svm._classes.SVC",
)
_TRUSTED = {("ObjectNode", name) for name in ESTIMATORS} | {
    ("DictNode", "builtins.dict"),
    ("JsonNode", "builtins.str"),
    ("ListNode", "builtins.list"),
    ("NdArrayNode", "numpy.bool"),
    ("NdArrayNode", "numpy.float64"),
    ("NdArrayNode", "numpy.int32"),
    ("NdArrayNode", "numpy.int64"),
    ("NdArrayNode", "numpy.ndarray"),
    ("TupleNode", "builtins.tuple"),
    ("TypeNode", "builtins.str"),
}
_SCHEMA = "schema.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first day that a zip file can tell


def write_skops(path: Path, parts: dict[str, Any]) -> None:
    """Write `parts`; the same bytes for the same parts, wherever they lie in memory and whatever the day."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(parts))) as written:
        schema = json.loads(written.read(_SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        with zipfile.ZipFile(path, "w") as steady:
            for old, new in files.items():
                _write(steady, new, written.read(old))
            _write(steady, _SCHEMA, json.dumps(schema, indent=1).encode())


def _write(target: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _LONG_AGO)
    info.create_system, info.external_attr = 3, 0o644 << 16
    target.writestr(info, data)


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    """Objects are called by their address, and arrays' files by that; call them by their order instead."""
    if isinstance(node, list):
        for one in node:
            _renumber(one, numbers, files)
    elif isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if node.get("__loader__") == "NdArrayNode":
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1}.npy")
        else:
            for one in node.values():
                _renumber(one, numbers, files)


def read_skops(path: Path) -> Any:
    """Read what `write_skops` wrote.

    Raises:
        ValueError: the file holds something else.
        Exception: whatever skops, zipfile or numpy meet in a file made to be wrong.
    """
    with zipfile.ZipFile(path) as opened:
        _audit_parts(opened, path.stat().st_size)
        schema = json.loads(opened.read(_SCHEMA))
    _audit(schema, {})
    return skops.io.load(path, trusted=list(ESTIMATORS))


def _audit_parts(opened: zipfile.ZipFile, n_bytes: int) -> None:
    """See that no part takes more memory than it has bytes in the file.

    Raises:
        ValueError: one does.
    """
    infos = opened.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ValueError("packed, where nothing should be")  # a small file could become any size
    if sum(info.file_size for info in infos) > n_bytes or len(set(opened.namelist())) != len(infos):
        raise ValueError("its parts overlap")
    for info in infos:
        if info.filename != _SCHEMA:
            with opened.open(info) as part:
                _audit_array(part, info)


def _audit_array(part: IO[bytes], info: zipfile.ZipInfo) -> None:
    """numpy takes the room for an array before it reads the first number: compare what the header claims."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read[np.lib.format.read_magic(part)](part)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != info.file_size - part.tell():
        raise ValueError(f"{info.filename:.40} is no array of numbers as long as it says")


def _audit(node: Any, owners: dict[Any, Any]) -> None:
    """Look at every object before any is built; `owners` has the number of that which a file belongs to.

    Raises:
        ValueError: one that is not on the list, or a file that two of them claim.
    """
    if isinstance(node, dict):
        if "__loader__" in node or "__class__" in node:
            name = f"{node.get('__module__')}.{node.get('__class__')}"
            if (node.get("__loader__"), name) not in _TRUSTED or node.get("type", "numpy") != "numpy":
                raise ValueError(f"holds {name:.80} ({node.get('__loader__')!s:.40}), which no baseline has")
            number, file = node.get("__id__"), node.get("file")
            if node["__loader__"] == "NdArrayNode" and owners.setdefault(file, number) != number:
                raise ValueError(f"two arrays claim {file!s:.40}")
        for one in node.values():
            _audit(one, owners)
    elif isinstance(node, list):
        for one in node:
            _audit(one, owners)
