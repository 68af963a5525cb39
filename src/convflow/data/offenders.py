"""Which images, classes and files break a rule: measured column by column, named with value and reason."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convflow.data.duplicates import bits_apart, near_duplicate_pairs
from convflow.data.rules import COLUMNS, MAY_BE_NULL, Rule
from convflow.errors import DataError

# A flat picture has no gradient to hash; below this spread (grey levels) it is not compared.
MIN_SPREAD = 2.0


class Offence(NamedTuple):
    """What breaks a rule: a file, a class (no path) or the whole set (neither)."""

    path: str
    label: str
    detail: str


@dataclass(frozen=True)
class Evidence:
    """The frames that rules are asked of, and what is known about each column."""

    images: pd.DataFrame  # the scan's rows and measured columns
    classes: pd.DataFrame  # label, images
    whole: pd.DataFrame  # one row of totals
    rejects: pd.DataFrame  # path, label, reason, detail
    lacking: Mapping[str, str]  # column -> why no rule can rely on it
    closest: NDArray[np.int64]  # (N,) the earliest look-alike of each image, or -1
    too_alike: str  # why look-alikes were not looked for, or ""

    def unchecked(self, rule: Rule) -> str:
        """Why `rule` cannot be checked, or an empty string."""
        reasons = [self.lacking[name] for name in rule.needs if name in self.lacking]
        if "dhash" in rule.needs and self.too_alike:
            reasons.append(self.too_alike)
        return reasons[0] if reasons else ""


def gather(
    images: pd.DataFrame, rejects: pd.DataFrame, classes: Mapping[str, int], *, distance: int
) -> Evidence:
    """Measure what the rules ask about.

    Args:
        images: the scan's rows, one per readable image.
        rejects: the scan's rejects.
        classes: class names, those without an image included.
        distance: bits; pictures whose hashes are at most this far apart look alike.
    """
    lacking = _lacking(images)
    usable = set(COLUMNS) - set(lacking)
    images = images.copy(deep=False)
    closest, too_alike = np.full(len(images), -1, dtype=np.int64), ""
    if {"width", "height"} <= usable:
        sides = images[["width", "height"]]
        images["short_side_px"] = sides.min(axis=1)
        images["aspect"] = sides.max(axis=1) / sides.min(axis=1)
    if {"sha256", "label"} <= usable:
        images["labels_of_its_bytes"] = images.groupby("sha256")["label"].transform("nunique")
        images["earlier_copies"] = images.groupby(["sha256", "label"]).cumcount()
        if {"dhash", "brightness_spread"} <= usable:
            try:
                closest = _mark_look_alikes(images, distance)
            except DataError as error:
                too_alike = str(error)
    of_class = _classes(images, classes, counted="label" in usable)
    whole = _whole(len(images), len(rejects), of_class)
    return Evidence(images, of_class, whole, rejects, lacking, closest, too_alike)


def offences(rule: Rule, evidence: Evidence) -> list[Offence]:
    """Name everything that breaks `rule`, in the order of the paths; the remedy is the rule's."""
    return list(_FINDERS[rule.name](rule, evidence))


def _lacking(images: pd.DataFrame) -> dict[str, str]:
    lacking = {}
    for name, types in COLUMNS.items():
        if name not in images:
            lacking[name] = f"column {name!r} is missing"
        elif str(images[name].dtype) not in types:
            lacking[name] = f"column {name!r} holds {images[name].dtype}, not {types[0]}"
        elif name not in MAY_BE_NULL and images[name].isna().any():
            lacking[name] = f"column {name!r} has {int(images[name].isna().sum()):,} empty cells"
    return lacking


def _mark_look_alikes(images: pd.DataFrame, distance: int) -> NDArray[np.int64]:
    """Count each image's earlier look-alikes of other bytes; returns the index of the first, or -1."""
    textured = np.flatnonzero(images["brightness_spread"].to_numpy() >= MIN_SPREAD)
    hashes = images["dhash"].iloc[textured].tolist()
    pairs = textured[near_duplicate_pairs(hashes, distance=distance)]
    bytes_of = pd.factorize(images["sha256"])[0]
    label_of = pd.factorize(images["label"])[0]
    pairs = pairs[bytes_of[pairs[:, 0]] != bytes_of[pairs[:, 1]]]
    otherwise = pairs[label_of[pairs[:, 0]] != label_of[pairs[:, 1]]]
    n = len(images)
    images["earlier_look_alikes"] = np.bincount(pairs[:, 1], minlength=n)
    images["earlier_look_alikes_labelled_otherwise"] = np.bincount(otherwise[:, 1], minlength=n)
    closest = np.full(n, n, dtype=np.int64)
    np.minimum.at(closest, pairs[:, 1], pairs[:, 0])
    # Where labels differ, that partner is the one to look at.
    closest[otherwise[:, 1]] = n
    np.minimum.at(closest, otherwise[:, 1], otherwise[:, 0])
    return np.where(closest == n, -1, closest)


def _classes(images: pd.DataFrame, known: Mapping[str, int], *, counted: bool) -> pd.DataFrame:
    counts = dict.fromkeys(known, 0)
    if counted:
        counts |= {str(name): int(n) for name, n in images["label"].value_counts().items()}
    names = sorted(counts)
    frame = pd.DataFrame({"label": pd.Series(names, dtype="str")})
    frame["images"] = pd.Series([counts[name] for name in names], dtype="int64")
    return frame


def _whole(n_images: int, n_rejects: int, classes: pd.DataFrame) -> pd.DataFrame:
    filled = classes.loc[classes["images"] > 0, "images"]
    totals = {
        "images": n_images,
        "rejects": n_rejects,
        "reject_share": n_rejects / max(n_images + n_rejects, 1),
        "classes": len(filled),
        "imbalance": float(filled.max() / filled.min()) if len(filled) else 1.0,
    }
    return pd.DataFrame([totals])


