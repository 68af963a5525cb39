"""The leaderboard as a picture: intervals as bars, the candidate marked, what each model costs beside it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from convflow.evaluation.board_text import short
from convflow.evaluation.drawing import BLUE, DIM, GREY, ORANGE, PALE_BLUE, drawing, save
from convflow.evaluation.efficiency import BATCHES
from convflow.evaluation.summary import TITLES

_PANELS = ("balanced_accuracy", "accuracy", "roc_auc")
_COLUMNS = (0.2, 0.7, 0.97)  # right ends of the columns of cost, as shares of their panel
_INK = "#333333"
_VEIL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}  # over the grid's lines
_PALE = {ORANGE: "#F6C9A8", BLUE: PALE_BLUE}


def draw_leaderboard(path: Path, board: Mapping[str, Any], chance: Mapping[str, float]) -> None:
    """Write leaderboard.png.

    Args:
        path: where to.
        board: as `leaderboard` makes it.
        chance: what always naming the commonest class comes to, by metric: a dotted line.
    """
    with drawing():
        rows = board["models"]
        height = 1.7 + 0.5 * len(rows)
        bottom = 0.3 / height  # for the line below
        figure = Figure(figsize=(13, height), layout=ConstrainedLayoutEngine(rect=(0, bottom, 1, 1 - bottom)))
        panels = figure.subplots(1, 5, width_ratios=(3, 3, 3, 3, 3.4))
        for axes, metric in zip(panels[:3], _PANELS, strict=True):
            entries = [row["test"][metric] for row in rows]
            _bars(axes, rows, entries, "{:.3f}", 1.0)
            if metric in chance:
                axes.axvline(chance[metric], color=GREY, linewidth=1, linestyle=":", zorder=1)
            axes.set_title(_title(metric))
        _ahead(panels[3], board)
        _costs(panels[4], rows)
        for axes in panels:
            _rows(axes, rows)
        panels[0].tick_params(axis="y", labelleft=True, length=0, pad=8)
        for label, row in zip(panels[0].get_yticklabels(), rows, strict=True):
            label.set(fontsize=11, fontweight="bold" if row["candidate"] else "normal")
        figure.text(
            0.005, 0.005, f" {board['protocol']}. Dotted: always the commonest class.",
            ha="left", va="bottom", fontsize=8, color=DIM,
        )  # fmt: skip
        save(figure, path)


def _title(metric: str) -> str:
    return TITLES[metric][0].upper() + TITLES[metric][1:]


def _bars(axes: Axes, rows: Sequence[Any], entries: Sequence[Any], form: str, scale: float) -> None:
    """A point with its interval per row; what is undefined stays empty."""
    for place, (row, one) in enumerate(zip(rows, entries, strict=True)):
        colour = ORANGE if row["candidate"] else BLUE
        if one is None or one["value"] is None:
            said = "candidate" if row["candidate"] else "-"
            across: Any = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
            axes.text(0.5, place, said, fontsize=9, color=GREY, **across)
            continue
        value = one["value"] * scale
        if one["low"] is not None:
            ends = one["low"] * scale, one["high"] * scale
            axes.hlines(place, *ends, color=_PALE[colour], linewidth=7, capstyle="round", zorder=2)
        axes.plot([value], [place], "o", color=colour, markersize=7, zorder=3)
        axes.annotate(
            form.format(value), (value, place), xytext=(0, 8), textcoords="offset points",
            ha="center", va="bottom", fontsize=8.5, color=_INK, bbox=_VEIL,
        )  # fmt: skip
    axes.margins(x=0.08)


def _ahead(axes: Axes, board: Mapping[str, Any]) -> None:
    by = board["ranked_by"]
    rows = board["models"]
    entries = [row["versus"] and row["versus"]["difference"][by] for row in rows]
    _bars(axes, rows, entries, "{:+.1f}", 100.0)
    axes.axvline(0, color=_INK, linewidth=1, zorder=1)
    axes.set_title(f"Lead of {board['candidate']}, points")
    axes.set_xlabel(TITLES[by])


def _costs(axes: Axes, rows: Sequence[Any]) -> None:
    axes.set_axis_off()
    columns: dict[str, Callable[[Any], str]] = {
        "fit,\nseconds": lambda cost: short(cost["fit_seconds"]),
        "ms per image,\n1 / 64 at once": _latency,
        "size,\nbytes": lambda cost: short(cost["size_bytes"]),
    }
    for number, (title, value) in enumerate(columns.items()):
        x = _COLUMNS[number]
        above: Any = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        axes.text(x, 1.01, title, fontsize=8.5, color=DIM, linespacing=1.1, **above)
        for place, row in enumerate(rows):
            weight = "bold" if row["candidate"] else "normal"
            axes.text(
                x, place, value(row["cost"]), transform=axes.get_yaxis_transform(),
                ha="right", va="center", fontsize=9.5, color=_INK, fontweight=weight,
            )  # fmt: skip


def _latency(cost: Mapping[str, Any]) -> str:
    return " / ".join(short(cost["latency_ms"][batch]["median"]) for batch in BATCHES)


def _rows(axes: Axes, rows: Sequence[Any]) -> None:
    """A row per model, the best on top, the candidate's on a band of its own."""
    axes.set_ylim(len(rows) - 0.45, -0.65)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.tick_params(axis="y", labelleft=False, length=0)
    axes.grid(visible=False, axis="y")
    for place, row in enumerate(rows):
        if row["candidate"]:
            axes.axhspan(place - 0.5, place + 0.5, color="#FBF1E8", zorder=0)
