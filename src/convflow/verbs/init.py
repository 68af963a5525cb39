"""`convflow init PATH`: check a folder of labelled images and point params.yaml at it."""

import argparse
import io
import json
import math
import os
import statistics
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from convflow.data.layout import phone_photos, read_layout
from convflow.data.scanning import measure_all, memory_of, summarise, tables
from convflow.data.seeding import choose_seed, n_seeds
from convflow.data.splitting import Fractions, assign_by_hash, check_sides, families
from convflow.errors import DataError, ParamsError
from convflow.files import write_text
from convflow.params import read_params

PARAMS = Path("params.yaml")
MEMORY = Path(".convflow/scan")
_SHOWN = 5
# About as many training pictures in all as a small network sees in four minutes on two processors.
_PASSES = 60_000
# What a shell reads as its own even between double quotes, as dvc.yaml writes the folder.
_NOT_IN_A_ROOT = '"$`\\'
# Parameters that take more than the kind of value they have now.
_KINDS: dict[str, tuple[type, ...]] = {
    "validate.labels": (list, type(None)),
    "validate.modes": (list, type(None)),
    "evaluate.positive": (str, type(None)),
    "pack.channels": (int, str),
}
_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


class _Representer(RoundTripRepresenter):
    """Writes numbers so that YAML 1.1, which reads params.yaml, takes them for numbers, too."""

    def represent_float(self, data: float) -> Any:
        text = repr(data)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)


