"""`convflow init PATH`: check a folder of labelled images and point params.yaml at it."""

import argparse
import json
import os
import statistics
import subprocess
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from convflow.data.evidence import gather
from convflow.data.foretelling import foretell
from convflow.data.layout import phone_photos, read_layout
from convflow.data.rules import limits_of, make_rules
from convflow.data.scanning import measure_all, memory_of, summarise, tables
from convflow.data.seeding import choose_seed, n_seeds
from convflow.data.sides import knows_any
from convflow.data.splitting import Fractions, assign_by_hash, check_sides, families
from convflow.editing import Tree, changed, read_settings, refuse, rewritten
from convflow.errors import DataError, ParamsError
from convflow.files import write_text
from convflow.params import read_params
from convflow.sections import at, faults_in

PARAMS = Path("params.yaml")
MEMORY = Path(".convflow/scan")
SIDES = Path("data/sides.csv")
_SHOWN = 5
# About as many training pictures in all as a small network sees in four minutes on two processors.
_PASSES = 60_000
# What a shell reads as its own even between double quotes, as dvc.yaml writes the folder.
_NOT_IN_A_ROOT = '"$`\\'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("path", metavar="PATH", help="a folder per class, or a tree with a labels.csv")
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
    """Look at the folder, write params.yaml, say what was found and what the gate will say of it.

    Raises:
        DataError: the folder holds nothing to learn from.
        ParamsError: a `--set` that names no parameter, or gives it a value it does not take.
    """
    if not args.path:
        raise ParamsError("PATH is empty; name a folder, as . for the one you are in")
    root, present = Path(args.path), read_params(PARAMS)
    wanted = read_settings(args.set, present, args.stages)
    if wanted.keys() & {"data", "data.root"}:
        raise ParamsError("--set data.root: PATH says that already; leave one of them out")
    layout = read_layout(root)
    paths = [item.path for item in layout.items]
    rows, rejects = tables(layout, measure_all(root, paths, memory_of(root, MEMORY)))
    counts = summarise(layout, rows, rejects)
    found = rows.to_pydict()
    classes = _filled(root, counts["classes"])
    source = wanted.get("embed.source", at(present, "embed.source"))
    changes = _proposal(root, found, classes, source) | _outdated(present, _root(root), classes) | wanted
    changes = _packed(changed(present, changes)) | changes
    refuse(faults_in(changed(present, changes), args.stages), wanted, str(PARAMS))
    is_known = knows_any(SIDES, found["sha256"])
    remark = _seed(found, changes, present, is_known=bool(is_known))
    stops = _foretold(rows, rejects, counts["classes"], changed(present, changes))
    differ = {key: value for key, value in changes.items() if changed(present, {key: value}) != present}
    text = rewritten(PARAMS, differ)
    sides = _leave_sides(present, dry=args.dry_run) if is_known is False else ""
    if not args.dry_run:
        write_text(PARAMS, text)
    if args.json:
        told = {"found": counts, "set": changes, "sides": sides, "stops": stops}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        _tell(root, counts, found, rejects.to_pylist())
        _tell_changes(changes, remark)
        _tell_next(stops, sides)
    return 0


def _filled(root: Path, classes: dict[str, int]) -> list[str]:
    """The classes that have images.

    Raises:
        DataError: fewer than two.
    """
    filled = sorted(name for name, n_images in classes.items() if n_images)
    if len(filled) < 2:
        raise DataError(
            f"{root}: {len(filled)} class with usable images ({', '.join(filled) or 'none'}); "
            "two or more are needed, one folder each"
        )
    return filled


