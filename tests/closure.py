"""Which of our modules a stage's code consists of, read from the source: DVC does not follow imports."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


def closure(module: str) -> set[str]:
    """Paths (relative to the project) of all first-party files that `module` loads, itself included.

    Packages' `__init__.py` hold a docstring and no code (a test sees to it), so they do not count.
    A module loaded by name counts when its whole name stands in a string, or as `convflow.<room>.` in an
    import_module call, which may load any of that room.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = SOURCE / (name.replace(".", "/") + ".py")
        relative = path.relative_to(ROOT).as_posix()
        if relative in found or not path.is_file():
            continue
        found.add(relative)
        waiting += _imports(path)
    return found


def _imports(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"convflow(\.\w+)+", str(node.value)):
            names.append(node.value)
    for package in re.findall(r'import_module\(f?"(convflow\.\w+)\.', text):
        folder = SOURCE / package.replace(".", "/")
        names += [f"{package}.{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"]
    return [name for name in names if name.startswith("convflow")]