_Representer.add_representer(float, _Representer.represent_float)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "path", type=Path, metavar="PATH", help="a folder per class, or a tree with a labels.csv"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set another parameter, as train.epochs=20",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be written, write nothing")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Look at the folder, write params.yaml, say what was found.

    Raises:
        DataError: the folder holds nothing to learn from.
        ParamsError: a `--set` that names no parameter.
    """
    editor = make_editor()
    tree, present = _read(editor), read_params(PARAMS)
    wanted = dict(_setting(text, present) for text in args.set)
    layout = read_layout(args.path)
    paths = [item.path for item in layout.items]
    rows, rejects = tables(layout, measure_all(args.path, paths, memory_of(args.path, MEMORY)))
    counts = summarise(layout, rows, rejects)
    found = rows.to_pydict()
    filled = {name: n for name, n in counts["classes"].items() if n}
    if len(filled) < 2:
        raise DataError(
            f"{args.path}: {len(filled)} class with usable images ({', '.join(filled) or 'none'}); "
            "two or more are needed, one folder each"
        )
    changes = _proposal(args.path, found, filled) | wanted
    _check_root(changes["data.root"])
    remark = _seed(found, changes, present)
    _change(tree, changes, present)
    if not args.dry_run:
        text = io.StringIO()
        editor.dump(tree, text)
        write_text(PARAMS, text.getvalue())
    if args.json:
        print(json.dumps({"found": counts, "set": changes}, indent=1, ensure_ascii=False))
    else:
        _tell(args.path, counts, found, rejects.to_pylist())
        _tell_changes(changes, remark)
    return 0


def make_editor() -> YAML:
    """A reader and writer of params.yaml that keeps its comments and order."""
    editor = YAML()
    editor.width = 120
    editor.Representer = _Representer
    return editor


def _proposal(path: Path, found: dict[str, list[Any]], classes: dict[str, int]) -> dict[str, Any]:
    """Parameters that follow from the data."""
    n_images = len(found["path"])
    side = statistics.median(min(pair) for pair in zip(found["width"], found["height"], strict=True))
    absolute, here = Path(os.path.abspath(path)), Path.cwd()  # a link stays one: its name may be the better
    return {
        "data.root": (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix(),
        "validate.labels": sorted(classes),
        "split.method": _method(found),
        "pack.size_px": int(min(96, max(16, side // 16 * 16))),
        "train.normalise": "dataset",
        "train.epochs": int(min(60, max(10, _PASSES // n_images))),
        "train.batch_size": int(min(64, max(8, n_images // 64 * 8))),
        "evaluate.positive": None,
        # mirrored digits are no digits: only the owner knows what mirroring does to a label
        "train.augment.flips": "none",
    }


def _method(found: dict[str, list[Any]]) -> str:
    if all(found["split"]):
        return "column"
    return "grouped" if any(found["group"]) else "stratified"  # validate names those without one


def _check_root(root: str) -> None:
    if found := [sign for sign in _NOT_IN_A_ROOT if sign in root]:
        raise DataError(
            f"{root}: its name holds {found[0]} which a shell would read as its own; rename the folder, "
            "or make a link to it under a plain name and give that"
        )


def _seed(found: dict[str, list[Any]], changes: dict[str, Any], present: dict[str, Any]) -> str:
    """Add `split.seed` to `changes` where it has to be chosen; returns a remark on it, or an empty string.

    Where the folder is the one of before and its seed still serves, it stays: another one would move images
    from test to train.
    """
    names = ("method", "seed", "val_fraction", "test_fraction", "near_duplicate_distance")
    split = {name: changes.get(f"split.{name}", _at(present, f"split.{name}", None)) for name in names}
    if split["method"] == "column" or "split.seed" in changes:
        return ""
    group = found["group"] if split["method"] == "grouped" else [None] * len(found["path"])
    family = families(found["sha256"], found["dhash"], group, split["near_duplicate_distance"])
    key = [g if g is not None else s for g, s in zip(group, found["sha256"], strict=True)]
    fractions = Fractions(split["val_fraction"], split["test_fraction"])
    if changes["data.root"] == _at(present, "data.root", None):
        sides, _ = assign_by_hash(family, key, fractions, seed=split["seed"], before=[None] * len(key))
        with suppress(DataError):
            check_sides(sides, found["label"])
            return ""
    changes["split.seed"] = choose_seed(found["label"], family, key, fractions)
    return f"of 0..{n_seeds(key) - 1} the one with the most even sides"


def _setting(text: str, present: dict[str, Any]) -> tuple[str, Any]:
    """The key and the value of a `--set`, of the kind the parameter has now."""
    key, equals, written = text.partition("=")
    if not equals:
        raise ParamsError(f"--set {text}: no '='; write it as train.epochs=20")
    try:
        value = yaml.safe_load(written)
    except (yaml.YAMLError, ValueError) as error:
        raise ParamsError(f"--set {text}: not YAML: {' '.join(str(error).split())}") from None
    old = _at(present, key, value)
    kinds = _KINDS.get(key, (type(old),))
    if float in kinds and not isinstance(value, bool):
        with suppress(TypeError, ValueError):
            if math.isfinite(number := float(value)):  # 1e-3 is a text in YAML 1.1, and 1 a whole number
                return key, number
    if type(value) in kinds and float not in kinds:
        return key, value
    if str in kinds and isinstance(value, int | float | date):
        return key, written.strip()  # a class may be named yes or 12:30
    expected = " or ".join(_NAMES.get(kind, kind.__name__) for kind in kinds)
    raise ParamsError(f"--set {text}: {key} takes {expected}; it is {json.dumps(old, default=str)} now")


def _at(present: dict[str, Any], key: str, value: Any) -> Any:
    """The parameter's value now.

    Raises:
        ParamsError: there is none of this name, or it is a section and `value` is not.
    """
    *sections, last = key.split(".")
    place: Any = present
    for name in sections:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place or _is_section(place[last], value):
        raise ParamsError(f"{key}: no such parameter in {PARAMS}; see its sections")
    return place[last]


def _read(editor: YAML) -> Any:
    """Load params.yaml with its comments and order."""
    try:
        return editor.load(PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{PARAMS}: no such file; run convflow init from the project's folder") from None
    except YAMLError as error:
        raise ParamsError(f"{PARAMS}: not YAML: {' '.join(str(error).split())}") from None


def _change(tree: Any, changes: dict[str, Any], present: dict[str, Any]) -> None:
    """Set the parameters that differ, in place; `present` is the tree as the stages read it."""
    for key, value in changes.items():
        if _at(present, key, value) == value:
            continue
        *sections, last = key.split(".")
        place = tree
        for name in sections:
            place = place[name]
        place[last] = _as_yaml(value)


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


def _is_section(present: Any, value: Any) -> bool:
    return isinstance(present, dict) and not isinstance(value, dict)


def _tell(
    path: Path,
    counts: dict[str, Any],
    found: dict[str, list[Any]],
    rejects: list[dict[str, str]],
) -> None:
    how = "one folder per class" if counts["layout"] == "folders" else "labels.csv"
    print(f"{path}: {counts['rows']:,} usable images in {len(counts['classes'])} classes ({how})")
    for name, n_images in sorted(counts["classes"].items()):
        print(f"  {name}: {n_images:,}{'' if n_images else '  <- empty; add images or remove the folder'}")
    sizes = Counter(zip(found["width"], found["height"], strict=True))
    (width, height), n_same = sizes.most_common(1)[0]
    print(f"  sizes: {len(sizes)} different, most often {width} x {height} ({n_same:,})")
    print(f"  modes: {', '.join(f'{mode} {n:,}' for mode, n in Counter(found['mode']).most_common())}")
    n_groups = len({group for group in found["group"] if group})
    extras = [f"{n_groups} groups"] if n_groups else []
    extras += ["weights"] if len(set(found["weight"])) > 1 else []
    extras += [f"column {tag}" for tag in counts["tags"]]
    print(f"  also: {', '.join(extras) or 'no groups, weights or further columns'}")
    if counts["ignored"]:
        print(f"  not images: {', '.join(f'{n} {name}' for name, n in sorted(counts['ignored'].items()))}")
    if photos := phone_photos(counts["ignored"]):
        print(f"  cannot be read: {photos}")
    for reject in rejects[:_SHOWN]:
        print(f"  cannot be used: {reject['path']}: {reject['detail']}")
    if len(rejects) > _SHOWN:
        print(f"  ... and {len(rejects) - _SHOWN:,} more; `make repro` lists them all")


def _tell_changes(changes: dict[str, Any], remark: str) -> None:
    print(f"\n{PARAMS}:")
    for key, value in changes.items():
        more = f", {remark}" if remark and key == "split.seed" else ""
        print(f"  {key}: {json.dumps(value, ensure_ascii=False, default=str)}{more}")
    print("\nnext: make repro   (when mirrored pictures keep their label, first set train.augment.flips)")
