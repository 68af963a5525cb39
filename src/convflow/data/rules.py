"""The rules that images must keep before anything is trained on them: what is expected, and how grave it is.

Frames: `images` has one row per image, `classes` one per class, `whole` a single row about all files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CRITICAL, WARNING, INFO = "critical", "warning", "info"
SEVERITIES = (CRITICAL, WARNING, INFO)

_TEXT, _NUMBER = ["str"], ["int32", "int64", "float64"]
COLUMNS: dict[str, list[str]] = {
    **dict.fromkeys(("path", "sha256", "dhash", "format", "mode", "label", "group", "split"), _TEXT),
    **dict.fromkeys(("width", "height", "bytes", "brightness_mean", "brightness_spread", "weight"), _NUMBER),
}
MAY_BE_NULL = {"group", "split"}


@dataclass(frozen=True)
class Limits:
    """What is allowed. Section `validate` of params.yaml explains each."""

    labels: Sequence[str] | None
    min_side_px: int
    max_aspect: float
    modes: Sequence[str] | None
    min_images_per_class: int
    max_imbalance: float
    max_reject_share: float
    near_duplicate_distance: int  # bits
    bad_images_fail: bool
    group_required: bool


def limits_of(section: Mapping[str, Any], *, grouped: bool) -> Limits:
    """The limits that the section `validate` sets; a grouped split wants groups."""
    plain = {name: section[name] for name in Limits.__dataclass_fields__ if name in section}
    return Limits(
        **plain,
        bad_images_fail=section["on_bad_image"] == "fail",
        group_required=section["require_group"] or grouped,
    )


@dataclass(frozen=True)
class Expectation:
    """One question to Great Expectations, asked on behalf of a rule."""

    rule: str
    frame: str  # the name of the frame it is put to
    severity: str
    type: str  # e.g. "expect_column_values_to_not_be_null"
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One rule: its expectations of one frame, and the columns it cannot be checked without."""

    name: str
    severity: str
    frame: str
    expected: str  # what is expected, in words
    remedy: str
    asks: tuple[tuple[str, Mapping[str, Any]], ...]
    needs: tuple[str, ...] = ()

    def expectations(self) -> Iterator[Expectation]:
        """What to ask Great Expectations."""
        for kind, kwargs in self.asks:
            yield Expectation(self.name, self.frame, self.severity, kind, kwargs)


def make_rules(limits: Limits, severity: Mapping[str, str]) -> list[Rule]:
    """All rules that `limits` ask for, in the order they are reported.

    Args:
        limits: what is allowed.
        severity: critical, warning or info for each rule that may be weighed; the schema, bad images that are
            to fail, the same bytes under two labels and a lone class are always critical.
    """
    return [
        _schema(),
        *_about_files(limits, severity),
        *_about_images(limits, severity),
        *_about_copies(limits, severity),
        *_about_classes(limits, severity),
    ]


def _at_most(column: str, value: float) -> tuple[str, Mapping[str, Any]]:
    return "expect_column_values_to_be_between", {"column": column, "max_value": value}


def _at_least(column: str, value: float) -> tuple[str, Mapping[str, Any]]:
    return "expect_column_values_to_be_between", {"column": column, "min_value": value}


def _in_set(column: str, values: Iterable[str]) -> tuple[str, Mapping[str, Any]]:
    return "expect_column_values_to_be_in_set", {"column": column, "value_set": list(values)}


