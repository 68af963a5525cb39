"""What is wrong with a section of params.yaml, in convflow's own words, a phrase for each key.

`train.epochs: expected a whole number above 0, found 0`. What is expected is read off the section's schema:
it is written down nowhere else.
"""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

_SHOWN = 60  # characters of a value that is wrong
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_KIND_OF: dict[type, str] = {dict: "object", list: "array"}
_NOT_FINITE = {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}
_SIGNS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}

Node = Mapping[str, Any]  # a part of a JSON schema


def find_faults(values: Any, schema: type[BaseModel]) -> dict[str, str]:
    """What is wrong with `values`: a phrase by the dotted name of the key, "" being the section itself."""
    needed = [name for name, field in schema.model_fields.items() if field.is_required()]
    if needed and (values is None or values == {}):
        return {"": f"missing; add the section, with {_listed(needed, 'and')}"}
    try:
        schema.model_validate({} if values is None else values)
    except ValidationError as error:
        guide = _Guide(schema.model_json_schema(), values)
        faults: dict[str, str] = {}
        for item in error.errors():
            key, text = guide.fault(item)
            if text:
                faults.setdefault(key, text)
        return faults or {"": error.errors()[0]["msg"]}
    return {}


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` where one of `known` resembles `name`, else an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


class _Guide:
    """Finds the key that one of pydantic's errors is about, and the words for it."""

    def __init__(self, root: Node, values: Any) -> None:
        self._root = root
        self._values = values

    def fault(self, item: Any) -> tuple[str, str]:
        """Key and phrase; no phrase where another error says it better."""
        loc, kind, found = item["loc"], item["type"], item["input"]
        if kind == "extra_forbidden":
            way, options = self._follow(loc[:-1])
            known = [name for option in options for name in option.get("properties", ())]
            return ".".join([*way, str(loc[-1])]), _unknown(str(loc[-1]), known)
        if loc[-1:] == ("[key]",) and isinstance(found, str):
            way, options = self._follow(loc[:-2])
            known = [name for option in options for name in option.get("propertyNames", {}).get("enum", ())]
            return ".".join([*way, found]), _unknown(found, known)
        way, options = self._follow(loc)
        return ".".join(way), self._phrase(item, options)

    def _phrase(self, item: Any, options: Sequence[Node]) -> str:
        kind, found = item["type"], item["input"]
        if kind == "invalid_key" or item["loc"][-1:] == ("[key]",):
            return f"the name {_shown(found)} is no text; put it in quotes"
        if kind == "value_error":
            return str(item["ctx"]["error"])
        if kind == "missing":
            return f"missing; add `{item['loc'][-1]}:` with {self._expected(options)}"
        if kind.endswith("_type") and _KIND_OF.get(type(found)) in {option.get("type") for option in options}:
            return ""  # one of several kinds it may be: what is inside it has an error of its own
        return f"expected {self._expected(options)}, found {_shown(found)}{_hint(found, options)}"

    def _follow(self, loc: Sequence[str | int]) -> tuple[list[str], list[Node]]:
        """The key, and what it allows; where it may be of several kinds, `loc` names kinds, too."""
        way, options, value = list[str](), self._options(self._root), self._values
        for part in loc:
            inner = [found for option in options if (found := _inner(option, part, value)) is not None]
            if inner:
                way.append(str(part))
                options = self._options(inner[0])
                with suppress(KeyError):  # missing, and so the last part
                    value = value[part]
        return way, options

    def _options(self, node: Node) -> list[Node]:
        """What a part of the schema allows, references followed."""
        if "$ref" in node:
            return self._options(self._root["$defs"][node["$ref"].rpartition("/")[2]])
        return [option for one in node.get("anyOf", ()) for option in self._options(one)] or [node]

    def _expected(self, options: Iterable[Node]) -> str:
        said = list(dict.fromkeys(map(self._described, options)))
        return _listed([one for one in said if (one, "a number" in said) != ("a whole number", True)], "or")

    def _described(self, node: Node) -> str:
        if choices := node.get("enum", [node["const"]] if "const" in node else []):
            return _listed([one if isinstance(one, str) else _shown(one) for one in choices], "or")
        if names := node.get("properties"):
            return f"a section with {_listed(list(names), 'and')}"
        words = _KINDS.get(node.get("type", ""), "another value")
        if node.get("minItems") or node.get("minLength"):
            words += " that is not empty"
        if isinstance(inner := node.get("items", node.get("additionalProperties")), dict):
            words += f" (each {self._expected(self._options(inner))})"
        if "pattern" in node:
            words += f" of the form {node['pattern']}"
        return " ".join(filter(None, [words, _bounds(node)]))


def _inner(node: Node, part: str | int, value: Any) -> Node | None:
    """What the schema says of the part of `value` with this name or number; None for no part of it."""
    if isinstance(value, list):
        return node.get("items") if isinstance(part, int) else None
    if not isinstance(value, dict):
        return None
    more = node.get("additionalProperties")
    known: Node | None = node.get("properties", {}).get(part)
    return known or (more if isinstance(more, dict) and part in value else None)


def _unknown(name: str, known: Sequence[str]) -> str:
    there = f"; there are {_listed(known, 'and')}" if known else ""
    return f"no such parameter{nearest(name, known) or there}"


def _bounds(node: Node) -> str:
    ends = {sign: f"{node[sign]:,}".removesuffix(".0") for sign in _SIGNS if sign in node}
    if ends.keys() == {"minimum", "maximum"}:
        return f"from {ends['minimum']} to {ends['maximum']}"
    return " and ".join(f"{_SIGNS[sign]} {end}" for sign, end in ends.items())


def _hint(found: Any, options: Sequence[Node]) -> str:
    kinds = {option.get("type") for option in options}
    takes_number = not kinds.isdisjoint(("integer", "number"))
    choices = [one for option in options for one in option.get("enum", ()) if isinstance(one, str)]
    match found:
        case bool() if choices or "string" in kinds:
            return "; words such as yes, no and on need quotes, or YAML takes them for true and false"
        case str() if takes_number and _is_number(found):
            is_bare = isinstance(yaml.safe_load(found), str)
            return "; write it with point and sign, as 1.0e-3" if is_bare else "; leave out the quotes"
        case str():
            return nearest(found, choices)
        case list() | dict() | None:
            return ""
    return "; put it in quotes" if ("string" in kinds and not takes_number) or str(found) in choices else ""


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(text))
    return False


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _shown(value: Any) -> str:
    """The value much as params.yaml has it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = _NOT_FINITE.get(text, text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
