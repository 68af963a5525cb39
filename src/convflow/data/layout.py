"""Find the images below a folder and their labels: a class per folder, or a labels.csv."""

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from convflow.errors import DataError

TABLE_NAME = "labels.csv"
SIDES = ("train", "val", "test")
_PHONE_PHOTOS = (".heic", ".heif")
# How files of the formats begin that the decoder knows; TGA has no beginning of its own.
_STARTS_LIKE_IMAGE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|BM.{4}\0{4}|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|.{4}ftypavi[fs]"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|P[1-6]\s|\n[\x00\x02\x03\x05]\x01|qoif",
    re.DOTALL,
)
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
    """List the images below `root` with their labels; only files without a suffix are looked into.

    Raises:
        DataError: no such folder, an unusable labels.csv, or no image at all.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set data.root in params.yaml or use `convflow init PATH`")
    layout = _from_table(root) if (root / TABLE_NAME).is_file() else _from_folders(root)
    if not layout.items and not layout.rejects:
        raise DataError(
            f"{root}: no images found; {phone_photos(layout.ignored) or 'put them'} in one folder per class, "
            f"or beside a {TABLE_NAME} with path,label"
        )
    layout.items.sort(key=lambda item: item.path)
    layout.rejects.sort(key=lambda reject: reject.path)
    return layout


def phone_photos(ignored: Mapping[str, int]) -> str:
    """What to do about photos in a phone's format that Pillow cannot read, or an empty string."""
    found = [f"{ignored[suffix]:,} {suffix}" for suffix in _PHONE_PHOTOS if ignored.get(suffix)]
    return f"convert {' and '.join(found)} to JPEG or PNG" if found else ""


@dataclass
class _Tree:
    """What lies below a folder: paths that may be images, other files, top-level folders, and oddities."""

    candidates: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def count_others(self, *, but: Container[str] = ()) -> Counter[str]:
        """Other files by suffix, less those `but`."""
        names = [path.rpartition("/")[2] for path in self.others if path not in but]
        return Counter(os.path.splitext(name)[1].lower() or name for name in names)


def _walk(root: Path) -> _Tree:
    tree = _Tree()
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for here, subfolders, names in os.walk(root, onerror=_stop):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = os.path.relpath(here, root)
        prefix = "" if relative == "." else PurePosixPath(*Path(relative).parts).as_posix() + "/"
        links = {name for name in subfolders if os.path.islink(os.path.join(here, name))}
        if not prefix:
            tree.folders = [name for name in subfolders if name not in links and _is_text(name)]
        for name in sorted([*names, *links]):
            _sort_in(tree, root, prefix + name, is_folder=name in links, suffixes=suffixes)
    return tree


def _stop(error: OSError) -> None:
    raise error  # a folder that cannot be listed must not pass for an empty one


def _sort_in(tree: _Tree, root: Path, path: str, *, is_folder: bool, suffixes: Container[str]) -> None:
    name = path.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()
    if not _is_text(path):
        shown = path.encode(errors="surrogateescape").decode(errors="replace")
        tree.rejects.append(Reject(shown, None, "unreadable", "its name is not UTF-8; rename it"))
    elif is_folder and _leaves(root, path):  # a link to a folder is never followed: it may lead anywhere
        detail = "a symbolic link to a folder outside the data folder; copy the folder"
        tree.rejects.append(Reject(path, None, "link-leaves-tree", detail))
    elif is_folder or name.startswith(".") or not _may_be_image(root / path, suffix, suffixes):
        tree.others.append(path)
    else:
        tree.candidates.append(path)


def _may_be_image(path: Path, suffix: str, suffixes: Container[str]) -> bool:
    """By its suffix, or where it has none (README, LICENSE, DSC0001) by its first bytes."""
    if suffix:
        return suffix in suffixes
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe would wait for its writer
        with path.open("rb") as stream:
            return _STARTS_LIKE_IMAGE.match(stream.read(32)) is not None
    except OSError:
        return True  # measuring it says why it cannot be read


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leaves(root: Path, path: str) -> bool:
    """Does `path`, its links followed, lie outside `root`? (realpath, unlike resolve, survives loops.)"""
    return not Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root))


