"""The leaderboard in words: a markdown table for a page, lines for a terminal.

A metric is written as `0.843 [0.801, 0.882]`, a difference in points of a hundred.
"""

from collections.abc import Mapping
from typing import Any

from convflow.evaluation.summary import TITLES, with_interval

_SHOWN = ("accuracy", "balanced_accuracy", "roc_auc", "ece")
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def markdown(board: Mapping[str, Any]) -> list[str]:
    """The leaderboard as a markdown table, the candidate in bold, its protocol in the caption."""
    candidate, by = board["candidate"], board["ranked_by"]
    ahead = f"lead of {escaped(candidate)}, points"
    heads = ["model", *(TITLES[name] for name in _SHOWN), ahead, "p", "fit", "ms per image", "size"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    lines += [_markdown_row(row, by) for row in board["models"]]
    return [*lines, "", *caption(board)]


def caption(board: Mapping[str, Any]) -> list[str]:
    """What the figures of `markdown` are to be read with: protocol, difference, p, devices."""
    by = TITLES[board["ranked_by"]]
    grouped = board["intervals"]["by"] == "groups"
    lines = [
        f"{board['protocol'][0].upper()}{board['protocol'][1:]}. In brackets: 95 % intervals. "
        f"Lead: {by} of {board['candidate']} less the model's, on the same draws. "
        f"p: McNemar's exact test, corrected for {board['mcnemar']['pairs']} models by Holm"
        + ("; it takes images as independent, so read the interval." if grouped else ".")
    ]
    costs = [row["cost"] for row in board["models"]]
    fitted = _devices(cost["fit_device"] for cost in costs)
    asked = _devices(cost["predict_device"] for cost in costs)
    if fitted or asked:
        lines[0] += (
            f" Fit: seconds on {fitted or 'a device not named'}, features not counted. "
            f"ms per image: asked one by one / 64 at once, on {asked or 'a device not named'}."
        )
    if warning := board["intervals"].get("warning"):
        lines.append(f"Warning: {warning}.")
    return lines


def board_lines(board: Mapping[str, Any]) -> list[str]:
    """A line per model for a terminal, the best first."""
    rows, by = board["models"], board["ranked_by"]
    width = max(len(row["name"]) for row in rows)
    lines = [f"leaderboard by {TITLES[by]} (candidate: {board['candidate']}; p: McNemar's, after Holm):"]
    for row in rows:
        text = with_interval(row["test"][by])
        if row["versus"]:
            apart, test = row["versus"]["difference"][by], row["versus"]["mcnemar"]
            text += f"; {board['candidate']}'s lead {points(apart)} points, McNemar's p {_p(test['p_holm'])}"
        lines.append(f"  {row['name']:<{width}}  {text}")
    return lines


def points(apart: Mapping[str, Any]) -> str:
    """A difference in points: `+4.8 [+1.2, +8.1]`."""
    if apart["value"] is None:
        return "-"
    ends = "" if apart["low"] is None else f" [{apart['low'] * 100:+.1f}, {apart['high'] * 100:+.1f}]"
    return f"{apart['value'] * 100:+.1f}{ends}"


def escaped(text: str) -> str:
    """`text` fit for a cell of a markdown table."""
    return text.replace("|", "\\|")


def short(number: float | None) -> str:
    """Three digits and a unit: `1.21 M`; `-` for None."""
    if number is None:
        return "-"
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def _markdown_row(row: Mapping[str, Any], by: str) -> str:
    test, cost, versus = row["test"], row["cost"], row["versus"]
    name = escaped(row["name"] if row["arch"] in (None, row["name"]) else f"{row['name']} ({row['arch']})")
    size = short(cost["size_bytes"])
    cells = [
        f"**{name}**" if row["candidate"] else name,
        *(with_interval(test[metric]) for metric in _SHOWN),
        points(versus["difference"][by]) if versus else "",
        _p(versus["mcnemar"]["p_holm"]) if versus else "",
        _seconds(cost["fit_seconds"]),
        f"{_plain(cost['latency_ms']['1']['median'])} / {_plain(cost['latency_ms']['64']['median'])}",
        size if size == "-" else f"{size}B",
    ]
    return f"| {' | '.join(cells)} |"


def _devices(names: Any) -> str:
    return ", ".join(sorted({name for name in names if name}))


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
