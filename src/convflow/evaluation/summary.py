"""What a run came to, in lines a person reads at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {
    "accuracy": "accuracy",
    "weighted_accuracy": "weighted accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
_MOST_RECALLS = 10


def score_lines(model: str, numbers: Mapping[str, Any]) -> list[str]:
    """One model on test in a line, and against the majority in another."""
    test, majority = numbers["test"], numbers["majority"]
    titles = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "roc_auc": "AUC"}
    scores = ", ".join(f"{title} {with_interval(test[name])}" for name, title in titles.items())
    lines = [f"{model}: {scores}", f"{model}: {majority_line(majority)}"]
    if warning := numbers["intervals"].get("warning"):
        lines.append(f"{model}: warning: {warning}")
    return lines


def majority_line(majority: Mapping[str, Any]) -> str:
    """The gain over always answering the commonest class, in points."""
    gain, base = majority["gain"], majority["accuracy"]
    ends = "" if gain["low"] is None else f" [{gain['low'] * 100:+.1f}, {gain['high'] * 100:+.1f}]"
    return (
        f"{gain['value'] * 100:+.1f} points{ends} over always answering "
        f"{majority['class']!r} ({base['value']:.3f})"
    )


def with_interval(entry: Mapping[str, Any]) -> str:
    """`0.843 [0.801, 0.882]`, or why there is no value."""
    if entry["value"] is None:
        return f"- ({entry.get('reason', 'undefined')})"
    if entry["low"] is None:
        return f"{entry['value']:.3f} (no interval)"
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def table_lines(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A markdown table: a row per metric, a column per model; under it how it was measured."""
    first = next(iter(metrics.values()))
    names = [name for name in TITLES if name in first["test"]]
    lines = ["| on test | " + " | ".join(metrics) + " |", "| --- |" + " --- |" * len(metrics)]
    for name in names:
        cells = [with_interval(numbers["test"][name]) for numbers in metrics.values()]
        lines.append(f"| {TITLES[name]} | " + " | ".join(cells) + " |")
    for label in first["classes"][:_MOST_RECALLS]:
        cells = [with_interval(numbers["test"]["recall"][label]) for numbers in metrics.values()]
        escaped = label.replace("|", "\\|")
        lines.append(f"| recall of {escaped} | " + " | ".join(cells) + " |")
    lines += ["", f"{first['protocol']}."]
    for model, numbers in metrics.items():
        lines.append(f"{model}: {majority_line(numbers['majority'])}.")
    return lines


def summary_lines(
    model: str,
    numbers: Mapping[str, Any],
    card: Mapping[str, Any] | None = None,
    *,
    found: Sequence[str] = (),
    leak: Mapping[str, Any] | None = None,
    pages: Sequence[str] = (),
) -> list[str]:
    """What was trained, how good it is and by which protocol, the leak probe, where to look.

    Args:
        model: the candidate's name.
        numbers: its part of reports/evaluation/metrics.json.
        card: its card.json.
        found: lines of the leaderboard and the verdict.
        leak: data/splits/leak.json, of which the key "sentence" is shown.
        pages: where to look, a line each.
    """
    lines = [_trained(model, card), *_scores(numbers)]
    if leak and "sentence" in leak:
        lines.append(f"  leak probe: {leak['sentence']}")
    return [*lines, *(f"  {line}" for line in [*found, *pages])]


def _trained(model: str, card: Mapping[str, Any] | None) -> str:
    if card is None:
        return f"{model}:"
    said = [str(card["arch"])] if "arch" in card else []
    if "backbone" in card:
        said = [f"on {card['backbone']['source']}", f"rung {card['chosen_rung']}"]
    if "n_parameters" in card:
        said.append(f"{card['n_parameters'] / 1e6:.2f} M parameters")
    if "input" in card:
        said.append("{size_px} x {size_px} px, {channels} channel(s)".format(**card["input"]))
    if "best_epoch" in card and "backbone" not in card:  # there it counts the rungs
        said.append(f"weights of epoch {card['best_epoch']}")
    return f"{model}: {', '.join(said)}"


def _scores(numbers: Mapping[str, Any]) -> list[str]:
    test, point = numbers["test"], numbers["operating_point"]
    width = max(len(title) for title in TITLES.values())
    lines = [
        f"  {title:<{width}}  {with_interval(test[name])}" for name, title in TITLES.items() if name in test
    ]
    if test["ece"].get("debiased") is not None:
        lines[-1] += f"; {test['ece']['debiased']:.3f} with its noise taken out"
    lines.append(f"  {majority_line(numbers['majority'])}")
    if point.get("temperature", 1) != 1:
        lines.append(f"  {_tempered(numbers['calibration'])}")
    if point["threshold"] is not None:
        lines.append(
            f"  answers {point['positive']!r} from probability {point['threshold']:.3f} on "
            f"(best {point['criterion']} on val)"
        )
    lines.append(f"  protocol: {numbers['protocol']}")
    if warning := numbers["intervals"].get("warning"):
        lines.append(f"  warning: {warning}")
    return lines


def _tempered(found: Mapping[str, Any]) -> str:
    before, after = found["test"]["before"], found["test"]["after"]
    return (
        f"calibrated on val by temperature {found['temperature']:.2f}: log loss {before['log_loss']:.3f} -> "
        f"{after['log_loss']:.3f}, ECE {before['ece']:.3f} -> {after['ece']:.3f}"
    )