def _link_that_leaves(root: Path, path: str) -> bool:
    return (root / path).is_symlink() and _leaves(root, path)


def _from_folders(root: Path) -> Layout:
    tree = _walk(root)
    layout = Layout("folders", rejects=tree.rejects, ignored=tree.count_others(), classes=tree.folders)
    for path in tree.candidates:
        label, _, rest = path.partition("/")
        if not rest:
            detail = f"lies beside the class folders; move it into one, or add a {TABLE_NAME}"
            layout.rejects.append(Reject(path, None, "unlabelled", detail))
        elif _link_that_leaves(root, path):
            detail = "a symbolic link to a file outside the data folder; copy the file"
            layout.rejects.append(Reject(path, label, "link-leaves-tree", detail))
        else:
            layout.items.append(Labelled(path, label))
    return layout


def _from_table(root: Path) -> Layout:
    tree = _walk(root)
    rows, columns = _read_rows(root / TABLE_NAME)
    tags = tuple(column for column in columns if column not in _KNOWN_COLUMNS)
    layout = Layout("table", rejects=tree.rejects, tags=tags)
    layout.classes = sorted({row["label"].strip() for _, row in rows} - {""})
    present, seen = set(tree.candidates), set[str]()
    for line, row in rows:
        path = PurePosixPath(row["path"].strip().replace("\\", "/")).as_posix()
        fault = _fault(root, path, row, seen, present)
        if fault is not None:
            label = row["label"].strip() or None
            layout.rejects.append(Reject(path, label, fault[0], f"{fault[1]} (line {line})"))
        else:
            layout.items.append(_item(path, row, tags))
        seen.add(path)
    for path in sorted(present - seen):
        detail = f"not listed in {TABLE_NAME}; add a line or remove the file"
        layout.rejects.append(Reject(path, None, "unlabelled", detail))
    layout.ignored = tree.count_others(but=seen | {TABLE_NAME})  # it is the list, not a file on it
    return layout


def _read_rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """The rows of labels.csv, each with the number of the line it ends on, and the names of its columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            columns = [name for name in reader.fieldnames if name]
            rows = [(reader.line_num, {k: v for k, v in row.items() if k}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV table in UTF-8 ({error}); save it as CSV, UTF-8") from None
    for needed in ("path", "label"):
        if needed not in columns:
            found = ", ".join(columns) or "none"
            remedy = "separate the columns by commas" if set(found) & set(";\t|") else "add it"
            raise DataError(f"{path}: no column {needed!r} (found: {found}); {remedy}")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{path}: column {twice!r} is there more than once; keep one")
    return rows, columns


def _fault(
    root: Path, path: str, row: dict[str, str], seen: set[str], present: set[str]
) -> tuple[str, str] | None:
    """The reason code and phrase why a line of labels.csv cannot be used, or None."""
    if path in seen:
        return "duplicate-path", f"listed more than once in {TABLE_NAME}; keep one line"
    if path.startswith("/") or ".." in PurePosixPath(path).parts or _leads_out(root, path, present):
        return "link-leaves-tree", "points outside the data folder; copy the file into it"
    if path not in present and not (root / path).is_file():
        return "missing", f"listed in {TABLE_NAME} but not there; restore the file or remove the line"
    return _wrong_value(row)


def _wrong_value(row: dict[str, str]) -> tuple[str, str] | None:
    if not row["label"].strip():
        return "unlabelled", f"has no label in {TABLE_NAME}; give it one"
    if (split := row.get("split", "").strip()) not in ("", *SIDES):
        return "bad-split", f"split {_quoted(split)} is none of {', '.join(SIDES)}"
    if not _is_weight(row.get("weight", "")):
        return "bad-weight", f"weight {_quoted(row['weight'])} is no number above 0"
    return None


def _quoted(text: str) -> str:
    return repr(text.replace("; ", ", "))  # "; " stands before a remedy, see ImageError


def _leads_out(root: Path, path: str, present: set[str]) -> bool:
    """As `_leaves`; a file that the walk met has no linked folder above it, and need not be asked."""
    return _link_that_leaves(root, path) if path in present else _leaves(root, path)


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
