"""Accuracy against minutes, rung by rung: what each was worth.

A point that was left out is hollow.
"""

from pathlib import Path

from matplotlib.figure import Figure

from convflow.evaluation.drawing import BLUE, GREY, drawing, save
from convflow.files import whole_file
from convflow.learning.climbing import Climbed

_STYLE = {"axes.edgecolor": "black", "axes.titlesize": 11, "lines.linewidth": 1.5}


def draw_ladder(path: Path, climbed: Climbed) -> None:
    """Write a PNG: accuracy and log loss on val of each rung, when it was done."""
    rungs, minutes = climbed.ladder.rungs, [note.seconds / 60 for note in climbed.notes]
    kept = [place for place, rung in enumerate(rungs) if rung.kept]
    with drawing(_STYLE):
        figure = Figure(figsize=(9, 3.8))
        for axes, values, title in zip(
            figure.subplots(1, 2),
            ([100 * rung.accuracy for rung in rungs], [rung.loss for rung in rungs]),
            ("Accuracy on val, %", "Log loss on val, nats"),
            strict=True,
        ):
            axes.step([minutes[i] for i in kept], [values[i] for i in kept], where="post", color=BLUE)
            for place, (rung, x, y) in enumerate(zip(rungs, minutes, values, strict=True)):
                colour = BLUE if rung.kept else GREY
                axes.plot([x], [y], "o", color=colour, markerfacecolor=colour if rung.kept else "white")
                above = 6 + 11 * (place % 3)  # rungs that end at about one time would hide each other's names
                axes.annotate(
                    rung.name, (x, y), xytext=(0, above), textcoords="offset points",
                    ha="center", color=colour, fontsize=9,
                )  # fmt: skip
            axes.set_title(title)
            axes.set_xlabel("minutes")
            axes.margins(0.15, 0.25)
            axes.locator_params(nbins=5)
        with whole_file(path) as partial:
            save(figure, partial)
