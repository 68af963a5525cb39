"""params.yaml changed: `--set KEY=VALUE` read and checked; comments, order and all other values stay."""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from convflow.errors import ParamsError
from convflow.sections import at, faults_of_sections

Tree = dict[str, Any]  # params.yaml as it is read


def read_settings(texts: Iterable[str], present: Tree, stages: Sequence[str]) -> dict[str, Any]:
    """Read texts such as `train.epochs=20`; values by the dotted name of their key.

    Raises:
        ParamsError: a line for each text that names no parameter, or gives it a value it does not take.
    """
    wanted = dict(_setting(text, present, stages) for text in texts)
    faults = faults_of_sections(changed(present, wanted), stages)
    refuse({fault: text for fault, text in faults.items() if _setting_of(fault, wanted)}, wanted)
    return wanted


def refuse(faults: Mapping[str, str], wanted: Mapping[str, Any], place: str = "") -> None:
    """Raise `faults`, if there are any, each with the setting in `wanted` that it comes from, or `place`.

    Raises:
        ParamsError: a line for each.
    """
    lines = []
    for fault, text in faults.items():
        key = _setting_of(fault, wanted)
        where = f"--set {key}" if key else place
        lines.append(f"{where}: {text}" if key == fault else f"{where}: {fault}: {text}")
    if lines:
        raise ParamsError("\n".join(lines))


def changed(present: Tree, changes: Mapping[str, Any]) -> Tree:
    """A copy of `present` with `changes`, values by the dotted name of their key."""
    tree = deepcopy(present)
    for key, value in changes.items():
        _put(tree, key, value)
    return tree


def rewritten(path: Path, changes: Mapping[str, Any]) -> str:
    """The text of params.yaml with `changes`, so that PyYAML reads back what was meant.

    Raises:
        ParamsError: the file is not YAML.
    """
    editor = YAML()
    editor.width = 1 << 16  # no line is broken that was whole
    editor.Representer = _Representer
    try:
        tree = editor.load(path.read_text(encoding="utf-8"))
    except YAMLError as error:  # stricter than PyYAML: a key that is there twice
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    for key, value in changes.items():
        _put(tree, key, _as_yaml(value))
    text = io.StringIO()
    editor.dump(tree, text)
    return text.getvalue()


def _setting(text: str, present: Tree, stages: Sequence[str]) -> tuple[str, Any]:
    """The key and the value of a `--set`, read as the parameter takes it where it can be."""
    key, equals, written = text.partition("=")
    if not (key and equals):
        raise ParamsError(f"--set {text}: write it as train.epochs=20")
    try:
        value = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError) as error:
        raise ParamsError(f"--set {text}: not YAML: {' '.join(str(error).split())}") from None
    for reading in _readings(value, written, at(present, key)):
        faults = faults_of_sections(changed(present, {key: reading}), stages)
        if not any(_is_within(fault, key) for fault in faults):
            return key, reading
    return key, value


def _readings(value: Any, written: str, old: Any) -> list[Any]:
    """What a text may have been meant to say, the likeliest first."""
    readings = [value]
    if isinstance(value, str) or (isinstance(old, float) and not isinstance(value, bool)):
        with suppress(TypeError, ValueError):  # 1e-3 is a text in YAML 1.1, and 1 a whole number
            readings.insert(isinstance(value, str), float(value))
    if isinstance(value, int | float | date):
        readings.append(written.strip())  # a class may be named yes or 12:30
    return readings


def _setting_of(fault: str, wanted: Iterable[str]) -> str:
    """The key in `wanted` that has to do with the fault at this key, or an empty string."""
    return next((key for key in wanted if _is_within(fault, key) or _is_within(key, fault)), "")


def _is_within(key: str, outer: str) -> bool:
    return f"{key}.".startswith(f"{outer}.")


def _put(tree: Any, key: str, value: Any) -> None:
    """Set the value of a dotted key; a section that is not there is made."""
    *sections, last = key.split(".")
    for name in sections:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[last] = value


class _Representer(RoundTripRepresenter):
    """Writes numbers so that YAML 1.1, which reads params.yaml, takes them as such, and null in letters."""

    def represent_float(self, data: float) -> Any:
        text = repr(data)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)

    def represent_none(self, data: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(float, _Representer.represent_float)
_Representer.add_representer(type(None), _Representer.represent_none)


def _as_yaml(value: Any) -> Any:
    """The value as ruamel has to be given it so that PyYAML reads it back; lists on one line."""
    if isinstance(value, list):
        line = CommentedSeq([_as_yaml(item) for item in value])
        line.fa.set_flow_style()  # only so its line keeps its comment
        return line
    if isinstance(value, dict):
        mapping = CommentedMap({_as_yaml(key): _as_yaml(item) for key, item in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    return DoubleQuotedScalarString(value) if isinstance(value, str) and not _is_plain(value) else value


def _is_plain(text: str) -> bool:
    """Does YAML 1.1 read the bare text as this text? (`yes` and `12:30` it does not.)"""
    try:
        return bool(yaml.safe_load(text) == text)
    except (yaml.YAMLError, ValueError):
        return False