def _each(evidence: Evidence, broken: pd.Series, describe: Callable[[Any], str]) -> Iterator[Offence]:
    for row in evidence.images[broken].itertuples():
        yield Offence(str(row.path), str(row.label), describe(row))


def _schema(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    images = evidence.images
    if images.empty:
        n_rejects = len(evidence.rejects)
        yield Offence("", "", f"no image is left to learn from (0 readable, {n_rejects:,} rejected)")
    for reason in evidence.lacking.values():
        yield Offence("", "", reason)
    if "path" not in evidence.lacking:
        for path in images.loc[images["path"].duplicated(), "path"]:
            yield Offence(str(path), "", "is listed twice")


def _bad_images(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    for row in evidence.rejects.fillna("").itertuples():
        yield Offence(str(row.path), str(row.label), str(row.detail or row.reason))


def _reject_share(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    total = evidence.whole.iloc[0]
    n_files = int(total.images + total.rejects)
    reasons = evidence.rejects["reason"].value_counts()
    listed = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items()))
    share = f"{100 * total.reject_share:.3g} % of the files are rejects ({int(total.rejects):,} of {n_files:,}"
    yield Offence("", "", f"{share}: {listed})")


def _labels(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    wanted = rule.asks[0][1]["value_set"]
    images = evidence.images
    yield from _each(evidence, ~images["label"].isin(wanted), lambda row: f"unexpected label {row.label!r}")
    for name in sorted(set(wanted) - set(images["label"])):
        yield Offence("", name, f"class {name!r} is expected and has no image")


def _size(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    least = rule.asks[0][1]["min_value"]
    small = evidence.images["short_side_px"] < least
    return _each(evidence, small, lambda row: f"{row.width} x {row.height} px; a side is below {least} px")


def _aspect(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    most = rule.asks[0][1]["max_value"]
    return _each(
        evidence,
        evidence.images["aspect"] > most,
        lambda row: f"{row.width} x {row.height} px; one side is {row.aspect:.4g} times the other",
    )


def _modes(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    other = ~evidence.images["mode"].isin(rule.asks[0][1]["value_set"])
    return _each(evidence, other, lambda row: f"mode {row.mode}")


def _group(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    if "group" in evidence.lacking:
        yield Offence("", "", evidence.lacking["group"])
        return
    yield from _each(evidence, evidence.images["group"].isna(), lambda row: "has no group")


def _label_conflict(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    images = evidence.images
    conflicting = images["labels_of_its_bytes"] > 1
    first_of: dict[tuple[str, str], str] = {}
    labels_of: dict[str, list[str]] = {}
    for row in images[conflicting].itertuples():
        if first_of.setdefault((row.sha256, row.label), row.path) == row.path:
            labels_of.setdefault(row.sha256, []).append(row.label)

    def describe(row: Any) -> str:
        other = next(label for label in labels_of[row.sha256] if label != row.label)
        same = first_of[row.sha256, other]
        return f"labelled {row.label!r}, but {same} has the same bytes and is {other!r}"

    return _each(evidence, conflicting, describe)


def _duplicates(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    images = evidence.images
    copies = images["earlier_copies"] > 0
    first = images.drop_duplicates(["sha256", "label"]).set_index(["sha256", "label"])["path"].to_dict()
    return _each(evidence, copies, lambda row: f"same bytes as {first[row.sha256, row.label]}")


def _near(column: str) -> Callable[[Rule, Evidence], Iterator[Offence]]:
    def find(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
        images = evidence.images
        path, label, dhash = (images[name].tolist() for name in ("path", "label", "dhash"))
        for index in np.flatnonzero(images[column].to_numpy() > 0):
            other = evidence.closest[index]
            bits = bits_apart(dhash[index], dhash[other])
            detail = f"looks like {path[other]} (labelled {label[other]!r}, {bits} of 256 bits apart)"
            yield Offence(path[index], label[index], detail)

    return find


def _two_classes(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    filled = evidence.classes[evidence.classes["images"] > 0]
    for row in filled.itertuples():
        yield Offence("", str(row.label), f"class {row.label!r} is the only one with images ({row.images:,})")
    if filled.empty:
        yield Offence("", "", "no class has an image")


def _class_size(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    classes = evidence.classes
    for row in classes[classes["images"] < rule.asks[0][1]["min_value"]].itertuples():
        amount = {0: "no image", 1: "1 image"}.get(row.images, f"{row.images:,} images")
        yield Offence("", str(row.label), f"class {row.label!r} has {amount}")


def _imbalance(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    filled = evidence.classes[evidence.classes["images"] > 0]
    most, least = filled.loc[filled["images"].idxmax()], filled.loc[filled["images"].idxmin()]
    ratio = f"{evidence.whole['imbalance'].iloc[0]:.4g}"
    sizes = f"class {most.label!r} has {most.images:,} images, class {least.label!r} {least.images:,}"
    yield Offence("", str(least.label), f"{sizes}: {ratio} times as many")


_FINDERS: dict[str, Callable[[Rule, Evidence], Iterator[Offence]]] = {
    "schema": _schema,
    "bad_images": _bad_images,
    "reject_share": _reject_share,
    "labels": _labels,
    "size": _size,
    "aspect": _aspect,
    "modes": _modes,
    "group": _group,
    "label_conflict": _label_conflict,
    "duplicates": _duplicates,
    "near_label_conflict": _near("earlier_look_alikes_labelled_otherwise"),
    "near_duplicates": _near("earlier_look_alikes"),
    "two_classes": _two_classes,
    "class_size": _class_size,
    "imbalance": _imbalance,
}
