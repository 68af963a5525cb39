"""Find the images below a folder and their labels: a class per folder, or a labels.csv."""

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from convflow.errors import DataError

TABLE_NAME = "labels.csv"
SIDES = ("train", "val", "test")
_KNOWN_COLUMNS = ("path", "label", "group", "weight", "split")


@dataclass(frozen=True)
class Labelled:
    """One file and what its owner says of it; `path` is relative to the root, with forward slashes."""

    path: str
    label: str
    group: str | None = None
    weight: float = 1.0
    split: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A file that cannot become a row, and why."""

    path: str
    label: str | None
    reason: str
    detail: str


@dataclass
class Layout:
    """All that lies below the root: `n_files` = items + rejects + ignored."""

    kind: str
    items: list[Labelled] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    classes: list[str] = field(default_factory=list)
    tags: tuple[str, ...] = ()


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `cell9` comes before `cell10`."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def read_layout(root: Path) -> Layout:
    """List the images below `root` with their labels; no image is opened.

    Raises:
        DataError: no such folder, an unusable labels.csv, or no image at all.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root in params.yaml or use `convflow init PATH`")
    layout = _from_table(root) if (root / TABLE_NAME).is_file() else _from_folders(root)
    if not layout.items and not layout.rejects:
        raise DataError(
            f"{root}: no images found; put them in one folder per class, or beside a {TABLE_NAME} with path,label"
        )
    layout.items.sort(key=lambda item: item.path)
    layout.rejects.sort(key=lambda reject: reject.path)
    return layout


def _walk(root: Path) -> tuple[list[str], Counter[str], list[str]]:
    """Relative paths of candidate images, counts of other files by suffix, top-level folders."""
    candidates: list[str] = []
    ignored: Counter[str] = Counter()
    folders: list[str] = []
    suffixes = Image.registered_extensions()
    for here, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = os.path.relpath(here, root)
        prefix = "" if relative == "." else PurePosixPath(*Path(relative).parts).as_posix() + "/"
        if not prefix:
            folders = list(subfolders)
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith(".") or (suffix and suffix not in suffixes):
                ignored[suffix or name] += 1
            else:
                candidates.append(prefix + name)
    return candidates, ignored, folders


def _link_that_leaves(root: Path, path: str) -> bool:
    full = root / path
    return full.is_symlink() and not full.resolve().is_relative_to(root.resolve())


def _from_folders(root: Path) -> Layout:
    candidates, ignored, folders = _walk(root)
    layout = Layout("folders", ignored=ignored, classes=folders)
    for path in candidates:
        label, _, rest = path.partition("/")
        if not rest:
            detail = f"lies beside the class folders; move it into one, or add a {TABLE_NAME}"
            layout.rejects.append(Reject(path, None, "unlabelled", detail))
        elif _link_that_leaves(root, path):
            layout.rejects.append(_leaving(path, label))
        else:
            layout.items.append(Labelled(path, label))
    return layout


def _leaving(path: str, label: str | None) -> Reject:
    return Reject(
        path, label, "link-leaves-tree", "a symbolic link to a file outside the data folder; copy the file"
    )


def _from_table(root: Path) -> Layout:
    candidates, ignored, _ = _walk(root)
    ignored[".csv"] -= 1  # labels.csv itself is the list, not a file on it
    ignored += Counter()  # drops counts of zero
    rows, columns = _read_rows(root / TABLE_NAME)
    tags = tuple(column for column in columns if column not in _KNOWN_COLUMNS)
    layout = Layout("table", ignored=ignored, tags=tags)
    layout.classes = sorted({row["label"].strip() for row in rows} - {""})
    present, seen = set(candidates), set[str]()
    for number, row in enumerate(rows, start=2):
        path = PurePosixPath(row["path"].strip().replace("\\", "/")).as_posix()
        fault = _fault(root, path, row, seen, present)
        if fault is not None:
            layout.rejects.append(Reject(path, row["label"] or None, fault[0], f"{fault[1]} (line {number})"))
        else:
            layout.items.append(_item(path, row, tags))
        seen.add(path)
    for path in sorted(present - seen):
        detail = f"not listed in {TABLE_NAME}; add a line or remove the file"
        layout.rejects.append(Reject(path, None, "unlabelled", detail))
    return layout


def _read_rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [{k: v for k, v in row.items() if k is not None} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}); save it as CSV, UTF-8") from None
    for needed in ("path", "label"):
        if needed not in columns:
            raise DataError(f"{path}: no column {needed!r} (found: {', '.join(columns) or 'none'}); add it")
    return rows, columns


def _fault(
    root: Path, path: str, row: dict[str, str], seen: set[str], present: set[str]
) -> tuple[str, str] | None:  # noqa: PLR0911  one line per fault reads best
    """The reason code and phrase why a line of labels.csv cannot be used, or None."""
    if path in seen:
        return "duplicate-path", f"listed more than once in {TABLE_NAME}; keep one line"
    if path.startswith("/") or ".." in PurePosixPath(path).parts or _link_that_leaves(root, path):
        return "link-leaves-tree", "points outside the data folder; copy the file into it"
    if path not in present and not (root / path).is_file():
        return "missing", f"listed in {TABLE_NAME} but not there; restore the file or remove the line"
    if not row["label"].strip():
        return "unlabelled", f"has no label in {TABLE_NAME}; give it one"
    if (split := row.get("split", "").strip()) not in ("", *SIDES):
        return "bad-split", f"split {split!r} is none of {', '.join(SIDES)}"
    if not _is_weight(row.get("weight", "")):
        return "bad-weight", f"weight {row['weight']!r} is no number above 0"
    return None


def _is_weight(text: str) -> bool:
    try:
        return not text.strip() or 0 < float(text) < float("inf")
    except ValueError:
        return False


def _item(path: str, row: dict[str, str], tags: tuple[str, ...]) -> Labelled:
    return Labelled(
        path=path,
        label=row["label"].strip(),
        group=row.get("group", "").strip() or None,
        weight=float(row.get("weight", "").strip() or 1.0),
        split=row.get("split", "").strip() or None,
        tags=tuple(row.get(tag, "").strip() for tag in tags),
    )
