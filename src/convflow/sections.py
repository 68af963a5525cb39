"""All sections of params.yaml at once, checked before anything runs: a typo must not show after the training.

Sections are `data`, `tracking`, `gc` and one per stage that has a class `Params`. A stage's file begins with
libraries that take seconds to load (torch, Great Expectations), and its `Params` needs none of them: so the
statements which that class consists of are picked out of the source and run by themselves. Should it need
such a library after all, that one is loaded, too: slower, and no less right.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from convflow.errors import ParamsError
from convflow.faults import find_faults, nearest
from convflow.params import Section, read_params
from convflow.registry.keeping import Gc
from convflow.registry.limits import Promote
from convflow.registry.store import Tracking

_STAGES = Path(__file__).parent / "stages"


class Data(Section):
    """The section `data`: where the images are."""

    root: Annotated[str, Field(min_length=1)]


def at(tree: Any, key: str) -> Any:
    """The value of a dotted key in params.yaml as it is read; None where there is none."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def check_params(path: Path, stages: Sequence[str]) -> None:
    """Check every section of params.yaml; `stages` are all there are, with parameters or without.

    Raises:
        ParamsError: a line for each unknown or missing section, and for each key that is wrong.
    """
    if faults := faults_in(read_params(path), stages):
        raise ParamsError("\n".join(f"{path}: {key}: {text}" for key, text in faults.items()))


def faults_in(tree: Mapping[Any, Any], stages: Sequence[str]) -> dict[str, str]:
    """What is wrong with the whole of params.yaml: a phrase by the dotted name of the key."""
    return faults_of_sections(tree, stages) or _faults_between(tree)


def faults_of_sections(tree: Mapping[Any, Any], stages: Sequence[str]) -> dict[str, str]:
    """The same, each section taken by itself."""
    known = schemas(tuple(stages))
    faults = {str(name): f"no such section{nearest(str(name), known)}" for name in tree if name not in known}
    for name, schema in known.items():
        found = find_faults(tree.get(name), schema)
        faults |= {f"{name}.{key}" if key else name: text for key, text in found.items()}
    return faults


def _faults_between(tree: Mapping[str, Any]) -> dict[str, str]:
    """Where sections that are sound by themselves contradict each other."""
    return _faults_of_sizes(tree) | _faults_of_models(tree) | _faults_of_classes(tree)


def _faults_of_sizes(tree: Mapping[str, Any]) -> dict[str, str]:
    """Where a stage takes pictures of a size that is not packed."""
    sizes = at(tree, "pack.sizes_px") or []
    users = ("features", "train", "embed") if at(tree, "finetune.models") else ("features", "train")
    taken = {f"{stage}.packed_px": at(tree, f"{stage}.packed_px") for stage in users}
    return {
        key: f"{side} is not among pack.sizes_px {sizes}; add it there"
        for key, side in taken.items()
        if side is not None and side not in sizes
    }


def _faults_of_models(tree: Mapping[str, Any]) -> dict[str, str]:
    """Where a model is to be evaluated that no stage makes, or judged that is not evaluated."""
    made = ["cnn", *(at(tree, "baseline.kinds") or []), *(at(tree, "finetune.models") or [])]
    taken = [name for name in at(tree, "finetune.models") or [] if made.count(name) > 1]
    if taken:
        return {"finetune.models": f"{taken[0]!r} is the name of another model; choose one of its own"}
    wanted, candidate = at(tree, "evaluate.models") or [], at(tree, "evaluate.candidate")
    if missing := [name for name in wanted if name not in made]:
        return {"evaluate.models": f"no stage makes {missing[0]!r}{nearest(missing[0], made) or _all(made)}"}
    if candidate is not None and candidate not in wanted:
        return {"evaluate.candidate": f"{candidate!r} is not among evaluate.models{_all(wanted)}"}
    return {}


def _faults_of_classes(tree: Mapping[str, Any]) -> dict[str, str]:
    """Where a class is named that is not expected."""
    classes = at(tree, "validate.labels")
    if classes is None:
        return {}
    floors = at(tree, "decide.min_recall")
    named = {f"decide.min_recall.{name}": name for name in floors} if isinstance(floors, dict) else {}
    if (positive := at(tree, "evaluate.positive")) is not None:
        named["evaluate.positive"] = positive
    faults = {
        key: f"no class {name!r} in validate.labels{nearest(name, classes) or _all(classes)}"
        for key, name in named.items()
        if name not in classes
    }
    point = at(tree, "evaluate.operating_point")
    if point not in (None, "argmax") and len(classes) != 2:
        said = f"{point} wants two classes, validate.labels has {len(classes)}; set it to argmax"
        faults["evaluate.operating_point"] = said
    return faults


def _all(classes: Sequence[str]) -> str:
    return f"; there are {', '.join(classes)}"


@cache
def schemas(stages: tuple[str, ...]) -> dict[str, type[Section]]:
    """The schema of every section, by its name, in the order of the stages."""
    of_stages = {stage: schema_of(_STAGES / f"{stage}.py") for stage in stages}
    with_params = {stage: schema for stage, schema in of_stages.items() if schema is not None}
    return {"data": Data, **with_params, "promote": Promote, "tracking": Tracking, "gc": Gc}


def schema_of(source: Path) -> type[Section] | None:
    """The class `Params` of a stage's file, made without the rest of the file; None where there is none."""
    statements = ast.parse(source.read_bytes(), source).body
    maker = {name: statement for statement in statements for name in _names(statement)}
    wanted, waiting = set[ast.stmt](), ["Params"]
    while waiting:
        statement = maker.get(waiting.pop())
        if statement is not None and statement not in wanted:
            wanted.add(statement)
            waiting += [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]
    module = ast.Module([statement for statement in statements if statement in wanted], [])
    made: dict[str, Any] = {"__name__": f"convflow.stages.{source.stem}"}
    exec(compile(module, source, "exec"), made)  # noqa: S102  our own source
    return made.get("Params")


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a file defines."""
    match statement:
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
