"""dvc.yaml, params.yaml, the command line and the code say the same."""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import yaml

from closure import ROOT, SOURCE, closure
from convflow.cli import SOURCES, STAGES
from convflow.params import load_section

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEMO = yaml.safe_load((ROOT / "data/dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
CACHED = [stage for stage in GRAPH if not GRAPH[stage].get("always_changed")]


def outs(spec: dict) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in spec.get("outs", [])]


def paths_of(spec: dict) -> list[str]:
    return shlex.split(spec["cmd"])[5:]


def test_the_graph_and_the_command_line_name_the_same_stages():
    assert tuple(GRAPH) == STAGES
    assert tuple(DEMO) == SOURCES


@pytest.mark.parametrize("stage", CACHED)
def test_a_stage_depends_on_exactly_the_code_it_imports(stage):
    declared = {dep for dep in GRAPH[stage]["deps"] if dep.startswith("src/")}
    assert declared == closure(f"convflow.stages.{stage}")


@pytest.mark.parametrize("stage", DEMO)
def test_a_source_depends_on_exactly_the_code_it_imports(stage):
    assert set(DEMO[stage]["deps"]) == closure(f"convflow.stages.{stage}")


@pytest.mark.parametrize("stage", GRAPH)
def test_a_stage_is_called_with_the_paths_it_declares_and_as_many_as_it_takes(stage):
    spec = GRAPH[stage]
    assert spec["cmd"].split()[:5] == ["python", "-m", "convflow", "run", stage]
    declared = {dep for dep in spec["deps"] if not dep.startswith("src/")} | set(outs(spec))
    # a candidate's folder is named, while the stage depends on those of all models beside it
    assert {path if path in declared else Path(path).parts[0] for path in paths_of(spec)} == declared
    taken = inspect.signature(importlib.import_module(f"convflow.stages.{stage}").run).parameters
    assert len(paths_of(spec)) == len([name for name in taken if name != "params"])


@pytest.mark.parametrize("stage", GRAPH)
def test_a_path_stands_where_the_parameter_of_its_name_is(stage):
    taken = inspect.signature(importlib.import_module(f"convflow.stages.{stage}").run).parameters
    folders = {"models": "model", "predictions": "predictions", "timing": "timing", "ladder": "ladder"}
    folders["exported"] = "exported"
    other_names = {"${data.root}": "root", "reports/verdict.md": "page"}
    for path, name in zip(paths_of(GRAPH[stage]), taken, strict=False):
        path = re.sub(r"(data/.*)/\$\{[\w.]+\}$", r"\1", path)  # what a size or a model is put below
        parent = Path(path).parent.name
        assert folders.get(parent, other_names.get(path, Path(path).stem)) == name


@pytest.mark.parametrize("stage", GRAPH)
def test_params_yaml_holds_a_valid_section_for_every_stage_that_declares_one(stage):
    module = importlib.import_module(f"convflow.stages.{stage}")
    has_params = hasattr(module, "Params")
    assert (stage in GRAPH[stage].get("params", [])) == has_params
    if has_params:
        load_section(ROOT / "params.yaml", stage, module.Params)


def test_the_test_images_are_read_to_be_predicted_and_to_see_that_nothing_changed_on_the_way_out():
    # export compares its answers with those of predict, and stops where they differ: it chooses nothing
    readers = [
        stage for stage in GRAPH if any(dep.startswith("data/packed/test") for dep in GRAPH[stage]["deps"])
    ]
    assert readers == ["predict", "export"]


def test_editing_a_metric_runs_no_training_again():
    downstream = {stage for stage in CACHED if "src/convflow/evaluation/metrics.py" in GRAPH[stage]["deps"]}
    assert downstream == {"evaluate"}


def test_packages_hold_a_docstring_and_nothing_to_depend_on():
    for file in SOURCE.rglob("__init__.py"):
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith('"""')]
        assert lines in ([], ['__version__ = "0.1.0"']), file


def test_every_parameter_section_belongs_to_a_stage_or_a_room():
    assert set(PARAMS) - set(GRAPH) == {"data", "gc", "promote", "tracking"}