def _of_type(column: str, types: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    if types == _TEXT:  # pandas' own text type is known to this expectation only
        return "expect_column_values_to_be_of_type", {"column": column, "type_": "str"}
    return "expect_column_values_to_be_in_type_list", {"column": column, "type_list": list(types)}


def _schema() -> Rule:
    # An empty frame and an all-null column pass most expectations: hence the first and the last ones.
    return Rule(
        "schema", CRITICAL, "images",
        "at least one image; all columns there, of their types and filled",
        "look at data.root, then run the scan again",
        (
            ("expect_table_row_count_to_be_between", {"min_value": 1}),
            ("expect_table_columns_to_match_set", {"column_set": list(COLUMNS), "exact_match": False}),
            ("expect_column_values_to_be_unique", {"column": "path"}),
            *(_of_type(name, types) for name, types in COLUMNS.items()),
            *(
                ("expect_column_values_to_not_be_null", {"column": name})
                for name in COLUMNS
                if name not in MAY_BE_NULL
            ),
        ),
    )  # fmt: skip


def _about_files(limits: Limits, severity: Mapping[str, str]) -> Iterator[Rule]:
    if limits.bad_images_fail:
        yield Rule(
            "bad_images", CRITICAL, "whole", "every file is a readable, labelled image",
            "mend or remove it, or set validate.on_bad_image: quarantine",
            (_at_most("rejects", 0),),
        )  # fmt: skip
    yield Rule(
        "reject_share", severity["reject_share"], "whole",
        f"at most {100 * limits.max_reject_share:.3g} % of the files are rejected",
        f"mend or remove them, or raise validate.max_reject_share ({limits.max_reject_share:g})",
        (_at_most("reject_share", limits.max_reject_share),),
    )  # fmt: skip


def _about_images(limits: Limits, severity: Mapping[str, str]) -> Iterator[Rule]:
    if limits.labels is not None:
        yield Rule(
            "labels", severity["labels"], "images",
            f"the labels {', '.join(limits.labels)}, each at least once",
            "correct the label or change validate.labels",
            (
                _in_set("label", limits.labels),
                (
                    "expect_column_distinct_values_to_contain_set",
                    {"column": "label", "value_set": list(limits.labels)},
                ),
            ),
            ("path", "label"),
        )  # fmt: skip
    yield Rule(
        "size", severity["size"], "images", f"the short side has at least {limits.min_side_px} px",
        f"remove it or lower validate.min_side_px ({limits.min_side_px})",
        (_at_least("short_side_px", limits.min_side_px),),
        ("path", "label", "width", "height"),
    )  # fmt: skip
    yield Rule(
        "aspect", severity["aspect"], "images",
        f"the long side has at most {limits.max_aspect:g} times the length of the short one",
        f"crop or remove it, or raise validate.max_aspect ({limits.max_aspect:g})",
        (_at_most("aspect", limits.max_aspect),),
        ("path", "label", "width", "height"),
    )  # fmt: skip
    if limits.modes is not None:
        yield Rule(
            "modes", severity["modes"], "images", f"the modes {', '.join(limits.modes)}",
            "convert it or change validate.modes",
            (_in_set("mode", limits.modes),),
            ("path", "label", "mode"),
        )  # fmt: skip
    if limits.group_required:
        yield Rule(
            "group", severity["group"], "images", "every image has a group",
            "fill the group column of labels.csv or choose another split.method",
            (("expect_column_values_to_not_be_null", {"column": "group"}),),
            ("path", "label"),
        )  # fmt: skip


def _about_copies(limits: Limits, severity: Mapping[str, str]) -> Iterator[Rule]:
    yield Rule(
        "label_conflict", CRITICAL, "images", "the same bytes carry one label only",
        "keep the copy with the right label and remove the others",
        (_at_most("labels_of_its_bytes", 1),),
        ("path", "label", "sha256"),
    )  # fmt: skip
    yield Rule(
        "duplicates", severity["duplicates"], "images", "no file occurs twice within a class",
        "remove the copy; the split keeps copies on one side, but each counts as an image",
        (_at_most("earlier_copies", 0),),
        ("path", "label", "sha256"),
    )  # fmt: skip
    near = ("path", "label", "sha256", "dhash")
    bits = limits.near_duplicate_distance
    yield Rule(
        "near_label_conflict", severity["near_label_conflict"], "images",
        f"pictures whose hashes differ in at most {bits} of 256 bits carry the same label",
        f"look at both and correct the label, or lower validate.near_duplicate_distance ({bits})",
        (_at_most("earlier_look_alikes_labelled_otherwise", 0),),
        near,
    )  # fmt: skip
    yield Rule(
        "near_duplicates", severity["near_duplicates"], "images",
        f"no two different files whose hashes differ in at most {bits} of 256 bits",
        f"nothing need be done; lower validate.near_duplicate_distance ({bits}) if they do not look alike",
        (_at_most("earlier_look_alikes", 0),),
        near,
    )  # fmt: skip


def _about_classes(limits: Limits, severity: Mapping[str, str]) -> Iterator[Rule]:
    yield Rule(
        "two_classes", CRITICAL, "whole", "images of at least two classes",
        "add a class, or look at data.root",
        (_at_least("classes", 2),),
        ("label",),
    )  # fmt: skip
    yield Rule(
        "class_size", severity["class_size"], "classes",
        f"at least {limits.min_images_per_class} images in each class",
        f"add some, remove the folder or lower validate.min_images_per_class ({limits.min_images_per_class})",
        (_at_least("images", limits.min_images_per_class),),
        ("label",),
    )  # fmt: skip
    yield Rule(
        "imbalance", severity["imbalance"], "whole",
        f"the largest class has at most {limits.max_imbalance:g} times the images of the smallest",
        f"add images to the smallest class, or raise validate.max_imbalance ({limits.max_imbalance:g})",
        (_at_most("imbalance", limits.max_imbalance),),
        ("label",),
    )  # fmt: skip
