"""A project folder and `convflow init` run in it, for the tests of the verb."""

import argparse
import shutil
from pathlib import Path

import yaml

from convflow.cli import STAGES
from convflow.verbs import init
from made_images import make_tree, picture

PARAMS = Path(__file__).parent.parent / "params.yaml"


def make_empty(root):
    """A project that holds nothing but the params.yaml convflow comes with; returns `root`."""
    root.mkdir()
    shutil.copy(PARAMS, root / "params.yaml")
    return root


def run(*arguments):
    parser = argparse.ArgumentParser()
    init.add_arguments(parser)
    parser.set_defaults(stages=STAGES)
    return init.run(parser.parse_args([str(argument) for argument in arguments]))


def params():
    return yaml.safe_load(Path("params.yaml").read_text())


def table(root, lines):
    """Pictures 0.png, 1.png, ... and a labels.csv; the first of `lines` names its columns but the path."""
    rows = [f"path,{lines[0]}", *(f"{n}.png,{line}" for n, line in enumerate(lines[1:]))]
    files = {f"{n}.png": picture(n) for n in range(len(lines) - 1)}
    return make_tree(root, files | {"labels.csv": "\n".join(rows)})