def _proposal(path: Path, found: dict[str, list[Any]], classes: list[str], source: str) -> dict[str, Any]:
    """Parameters that follow from the data, for a pretrained network from `source`.

    Raises:
        DataError: a folder whose name does not come through a shell.
    """
    n_images = len(found["path"])
    side = statistics.median(min(pair) for pair in zip(found["width"], found["height"], strict=True))
    return {
        "data.root": _root(path),
        "validate.labels": classes,
        "split.method": _method(found),
        **_sizes(side, source),
        "train.normalise": "dataset",
        "train.epochs": int(min(60, max(10, _PASSES // n_images))),
        "train.batch_size": int(min(64, max(8, n_images // 64 * 8))),
        "evaluate.positive": None,
        # mirrored digits are no digits: only the owner knows what mirroring does to a label
        "train.augment.flips": "none",
        "embed.views": "none",
    }


def _sizes(side: float, source: str) -> dict[str, Any]:
    """Sizes to pack for pictures whose short side is commonly `side` px: to learn from, and to transfer to.

    The pretrained network of `source` enlarges pictures by itself, so small ones are packed once.
    """
    small = int(min(96, max(16, side // 16 * 16)))
    large = 224 if side >= 160 else small  # px; what most of them were trained at
    return {
        "features.packed_px": small,
        "train.packed_px": small,
        "embed.packed_px": large,
        # px; enlarged further, a small picture tells no more; other networks may want one size
        "embed.size_px": 64 if side < 64 and source == "efficientnet_lite0" else None,
    }


def _packed(tree: Tree) -> dict[str, Any]:
    """The sizes that the stages want their pictures in."""
    users = ("features", "train", "embed") if at(tree, "finetune.models") else ("features", "train")
    return {"pack.sizes_px": sorted({at(tree, f"{stage}.packed_px") for stage in users})}


def _outdated(present: Tree, root: str, classes: list[str]) -> dict[str, Any]:
    """Switch off what was decided for other data: an excuse for a leak, and floors of other classes."""
    changes: dict[str, Any] = {}
    if at(present, "decide.leak_waiver") is not None and at(present, "data.root") != root:
        changes["decide.leak_waiver"] = None
    floors = at(present, "decide.min_recall")
    if isinstance(floors, dict) and not floors.keys() <= set(classes):
        changes["decide.min_recall"] = None
    return changes


def _method(found: dict[str, list[Any]]) -> str:
    if all(found["split"]):
        return "column"
    return "grouped" if any(found["group"]) else "stratified"  # validate names those without one


def _root(path: Path) -> str:
    absolute, here = Path(os.path.abspath(path)), Path.cwd()  # a link stays one: its name may be the better
    root = (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()
    if found := [sign for sign in _NOT_IN_A_ROOT if sign in root]:
        raise DataError(
            f"{root}: its name holds {found[0]} which a shell would read as its own; rename the folder, "
            "or make a link to it under a plain name and give that"
        )
    return root


def _seed(found: dict[str, list[Any]], changes: dict[str, Any], present: Tree, *, is_known: bool) -> str:
    """Add `split.seed` to `changes` where it has to be chosen; returns a remark on it, or an empty string.

    Where the folder is the one of before, or its images are known to the last split, and the seed still
    serves, it stays: another one would move images from test to train.
    """
    names = ("method", "seed", "val_fraction", "test_fraction", "near_duplicate_distance")
    split = {name: changes.get(f"split.{name}", at(present, f"split.{name}")) for name in names}
    if split["method"] == "column" or "split.seed" in changes:
        return ""
    group = found["group"] if split["method"] == "grouped" else [None] * len(found["path"])
    family = families(found["sha256"], found["dhash"], group, split["near_duplicate_distance"])
    key = [g if g is not None else s for g, s in zip(group, found["sha256"], strict=True)]
    fractions = Fractions(split["val_fraction"], split["test_fraction"])
    if is_known or changes["data.root"] == at(present, "data.root"):
        sides, _ = assign_by_hash(family, key, fractions, seed=split["seed"], before=[None] * len(key))
        with suppress(DataError):
            check_sides(sides, found["label"])
            return ""
    changes["split.seed"] = choose_seed(found["label"], family, key, fractions)
    return f"of 0..{n_seeds(key) - 1} the one with the most even sides"


def _leave_sides(present: Tree, *, dry: bool) -> str:
    """See that the memory of another set's sides is not lost; returns what becomes of it."""
    former = str(at(present, "data.root"))
    told = f"{SIDES} holds the sides of other images ({former})"
    if _is_committed(SIDES):
        return f"{told}: git keeps them, and the next run writes those of this set in their place"
    names = (f"{SIDES.stem}-{Path(former).name}{f'-{n}' if n else ''}.csv" for n in count())
    kept = next(path for name in names if not (path := SIDES.with_name(name)).exists())
    if not dry:
        SIDES.rename(kept)
    verb = "to be moved" if dry else "moved"
    return f"{told} that git does not know: {verb} to {kept}; put it back before you return to that set"


def _is_committed(path: Path) -> bool:
    """Whether git's last commit holds the very same file."""
    try:
        found = subprocess.run(["git", "show", f"HEAD:./{path.as_posix()}"], capture_output=True, check=False)
    except OSError:  # there is no git
        return False
    return found.returncode == 0 and found.stdout == path.read_bytes()


def _foretold(rows: pa.Table, rejects: pa.Table, classes: dict[str, int], tree: Tree) -> dict[str, list[str]]:
    """What the gate will stop at: a sentence per offence, by rule."""
    section = tree["validate"]
    limits = limits_of(section, grouped=tree["split"]["method"] == "grouped")
    evidence = gather(
        rows.to_pandas(), rejects.to_pandas(), classes, distance=section["near_duplicate_distance"]
    )
    return foretell(make_rules(limits, section["severity"]), evidence)


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


def _tell_next(stops: dict[str, list[str]], sides: str) -> None:
    if sides:
        print(f"\n{sides}")
    if stops:
        print("\nvalidate would stop the pipeline:")
    for name, sentences in stops.items():
        more = f" (and {len(sentences) - 1:,} more)" if len(sentences) > 1 else ""
        print(f"  {name}: {sentences[0]}{more}")
    first = "mend that, then make repro" if stops else "make repro"
    print(
        f"\nnext: {first}   (when mirrored pictures keep their label, first set train.augment.flips\n"
        "and embed.views)"
    )
