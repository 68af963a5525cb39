"""One picture of the standings: a panel per protocol, a dot per split, the mean and its corrected interval.

The same bytes for the same numbers.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convflow.evaluation.drawing import BLUE, GREY, ORANGE, drawing, save
from convflow.studying.scores import EVERYTHING

_STYLE = {"axes.titlesize": 11, "lines.linewidth": 1.5}

Values = Mapping[str, Any]


def draw_standings(path: Path, found: Values, dots: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write the picture to `path`.

    Args:
        path: a PNG file.
        found: the standings, as table.json holds them.
        dots: accuracy of each split, by protocol and model.
    """
    n_models = max(len(models) for models in dots.values())
    with drawing(_STYLE):
        figure = Figure(figsize=(4.8 * len(dots), 1.6 + 0.5 * n_models))
        panels = np.atleast_1d(figure.subplots(1, len(dots), sharex=True))
        for axes, (protocol, models) in zip(panels, dots.items(), strict=True):
            _panel(axes, protocol, found, models)
        save(figure, path)


def _ranking(found: Values) -> list[str]:
    """The models by their accuracy under the first protocol, the best last: the same order in every panel."""
    first = next(iter(found["protocols"]))
    mean = {
        line["model"]: line["mean"]
        for line in found["standings"]
        if (line["protocol"], line["slice"], line["metric"]) == (first, EVERYTHING, "accuracy")
    }
    return sorted(mean, key=mean.__getitem__)


def _panel(axes: Axes, protocol: str, found: Values, dots: Mapping[str, Sequence[float]]) -> None:
    lines = {
        line["model"]: line
        for line in found["standings"]
        if (line["protocol"], line["slice"], line["metric"]) == (protocol, EVERYTHING, "accuracy")
    }
    order = {model: height for height, model in enumerate(_ranking(found))}
    models = sorted(lines, key=order.__getitem__)
    for height, model in enumerate(models):
        line = lines[model]
        axes.plot(
            100 * np.asarray(dots[model]), np.full(len(dots[model]), height), "|", color=GREY, alpha=0.6
        )
        if line["low"] is not None:
            axes.plot([100 * line["low"], 100 * line["high"]], [height, height], color=BLUE, linewidth=3)
        axes.plot([100 * line["mean"]], [height], "o", color=BLUE)
    for published, dashes in zip(found["published"], ("--", "-.") * len(found["published"]), strict=False):
        if published["protocol"] == protocol:
            share = published["accuracy"]
            label = f"published {published['name']}, one split"
            axes.axvline(100 * share, color=ORANGE, linewidth=1.2, linestyle=dashes, label=label)
    strongest = found["leaks"][0]["probe"]  # under the first protocol; the same line in every panel
    for probe in (
        line for line in found["leaks"] if (line["protocol"], line["probe"]) == (protocol, strongest)
    ):
        share, label = probe["accuracy"]["mean"], f"told from {strongest} alone"
        axes.axvline(100 * share, color=GREY, linewidth=1.2, linestyle=":", label=label)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(-0.6, len(models) - 0.4)
    axes.set_xlabel("accuracy, %")
    axes.set_title(f"{protocol}: {found['protocols'][protocol]['n_splits']} splits")
