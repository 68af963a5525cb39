"""Accuracy within parts of the test images: by group, by any column of labels.csv, by brightness and size.

Shape letters: N images, B draws, S slices.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.evaluation.bootstrap import Resampling, share_interval
from convflow.evaluation.entrants import Entrant
from convflow.evaluation.ranking import Floats, ratio
from convflow.evaluation.report import entry, number
from convflow.evaluation.sides import Side

MOST_VALUES = 50  # of a column; more would be single images rather than parts of the set
_NONE = "(none)"
_QUARTERS = ("1st", "2nd", "3rd", "4th")


@dataclass(frozen=True, eq=False)
class Slice:
    """The images of one value of one column; `inside_N` marks them."""

    column: str
    value: str
    inside_N: NDArray[np.bool_]


def cut(side: Side) -> tuple[list[Slice], dict[str, str]]:
    """All slices of these images, and the columns that give none, with the reason.

    Quarters of brightness and size (in pixels) have their edges among these images themselves.
    """
    columns: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    if any(group is not None for group in side.group_N):
        columns["group"] = [_NONE if group is None else group for group in side.group_N]
    for name, values in side.traits.items():
        if name.startswith("tag_"):
            columns[name.removeprefix("tag_")] = [str(value or _NONE) for value in values]
    for name, value_N in _pictures(side).items():
        if np.isfinite(value_N).all() and value_N.min() < value_N.max():
            columns[name] = _quarters(value_N)
        elif np.isfinite(value_N).all():
            left_out[name] = f"the same in every test image ({value_N[0]:,.6g})"
        else:
            left_out[name] = "not known of every test image"
    slices = []
    for name, values in columns.items():
        distinct = sorted(set(values))
        if len(distinct) < 2:
            left_out[name] = f"one value only ({distinct[0]})"
        elif len(distinct) > MOST_VALUES:
            left_out[name] = f"{len(distinct):,} different values, more than {MOST_VALUES}"
        else:
            value_N = np.array(values)
            slices += [Slice(name, value, value_N == value) for value in distinct]
    return slices, left_out


def describe_slices(
    entrants: Sequence[Entrant], candidate: Entrant, draws: Resampling, min_images: int
) -> dict[str, Any]:
    """The content of slices.json: the candidate's accuracy in each slice, the others' beside it, the worst.

    The worst is the slice of at least `min_images` in which the candidate's accuracy is lowest.
    """
    slices, left_out = cut(candidate.found.test)
    rows = _rows(slices, candidate, draws)
    for row, one in zip(rows, slices, strict=True):
        row["models"] = {other.name: number(_right(other)[one.inside_N].mean()) for other in entrants}
    known = [row for row in rows if row["n"] >= min_images]
    columns = dict.fromkeys(row["column"] for row in rows)
    by_column = {name: _worst([row for row in known if row["column"] == name]) for name in columns}
    return {
        "candidate": candidate.name,
        "intervals": draws.about(),
        "left_out": left_out,
        "min_images": min_images,
        "quarters": "of the test images themselves",
        "slices": rows,
        "worst": _worst(known),
        "worst_by_column": by_column,
    }


def slice_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """slices.csv: its columns and its rows."""
    models = sorted(found["slices"][0]["models"]) if found["slices"] else []
    names = ["column", "value", "images", "accuracy", "low", "high", *(f"accuracy_{one}" for one in models)]
    rows = [
        [row["column"], row["value"], row["n"], *(row["accuracy"][end] for end in ("value", "low", "high"))]
        + [row["models"][one] for one in models]
        for row in found["slices"]
    ]
    return names, rows


def worst_line(found: Mapping[str, Any]) -> str:
    """The worst slice in a few words."""
    worst = found["worst"]
    if worst is None:
        return f"no slice of at least {found['min_images']} images"
    accuracy = worst["accuracy"]
    ends = "" if accuracy["low"] is None else f" [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    return (
        f"worst slice of at least {found['min_images']} images: {worst['column']} {worst['value']}, "
        f"accuracy {accuracy['value']:.3f}{ends} of {worst['n']:,}"
    )


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return min(rows, key=lambda row: (row["accuracy"]["value"], -row["n"]), default=None)


def _rows(slices: Sequence[Slice], candidate: Entrant, draws: Resampling) -> list[dict[str, Any]]:
    if not slices:
        return []
    right_N = _right(candidate)
    inside_NS = np.stack([one.inside_N for one in slices], axis=1).astype(np.float64)
    right_NS = inside_NS * right_N[:, None]

    def measure(count_BN: Floats) -> dict[str, Floats]:
        return {"accuracy": ratio(count_BN @ right_NS, count_BN @ inside_NS)}

    drawn_BS = draws.draw(measure)["accuracy"]
    rows = []
    for place, one in enumerate(slices):
        n_units = len(np.unique(draws.unit_N[one.inside_N]))
        accuracy = entry(right_N[one.inside_N].mean(), share_interval(drawn_BS[:, place], n_units))
        if accuracy["low"] is None:
            accuracy["reason"] = "one group only" if draws.kind == "groups" else "too few images"
        rows.append({
            "accuracy": accuracy, "column": one.column, "groups": n_units if draws.kind == "groups" else None,
            "n": int(one.inside_N.sum()), "value": one.value,
        })  # fmt: skip
    return rows


def _right(one: Entrant) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = one.case.label_N == one.case.decided
    return right


def _pictures(side: Side) -> dict[str, Floats]:
    """What a picture says of itself, as floats (N,), NaN where it is not known."""

    def column(name: str) -> Floats:
        return np.array(
            [math.nan if value is None else value for value in side.traits[name]], dtype=np.float64
        )

    known = side.traits.keys()
    found = {"brightness quarter": column("brightness_mean")} if "brightness_mean" in known else {}
    if {"width", "height"} <= known:
        found["size quarter"] = column("width") * column("height")
    return found


def _quarters(value_N: Floats) -> list[str]:
    """The quarter of each value, with its ends; fewer than four where many are alike."""
    edge_Q = np.unique(np.quantile(value_N, [0.25, 0.5, 0.75]))
    quarter_N = np.searchsorted(edge_Q, value_N)
    names = {}
    for rank, quarter in enumerate(np.unique(quarter_N)):
        inside = value_N[quarter_N == quarter]
        ends = (
            f"{inside.min():,.6g} to {inside.max():,.6g}"
            if inside.min() < inside.max()
            else f"{inside[0]:,.6g}"
        )
        names[int(quarter)] = f"{_QUARTERS[rank]}: {ends}"
    return [names[quarter] for quarter in quarter_N.tolist()]
