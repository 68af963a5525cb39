"""All of params.yaml is checked at once, and cheaply: no stage's libraries are loaded for it."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from convflow.cli import STAGES
from convflow.errors import ParamsError
from convflow.sections import check_params, faults_in, schema_of, schemas

PARAMS = Path(__file__).parent.parent / "params.yaml"


@pytest.fixture
def tree():
    return yaml.safe_load(PARAMS.read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_the_schema_of_a_stage_is_its_params(stage):
    module = importlib.import_module(f"convflow.stages.{stage}")
    schema = schemas(STAGES).get(stage)
    if schema is None:
        assert not hasattr(module, "Params")
    else:
        assert schema.model_json_schema() == module.Params.model_json_schema()


def test_no_librarys_seconds_are_spent_on_it():
    code = (
        "import sys, convflow.cli as cli, convflow.sections as sections; sections.schemas(cli.STAGES)\n"
        "heavy = 'torch pandas numpy sklearn skimage great_expectations matplotlib mlflow pyarrow scipy'\n"
        "print(*sys.modules.keys() & set(heavy.split()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_params_convflow_comes_with_are_sound():
    check_params(PARAMS, STAGES)


def test_a_typo_in_any_section_shows_at_once(tree, tmp_path):
    tree["train"]["epochs"] = 0
    tree["evaluate"]["draws"] = tree["evaluate"].pop("n_draws")
    tree["trainig"] = {}
    del tree["publish"]
    tree["data"]["root"] = ""
    tree["gc"] = {"keeep": 0}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError) as caught:
        check_params(path, STAGES)
    assert str(caught.value).splitlines() == [
        f"{path}: trainig: no such section; did you mean train?",
        f'{path}: data.root: expected a text that is not empty, found ""',
        f"{path}: train.epochs: expected a whole number above 0, found 0",
        f"{path}: evaluate.n_draws: missing; add `n_draws:` with a whole number from 200 to 100,000",
        f"{path}: evaluate.draws: no such parameter; did you mean n_draws?",
        f"{path}: publish: missing; add the section, with name, alias, check_images and tolerance",
        f"{path}: gc.keep: missing; add `keep:` with a whole number above 0",
        f"{path}: gc.keeep: no such parameter; did you mean keep?",
    ]


def test_what_contradicts_the_classes_expected_shows_at_once(tree):
    tree["validate"]["labels"] = ["cat", "dog", "hen"]
    tree["evaluate"] |= {"positive": "dogs", "operating_point": "f1"}
    tree["decide"]["min_recall"] = {"cat": 0.5, "emu": 0.5}
    assert faults_in(tree, STAGES) == {
        "decide.min_recall.emu": "no class 'emu' in validate.labels; there are cat, dog, hen",
        "evaluate.positive": "no class 'dogs' in validate.labels; did you mean dog?",
        "evaluate.operating_point": "f1 wants two classes, validate.labels has 3; set it to argmax",
    }
    tree["validate"]["labels"] = None  # any: only the data will tell
    assert faults_in(tree, STAGES) == {}


SOURCE = """
import no_such_library
from no_such_library import Net as Thing, other
from typing import Annotated
from pydantic import Field as F
from convflow.params import Section

LEAST: int = 2
Some = Annotated[int, F(ge=LEAST)]
work = no_such_library.load()

def twice(value):
    return 2 * value

class Inner(Section):
    a: Some

class Params(Section):
    inner: Inner
    b: int = twice(LEAST)

class Model(Thing):
    pass
"""


def test_a_size_that_is_not_packed_and_a_model_that_nobody_makes_show_at_once(tree):
    tree["pack"]["sizes_px"] = [224]
    tree["evaluate"]["models"] = ["tranfser", "cnn", "svm"]
    assert faults_in(tree, STAGES) == {
        "features.packed_px": "96 is not among pack.sizes_px [224]; add it there",
        "train.packed_px": "96 is not among pack.sizes_px [224]; add it there",
        "evaluate.models": "no stage makes 'tranfser'; did you mean transfer?",
    }
    tree["finetune"]["models"] = []
    tree["pack"]["sizes_px"] = [96]
    tree["evaluate"]["models"] = ["transfer", "cnn"]
    assert faults_in(tree, STAGES) == {
        "evaluate.models": "no stage makes 'transfer'; there are cnn, majority, knn, svm, logistic"
    }
    tree["evaluate"]["models"] = ["svm", "cnn"]
    assert faults_in(tree, STAGES) == {
        "evaluate.candidate": "'transfer' is not among evaluate.models; there are svm, cnn"
    }
    tree["finetune"]["models"] = ["svm"]
    tree["pack"]["sizes_px"] = [96, 224]
    assert faults_in(tree, STAGES) == {
        "finetune.models": "'svm' is the name of another model; choose one of its own"
    }


def test_only_what_params_consist_of_is_run(tmp_path):
    (tmp_path / "some.py").write_text(SOURCE)
    schema = schema_of(tmp_path / "some.py")
    assert schema.model_validate({"inner": {"a": 2}}).model_dump() == {"inner": {"a": 2}, "b": 4}
    (tmp_path / "none.py").write_text("import no_such_library")
    assert schema_of(tmp_path / "none.py") is None


def test_a_library_that_params_do_need_is_loaded(tmp_path):
    (tmp_path / "some.py").write_text(SOURCE.replace("a: Some", "a: Some = other"))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        schema_of(tmp_path / "some.py")
