"""The four pictures a person looks at: training, confusion, ROC and precision-recall, reliability.

The same bytes for the same numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convflow.evaluation.curves import Curve, mean_curve, rank_curves, reliability
from convflow.evaluation.drawing import BLUE, DIM, GREY, ORANGE, PALE_BLUE, drawing, save
from convflow.evaluation.entrants import Entrant
from convflow.evaluation.metrics import Scored, average_precision, confusion, ece, roc_auc

_MOST_NAMED = 20  # classes with their names and counts in the confusion matrix
_MOST_CURVES = 10  # classes with a thin curve of their own


def draw_figures(
    folder: Path, one: Entrant, history: Sequence[dict[str, Any]], best_epoch: int | None = None
) -> None:
    """Write training_curves.png, confusion.png, roc_pr.png and reliability.png into `folder`."""
    classes = one.found.test.classes
    with drawing():
        save(_training(history, best_epoch), folder / "training_curves.png")
        save(_confusion(one.case, classes), folder / "confusion.png")
        save(_roc_pr(one.case, classes), folder / "roc_pr.png")
        save(_reliability(one), folder / "reliability.png")


def _training(history: Sequence[dict[str, Any]], best_epoch: int | None) -> Figure:
    figure = Figure(figsize=(9, 3.8))
    epochs = [epoch["epoch"] for epoch in history]
    names = {epoch["epoch"]: epoch["rung"] for epoch in history if "rung" in epoch}
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for side, colour, line in (("train", BLUE, "--"), ("val", ORANGE, "-")):
            values = [epoch[f"{side}_{name}"] for epoch in history]
            marker = "o" if len(epochs) < 2 else None
            axes.plot(epochs, values, line, color=colour, label=side, marker=marker)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", zorder=1)
            kept = names.get(best_epoch, f"epoch {best_epoch}")
            axes.annotate(
                f"kept: {kept}", (best_epoch, 1), xycoords=("data", "axes fraction"),
                xytext=(-4, -2), textcoords="offset points", color=DIM, fontsize=9,
                ha="right" if best_epoch > np.mean(epochs or [0]) else "left", va="top",
            )  # fmt: skip
        axes.set(title=name.capitalize(), xlabel="rung" if names else "epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if names:
            axes.set_xticks(list(names), list(names.values()), rotation=20)
        axes.legend(loc="best")
    return figure


def _confusion(case: Scored, classes: Sequence[str]) -> Figure:
    count_KK = confusion(case)
    share_KK = count_KK / np.maximum(count_KK.sum(axis=1, keepdims=True), 1)
    n_classes = len(classes)
    side = float(np.clip(2.6 + 0.62 * n_classes, 4.4, 11))
    figure = Figure(figsize=(side + 0.9, side))
    axes: Axes = figure.subplots()
    axes.grid(visible=False)
    image = axes.imshow(share_KK, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class")
    axes.set(title=f"Confusion, {len(case.label_N):,} test images", xlabel="predicted", ylabel="actual")
    if n_classes > _MOST_NAMED:
        return figure
    axes.set_xticks(range(n_classes), classes)
    if max(map(len, classes)) > 12 or n_classes > 12:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_yticks(range(n_classes), classes)
    for row, column in np.ndindex(n_classes, n_classes):
        share, count = share_KK[row, column], count_KK[row, column]
        text = f"{count:,}\n{share:.0%}" if n_classes <= 10 else f"{count:,}"
        colour = "white" if share > 0.55 else "#222222" if count else "#AAAAAA"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    return figure


def _roc_pr(case: Scored, classes: Sequence[str]) -> Figure:
    figure = Figure(figsize=(9, 4.5))
    left, right = figure.subplots(1, 2)
    roc, precision = rank_curves(case)
    if not roc:
        for axes in (left, right):
            axes.text(0.5, 0.5, "one class only among the test images", ha="center", va="center")
            axes.set_axis_off()
        return figure
    area, mean_precision = float(roc_auc(case)[0]), float(average_precision(case)[0])
    what = classes[next(iter(roc))] if case.n_classes == 2 else "mean of one-vs-rest"
    _curves(left, roc, f"ROC, {what}", ("false positive rate", "true positive rate"))
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    left.text(0.97, 0.04, f"area {area:.3f}", ha="right", fontsize=11, color=BLUE)
    _curves(right, precision, f"Precision-recall, {what}", ("recall", "precision"))
    chance = float(np.mean([(case.label_N == k).mean() for k in precision]))
    right.axhline(chance, color=GREY, linewidth=1, linestyle=":")
    right.text(0.03, 0.04, f"average precision {mean_precision:.3f}", fontsize=11, color=BLUE)
    figure.text(1, 0, "dotted: by chance ", ha="right", va="bottom", fontsize=8, color=DIM)
    return figure


def _curves(axes: Axes, curves: dict[int, Curve], title: str, labels: tuple[str, str]) -> None:
    if 1 < len(curves) <= _MOST_CURVES:
        for one in curves.values():
            axes.plot(one.x, one.y, color=PALE_BLUE, linewidth=0.9)
    mean = mean_curve(curves)
    axes.plot(mean.x, mean.y, color=BLUE)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")


def _reliability(one: Entrant) -> Figure:
    """After the temperature, and before it as a thin line."""
    bins = reliability(one.case)
    figure = Figure(figsize=(5.4, 5.8))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
    confidence = [each.confidence for each in bins]
    share = np.array([each.accuracy for each in bins])
    # Wilson's 95 % interval: honest for the small bins too
    n_images = np.array([each.images for each in bins])
    middle = (share + 1.92 / n_images) / (1 + 3.84 / n_images)
    reach = np.sqrt(share * (1 - share) * 3.84 / n_images + 3.69 / n_images**2)
    reach /= 1 + 3.84 / n_images
    top.vlines(confidence, middle - reach, middle + reach, color=PALE_BLUE, linewidth=3)
    after = f"accuracy, with 95 % interval (ECE {float(ece(one.case)[0]):.3f})"
    top.plot(confidence, share, "o-", color=BLUE, markersize=5, label=after)
    left = min(confidence)
    if one.point.temperature != 1:
        raw = reliability(one.raw)
        before = f"before temperature {one.point.temperature:.2f} (ECE {float(ece(one.raw)[0]):.3f})"
        top.plot(
            [each.confidence for each in raw], [each.accuracy for each in raw],
            "o--", color=ORANGE, linewidth=1.2, markersize=3.5, label=before,
        )  # fmt: skip
        left = min(left, raw[0].confidence)
    top.set(title="Reliability on test", ylabel="accuracy")
    top.set(xlim=(min(0.5, left) - 0.02, 1.01), ylim=(-0.02, 1.02))
    top.legend(loc="lower right" if share[-1] > 0.4 else "upper left", fontsize=8.5)
    bottom.bar(
        [each.low for each in bins], n_images, width=[each.high - each.low for each in bins],
        align="edge", color=BLUE, edgecolor="white",
    )  # fmt: skip
    bottom.set(xlabel="confidence in the answer", ylabel="images")
    return figure
