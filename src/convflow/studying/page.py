"""The tables for people: markdown, and a long CSV for other programs."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from convflow.studying.scores import EVERYTHING

_COLUMNS = ("protocol", "model", "slice", "metric", "n", "mean", "sd", "error", "low", "high")
_TITLES = {
    "accuracy": "accuracy, %",
    "balanced_accuracy": "balanced accuracy, %",
    "roc_auc": "ROC-AUC, %",
    "macro_f1": "macro-F1, %",
    "average_precision": "average precision, %",
    "log_loss": "log loss, nats",
}
_NONE = "–"
_MUCH = 0.1  # of gain: a probe that loses less between protocols explains nothing
_PLACES = {"above": "above", "below": "below", "within": "an interval that holds"}

Values = Mapping[str, Any]


def table_csv(found: Values) -> str:
    """One line per protocol, model, slice and metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: line[name] for name in _COLUMNS} for line in found["standings"])
    return text.getvalue()


def table_page(found: Values) -> str:
    """Everything in markdown: a table per protocol, the gap, and what the leak probe says of it."""
    lines: list[str] = []
    for name, about in found["protocols"].items():
        lines += [
            f"### {name}: {_caption(about)}",
            "",
            *_main_table(found, name),
            "",
            *_more_table(found, name),
            "",
        ]
    if found["gaps"]:
        lines += ["### Why the protocols differ", "", *_gap_table(found), "", found["sentence"], ""]
    lines += [f"- {_published_sentence(line)}" for line in found["published"] if line["ours"]]
    return "\n".join(lines).rstrip() + "\n"


def leak_sentence(first: Values, second: Values, gaps: Sequence[Values]) -> str:
    """One sentence on the gap between two protocols.

    Args:
        first: the strongest probe under the first protocol, as `leaks_of` has it.
        second: the same probe under the second.
        gaps: of the models, as `gaps_between` has them.
    """
    told = (
        f"{first['probe'].capitalize()} alone ({first['sees']}), without a look at any picture, tells the "
        f"label of {_percent(first['accuracy']['mean'])} % of the test images under {first['protocol']} "
        f"(gain {first['gain']['mean']:+.2f}) and of {_percent(second['accuracy']['mean'])} % under "
        f"{second['protocol']} (gain {second['gain']['mean']:+.2f}); naming the commonest class tells "
        f"{_percent(first['majority']['mean'])} % and {_percent(second['majority']['mean'])} %"
    )
    learnt = [line["difference"] for line in gaps if line["model"] != "majority"]
    if not learnt or first["gain"]["mean"] - second["gain"]["mean"] < _MUCH:
        return f"{told}. This does not explain the gap."
    points = [f"{100 * end:+.1f}" for end in (min(learnt), max(learnt))]
    return (
        f"{told}. So {first['protocol']} pays a model for recognising what lies next to it in the file, and "
        f"the accuracy of those that learn differs by {' to '.join(dict.fromkeys(points))} points."
    )


def _caption(about: Values) -> str:
    sizes = ", ".join(
        f"{side} {low:,}" + (f"-{high:,}" if high > low else "")
        for side, (low, high) in about["images"].items()
    )
    how = {
        "random": "each image by itself, stratified by {strata}",
        "grouped": "groups kept together, {folds}-fold, dealt {repeats} times",
    }[about["method"]]
    strata = " and ".join(name.replace("_", " ") for name in about["strata"])
    return f"{about['n_splits']} splits, {how.format(**{**about, 'strata': strata})} ({sizes} images)"


