"""The script of the documentation, as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[1] / "docs"


def load_docs(name: str) -> ModuleType:
    """The module in docs/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def committed() -> list[str]:
    """The lines of the transcript in docs/registry.md."""
    script = load_docs("registry")
    page = (DOCS / "registry.md").read_text(encoding="utf-8")
    between = page.split(script.BEGIN)[1].split(script.END)[0]
    return [line for line in between.splitlines() if line and not line.startswith("```")]
