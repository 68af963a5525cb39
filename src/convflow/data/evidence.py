"""The frames that rules are asked of: the scan's rows with measured columns, the classes, the whole."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from convflow.data.duplicates import near_duplicate_pairs
from convflow.data.rules import COLUMNS, MAY_BE_NULL, Rule
from convflow.errors import DataError


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
        if "dhash" in usable:
            try:
                closest = _mark_look_alikes(images, distance)
            except DataError as error:
                too_alike = str(error)
    of_class = _classes(images, classes, counted="label" in usable)
    whole = _whole(len(images), len(rejects), of_class)
    return Evidence(images, of_class, whole, rejects, lacking, closest, too_alike)


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
    pairs = near_duplicate_pairs(images["dhash"].tolist(), distance=distance)
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
