"""Which images, classes and files break a rule: each named, with the value and the reason."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from convflow.data.duplicates import bits_apart
from convflow.data.evidence import Evidence
from convflow.data.rules import Rule


class Offence(NamedTuple):
    """What breaks a rule: a file, a class (no path) or the whole set (neither)."""

    path: str
    label: str
    detail: str
    remedy: str = ""  # where it is another than the rule's


def offences(rule: Rule, evidence: Evidence) -> list[Offence]:
    """Name everything that breaks `rule`, in the order of the paths; the remedy is the rule's."""
    return list(_FINDERS[rule.name](rule, evidence))


def sentence(rule: Rule, offence: Offence) -> str:
    """Who, what, and what to do about it; a class or the whole set is named by the detail."""
    return f"{offence.path}: {told(rule, offence)}" if offence.path else told(rule, offence)


def told(rule: Rule, offence: Offence) -> str:
    """What is wrong, and the remedy."""
    return f"{offence.detail}; {offence.remedy or rule.remedy}"


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
        detail, _, remedy = str(row.detail or row.reason).partition("; ")  # as ImageError promises
        if remedy:  # the scan knew a better one
            remedy += ", or set validate.on_bad_image: quarantine"
        yield Offence(str(row.path), str(row.label), detail, remedy)


def _reject_share(rule: Rule, evidence: Evidence) -> Iterator[Offence]:
    total = evidence.whole.iloc[0]
    n_files = int(total.images + total.rejects)
    reasons = evidence.rejects["reason"].value_counts()
    listed = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items()))
    share = (
        f"{100 * total.reject_share:.3g} % of the files are rejects ({int(total.rejects):,} of {n_files:,}"
    )
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
            detail = f"labelled {label[index]!r}, looks like {path[other]}, labelled {label[other]!r}"
            if label[index] == label[other]:
                detail = f"looks like {path[other]}"
            detail += f" ({bits} of 256 bits apart)"
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
        remedy = "" if row.images else "add some or remove the class"
        yield Offence("", str(row.label), f"class {row.label!r} has {amount}", remedy)


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
