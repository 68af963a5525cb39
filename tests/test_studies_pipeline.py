"""studies/elpv: its dvc.yaml, its params.yaml, the command line and the code say the same."""

import importlib
import inspect
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from closure import ROOT, closure
from convflow.cli import STUDY
from convflow.params import load_section
from convflow.stages import embed, encode
from test_cli import HEAVY, SKLEARN

FOLDER = ROOT / "studies/elpv"
GRAPH = yaml.safe_load((FOLDER / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((FOLDER / "params.yaml").read_text())
# What each stage calls, and so may load; a fold's process loads what its model needs, once it is known.
LOADS = {
    "describe": {"scipy", "skimage"},
    "encode": {"accelerate", "torch"},
    "folds": {"pyarrow"},
    "gather": {"pyarrow"},
    "protocols": SKLEARN,
    "standing": {"matplotlib", "pyarrow", "scipy"},
}


def outs(spec):
    return [out if isinstance(out, str) else next(iter(out)) for out in spec["outs"]]


def test_the_graph_and_the_command_line_name_the_same_stages():
    assert set(GRAPH) - {"scan"} == set(STUDY) == set(LOADS)
    assert set(PARAMS) == set(STUDY)


@pytest.mark.parametrize("stage", GRAPH)
def test_a_stage_depends_on_exactly_the_code_it_imports(stage):
    declared = {dep.removeprefix("../../") for dep in GRAPH[stage]["deps"] if "/src/" in dep}
    assert declared == closure(f"convflow.stages.{stage}")


@pytest.mark.parametrize("stage", GRAPH)
def test_a_stage_is_called_with_the_paths_it_declares_in_the_places_of_their_names(stage):
    spec = GRAPH[stage]
    words = shlex.split(spec["cmd"])
    assert words[:5] == ["python", "-m", "convflow", "run", stage]
    declared = {dep for dep in spec["deps"] if "/src/" not in dep} | set(outs(spec))
    assert set(words[5:]) == declared
    taken = [
        name
        for name in inspect.signature(importlib.import_module(f"convflow.stages.{stage}").run).parameters
        if name != "params"
    ]
    places = {"../../data/raw/elpv": "root"}
    found = [
        places.get(word, next(name for name in [*taken, "?"] if name in Path(word).parts or name == "?"))
        for word in words[5:]
    ]
    assert found == taken


@pytest.mark.parametrize("stage", STUDY)
def test_params_yaml_holds_a_valid_section_for_every_stage(stage):
    module = importlib.import_module(f"convflow.stages.{stage}")
    assert GRAPH[stage]["params"] == [stage]
    load_section(FOLDER / "params.yaml", stage, module.Params)


def test_interrupted_folds_are_kept():
    assert all(next(iter(out.values())) == {"persist": True} for out in GRAPH["folds"]["outs"])


def test_features_are_those_of_the_main_pipeline_and_searches_try_at_least_as_much():
    main = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert PARAMS["describe"] == {name: main["features"][name] for name in PARAMS["describe"]}
    ours, theirs = PARAMS["folds"]["baselines"], main["baseline"]
    for name in ("folds", "criterion"):
        assert ours[name] == theirs[name]
    for kind in ("knn", "svm", "logistic"):
        assert all(set(theirs[kind][name]) <= set(values) for name, values in ours[kind].items())


def test_pretrained_networks_are_asked_as_in_the_main_pipeline():
    ours, theirs = (set(stage.Params.model_fields) for stage in (encode, embed))
    assert ours == theirs - {"packed_px"}  # here `gather` has the side, by use


@pytest.mark.slow
def test_a_stage_loads_the_heavy_libraries_it_calls_and_no_other():
    for stage, wanted in LOADS.items():
        code = f"import sys, convflow.__main__, convflow.stages.{stage}; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert HEAVY & set(loaded.stdout.split()) == wanted, stage
