"""A digest of the code a result comes from: the module that made it and all of ours that it imports."""

import ast
import re
from pathlib import Path

from convflow.files import digest_file, digest_json

_SOURCE = Path(__file__).parents[2]
_LATE = re.compile(r"convflow(\.\w+)+")


def code_digest(*modules: str) -> str:
    """SHA-256 over the files of `modules` and of every module of ours they import, however late.

    A name in a string (`import_module("convflow.nets.residual")`) counts as an import; a whole room
    (`import_module(f"convflow.nets.{arch}")`) as one of each module in it.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _SOURCE / (name.replace(".", "/") + ".py")
        if name in found or not path.is_file():
            continue
        found[name] = digest_file(path)
        waiting += _imports(ast.parse(path.read_text(encoding="utf-8")))
    return digest_json(found)


def _imports(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += [node.value] if _LATE.fullmatch(node.value) else _room(node.value)
    return [name for name in names if name.startswith("convflow.")]


def _room(text: str) -> list[str]:
    """All modules of a room when `text` is how an f-string that names one of them begins."""
    room = text.removesuffix(".")
    if text == room or not _LATE.fullmatch(room):
        return []
    folder = _SOURCE / room.replace(".", "/")
    return [f"{room}.{file.stem}" for file in sorted(folder.glob("*.py"))]
