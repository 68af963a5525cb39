"""`convflow init PATH`: check a folder of labelled images and point params.yaml at it."""

import argparse
import io
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from convflow.data.layout import read_layout
from convflow.data.scanning import measure_all, memory_of, summarise, tables
from convflow.errors import DataError, ParamsError
from convflow.files import write_text

PARAMS = Path("params.yaml")
MEMORY = Path(".convflow/scan")
_SHOWN = 5
# About as many training pictures in all as a small network sees in four minutes on two processors.
_PASSES = 60_000


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
    wanted = dict(_setting(text) for text in args.set)
    editor = YAML()
    editor.width = 120
    tree = _read(editor)
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
    _change(tree, changes)
    if not args.dry_run:
        text = io.StringIO()
        editor.dump(tree, text)
        write_text(PARAMS, text.getvalue())
    if args.json:
        print(json.dumps({"found": counts, "set": changes}, indent=1, ensure_ascii=False))
    else:
        _tell(args.path, counts, found, rejects.to_pylist(), changes)
    return 0


def _proposal(path: Path, found: dict[str, list[Any]], classes: dict[str, int]) -> dict[str, Any]:
    """Parameters that follow from the data."""
    n_images = len(found["path"])
    side = statistics.median(min(pair) for pair in zip(found["width"], found["height"], strict=True))
    absolute, here = path.resolve(), Path.cwd()
    return {
        "data.root": (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix(),
        "validate.labels": sorted(classes),
        "split.method": _method(found),
        "split.seed": 0,
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
    return "grouped" if all(found["group"]) else "stratified"


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(f"--set {text}: no '='; write it as train.epochs=20")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"--set {text}: not YAML: {' '.join(str(error).split())}") from None


def _read(editor: YAML) -> Any:
    """Load params.yaml with its comments and order."""
    try:
        return editor.load(PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{PARAMS}: no such file; run convflow init from the project's folder") from None
    except YAMLError as error:
        raise ParamsError(f"{PARAMS}: not YAML: {' '.join(str(error).split())}") from None


def _change(tree: Any, changes: dict[str, Any]) -> None:
    """Set the parameters that differ, in place."""
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = tree
        for name in sections:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or _is_section(place[last], value):
            raise ParamsError(f"{key}: no such parameter in {PARAMS}; see its sections")
        if place[last] != value:
            place[last] = _on_one_line(value)


def _on_one_line(value: Any) -> Any:
    """A list as `[a, b]`: only so its line keeps its comment."""
    if not isinstance(value, list):
        return value
    line = CommentedSeq(value)
    line.fa.set_flow_style()
    return line


def _is_section(present: Any, value: Any) -> bool:
    return isinstance(present, dict) and not isinstance(value, dict)


def _tell(
    path: Path,
    counts: dict[str, Any],
    found: dict[str, list[Any]],
    rejects: list[dict[str, str]],
    changes: dict[str, Any],
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
    for reject in rejects[:_SHOWN]:
        print(f"  cannot be used: {reject['path']}: {reject['detail']}")
    if len(rejects) > _SHOWN:
        print(f"  ... and {len(rejects) - _SHOWN:,} more; `dvc repro` lists them all")
    print(f"\n{PARAMS}:")
    for key, value in changes.items():
        print(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
    print("\nnext: dvc repro   (when mirrored pictures keep their label, first set train.augment.flips)")