def _main_table(found: Values, protocol: str) -> list[str]:
    slices = sorted({line["slice"] for line in found["standings"]} - {EVERYTHING})
    columns = [(EVERYTHING, "accuracy"), (EVERYTHING, "balanced_accuracy"), (EVERYTHING, "roc_auc")]
    columns += [(part, "accuracy") for part in slices]
    titles = [
        _TITLES[metric] if part == EVERYTHING else f"accuracy, {part.replace('=', ' ')}"
        for part, metric in columns
    ]
    titles.insert(1, "sd")
    reference = found["reference"]
    head = ["model", *titles, f"accuracy less {reference}'s", "p (Holm)"]
    lines = [_line(head), _line(["---"] * len(head))]
    for model in _models(found, protocol):
        cells = [_cell(_find(found, protocol, model, part, metric)) for part, metric in columns]
        overall = _find(found, protocol, model, EVERYTHING, "accuracy")
        cells.insert(1, _percent(overall["sd"] if overall else None))
        lines.append(_line([model, *cells, *_test_cells(found, protocol, model)]))
    for line in found["published"]:
        if line["protocol"] == protocol:
            area = _percent(line["roc_auc"], 2)
            shown = f"{_percent(line['accuracy'], 2)} [{_percent(line['low'])}, {_percent(line['high'])}]"
            cells = [f"*{line['name']}*, one split", shown, _NONE, _NONE, area]
            lines.append(_line([*cells, *[_NONE] * (len(head) - len(cells))]))
    return lines


def _more_table(found: Values, protocol: str) -> list[str]:
    metrics = ("macro_f1", "average_precision", "log_loss")
    lines = [_line(["model", *(_TITLES[metric] for metric in metrics)]), _line(["---"] * 4)]
    for model in _models(found, protocol):
        cells = [_cell(_find(found, protocol, model, EVERYTHING, metric), metric) for metric in metrics]
        lines.append(_line([model, *cells]))
    return lines


def _gap_table(found: Values) -> list[str]:
    first, second = found["gaps"][0]["protocols"]
    lines = [_line(["accuracy, %", first, second, "gap, points"]), _line(["---"] * 4)]
    for line in found["gaps"]:
        one, other = line["values"]
        lines.append(_line([line["model"], _percent(one), _percent(other), _points(line)]))
    for one in (line for line in found["leaks"] if line["protocol"] == first):
        other = next(x for x in found["leaks"] if (x["protocol"], x["probe"]) == (second, one["probe"]))
        both = [line["accuracy"]["mean"] for line in (one, other)]
        title = f"*probe: {one['probe']} ({one['sees']})*"
        cells = [
            f"{_percent(line['accuracy']['mean'])} (gain {line['gain']['mean']:+.2f})"
            for line in (one, other)
        ]
        lines.append(_line([title, *cells, f"{100 * (both[0] - both[1]):+.1f}"]))
    return lines


def _test_cells(found: Values, protocol: str, model: str) -> list[str]:
    for line in found["tests"]:
        if (line["protocol"], line["model"], line["metric"]) == (protocol, model, "accuracy"):
            p = _NONE if line["p"] is None else f"{line['p']:.2g} ({line['p_holm']:.2g})"
            return [_points(line), p]
    return [_NONE, _NONE]


def _published_sentence(line: Values) -> str:
    ours = line["ours"]
    return (
        f"{line['protocol']}: {line['like']} reaches {_cell(ours)} over {ours['n']} splits, "
        f"{_PLACES[line['ours_is']]} "
        f"the published {_percent(line['accuracy'], 2)} of {line['name']} ({line['source']}; one split), "
        f"which {line['splits_that_reach_it']} of the {ours['n']} splits reach."
    )


def _models(found: Values, protocol: str) -> list[str]:
    lines = [line for line in found["standings"] if line["protocol"] == protocol]
    lines = [line for line in lines if (line["slice"], line["metric"]) == (EVERYTHING, "accuracy")]
    return [line["model"] for line in sorted(lines, key=lambda line: -line["mean"])]


def _find(found: Values, protocol: str, model: str, part: str, metric: str) -> Values | None:
    wanted = (protocol, model, part, metric)
    for line in found["standings"]:
        if (line["protocol"], line["model"], line["slice"], line["metric"]) == wanted:
            return dict(line)
    return None


def _cell(line: Values | None, metric: str = "accuracy") -> str:
    if line is None:
        return _NONE
    show = (lambda value: f"{value:.3f}") if metric == "log_loss" else _percent
    if line["low"] is None:
        return show(line["mean"])
    return f"{show(line['mean'])} [{show(line['low'])}, {show(line['high'])}]"


def _points(line: Values) -> str:
    text = f"{100 * line['difference']:+.1f}"
    return text if line["low"] is None else f"{text} [{100 * line['low']:+.1f}, {100 * line['high']:+.1f}]"


def _percent(share: float | None, places: int = 1) -> str:
    return _NONE if share is None else f"{100 * share:.{places}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
