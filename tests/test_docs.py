"""docs/registry.md agrees with its script and with the command line; its pictures are there and small."""

import re
from pathlib import Path

import pytest

from convflow import cli
from docs_scripts import DOCS, committed, load_docs

PAGE = (DOCS / "registry.md").read_text(encoding="utf-8")


def test_the_transcript_has_the_commands_of_the_script() -> None:
    steps = [line for step in load_docs("registry").STEPS for line in f"$ {step.command}".splitlines()]
    wanted = set(steps)
    assert [line for line in committed() if line in wanted] == steps


@pytest.mark.parametrize("name", re.findall(r"\((images/[^)]+)\)", PAGE))
def test_a_picture_is_there_and_small(name: str) -> None:
    assert 5_000 < (DOCS / name).stat().st_size < 150_000


def test_every_verb_and_file_the_page_names_exists() -> None:
    verbs = set(re.findall(r"`convflow (\w+)", PAGE))
    assert verbs <= {*cli.VERBS, "run"}
    for path in re.findall(r"`((?:docs|tests)/[\w/.]+)`", PAGE):
        assert (DOCS.parent / path).exists(), path


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("/x/y/mlflow.db at 2026-01-02 03:04:05.678+00:00", "PROJECT/mlflow.db at (time)"),
        ("2026-01-02T03:04Z by ada", "(time) by ada"),
        ("commit 0a1b2c3d4e5f, 12,345 images", "commit (hash), 12,345 images"),
        ("loads in 12.5 s; at most 60", "loads in (so many) s; at most 60"),
        ("defaced", "defaced"),
        ("accuracy 0.912 [0.881, 0.943]", "accuracy 0.912 [0.881, 0.943]"),
    ],
)
def test_what_differs_from_run_to_run_is_masked(line: str, masked: str) -> None:
    assert load_docs("registry").mask(line, Path("/x/y")) == masked
