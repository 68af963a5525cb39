"""The transcript in docs/registry.md is what the commands say: run anew, it has the same shape."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from docs_scripts import committed, load_docs

pytestmark = pytest.mark.slow


def shape(lines: list[str]) -> list[str]:
    """The lines without figures, which another processor may round otherwise, and without columns' widths."""
    plain = [re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", line) for line in lines]
    return [re.sub(r"[ -]{2,}", " ", line) for line in plain]


def test_the_transcript_has_the_shape_of_the_page(tmp_path: Path) -> None:
    script = load_docs("registry")
    lines = [
        line
        for line in "\n".join(script.transcript(script.copy_project(tmp_path / "p"))).splitlines()
        if line
    ]
    assert shape(lines) == shape(committed())
