"""The candidate against baselines and limits, rule by rule: what holds, what does not, in sentences.

A rule whose limit is None is not asked. One that is asked and cannot be judged (no interval, a class
without a test image, no timing) fails, and its sentence says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convflow.errors import ParamsError
from convflow.evaluation.board_text import escaped, points
from convflow.evaluation.summary import LOWER_IS_BETTER, TITLES

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One rule's outcome; `passed` is None where it was not asked."""

    name: str
    passed: bool | None
    value: float | None
    limit: float | None
    sentence: str


def floor(name: str, entry: Entry | None, limit: float | None, on: str) -> Rule:
    """At least `limit`: of the value, or of the lower end of its 95 % interval.

    Args:
        name: what is measured, as in a sentence.
        entry: value, low and high (some None, then perhaps a reason); None where it was not measured.
        limit: in [0, 1], or None.
        on: "value" or "low".
    """
    if limit is None:
        return _not_asked(name)
    found = entry[on] if entry else None
    what = name if on == "value" else f"the lower end of {name}"
    if entry is None or found is None:
        return Rule(name, False, None, limit, f"{what} cannot be judged: {_why(entry)}")
    told = f" (value {entry['value']:.3f})" if on == "low" else ""
    return _bounded(name, f"{what} is {found:.3f}{told}", found, limit, above=True)


def recalls(entries: Mapping[str, Entry], limit: float | Mapping[str, float] | None, on: str) -> list[Rule]:
    """A floor for the recall of each class, or of those named.

    Raises:
        ParamsError: a class named is none.
    """
    if limit is None:
        return [_not_asked("recall")]
    limits = limit if isinstance(limit, Mapping) else dict.fromkeys(entries, limit)
    for label in limits:
        if label not in entries:
            raise ParamsError(
                f"params.yaml: decide.min_recall: {label!r} is none of the classes {', '.join(entries)}"
            )
    return [floor(f"recall of {label}", entries[label], least, on) for label, least in limits.items()]


def best_baseline(board: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    """The leaderboard's row of the baseline with the best `metric`; None where there is none."""
    rows = [
        row
        for row in board["models"]
        if row["kind"] == "baseline" and not row["candidate"] and row["test"][metric]["value"] is not None
    ]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(rows, key=lambda row: (sign * row["test"][metric]["value"], row["name"]), default=None)


def margin(board: Mapping[str, Any], metric: str | None, limit: float | None) -> Rule:
    """Better than the best baseline by at least `limit`, with the paired 95 % interval above zero."""
    name = "best baseline"
    if metric is None or limit is None:
        return _not_asked(name)
    best = best_baseline(board, metric)
    if best is None:
        return Rule(
            name, False, None, limit, f"no baseline among the models to compare {TITLES[metric]} with"
        )
    apart = _gain(best["versus"]["difference"][metric], metric)
    us, title = board["candidate"], TITLES[metric]
    against = f"{best['name']}, the best baseline by {title} ({best['test'][metric]['value']:.3f})"
    if apart["value"] is None or apart["low"] is None:
        return Rule(name, False, apart["value"], limit, f"{us} against {against}: no paired interval")
    passed = apart["value"] >= limit and apart["low"] > 0
    shown, wanted = f"{points(apart)} points", f"{limit * 100:g}"
    if metric in LOWER_IS_BETTER:
        shown = f"{apart['value']:+.4f} [{apart['low']:+.4f}, {apart['high']:+.4f}]"
        wanted = f"{limit:g}"
    sentence = f"{us}'s lead over {against} is {shown}; wanted at least {wanted}, and the interval above 0"
    return Rule(name, passed, apart["value"], limit, sentence)


def worst_slices(found: Mapping[str, Any], limit: float | Mapping[str, float] | None) -> list[Rule]:
    """A floor for the accuracy in the worst slice of slices.json, or in the worst of each column named.

    Its value, not the lower end: a group resampled whole has no interval of its own.
    """
    if limit is None:
        return [_not_asked("worst slice")]
    if not isinstance(limit, Mapping):
        return [_worst_slice("worst slice", found["worst"], limit, found["min_images"])]
    rules = []
    for column, least in limit.items():
        name = f"worst slice by {column}"
        if column in found["worst_by_column"]:
            rules.append(_worst_slice(name, found["worst_by_column"][column], least, found["min_images"]))
        else:
            why = found["left_out"].get(column, "there is no such column")
            rules.append(Rule(name, False, None, least, f"{name} cannot be judged: {why}"))
    return rules


def _worst_slice(name: str, worst: Mapping[str, Any] | None, limit: float, min_images: int) -> Rule:
    if worst is None:
        return Rule(name, False, None, limit, f"{name} cannot be judged: none has {min_images} images")
    value = worst["accuracy"]["value"]
    what = f"accuracy in the {name}, {worst['column']} {worst['value']} ({worst['n']:,} images)"
    return _bounded(name, f"{what}, is {value:.3f}", value, limit, above=True)


def calibration(entry: Entry, limit: float | None) -> Rule:
    """The calibration error, its noise taken out, at most `limit`."""
    name, value = "calibration", entry.get("debiased")
    if limit is None:
        return _not_asked(name)
    if value is None:
        return Rule(name, False, None, limit, f"the calibration error cannot be judged: {_why(entry)}")
    return _bounded(name, f"ECE with its noise taken out is {value:.3f}", value, limit, above=False)


def latency(cost: Mapping[str, Any], limit: float | None) -> Rule:
    """The median time of one image asked alone, at most `limit` milliseconds."""
    name, value = "latency", cost["latency_ms"]["1"]["median"]
    if limit is None:
        return _not_asked(name)
    if value is None:
        sentence = "no latency was measured; run `dvc repro -f predict`"
        return Rule(name, False, None, limit, sentence)
    where = f" on {cost['predict_device']}" if cost.get("predict_device") else ""
    passed = value <= limit
    sentence = f"one image takes {value:.3g} ms{where} (median); wanted at most {limit:g}"
    return Rule(name, passed, value, limit, sentence)


def validation(result: Mapping[str, Any] | None, *, required: bool) -> Rule:
    """The images passed validation; `result` is its result.json, None where there is none."""
    name = "validation"
    if not required:
        return _not_asked(name)
    if result is None:
        return Rule(name, False, None, None, "there is no result of the validation; run `dvc repro validate`")
    if result.get("success") is not True:
        return Rule(name, False, None, None, "the images did not pass validation")
    worst = result.get("worst")
    note = f"; its gravest finding is of severity {worst}" if worst else ""
    return Rule(name, True, None, None, f"the images passed validation{note}")


def leak_probe(found: Mapping[str, Any] | None, waiver: str | None) -> Rule:
    """The leak probe has not tripped, or a reason was given why it may."""
    name = "leak probe"
    if found is None or not isinstance(found.get("tripped"), bool):
        return Rule(name, False, None, None, "there is no answer of the leak probe; run `dvc repro split`")
    if not found["tripped"]:
        return Rule(name, True, None, None, "the leak probe is clear")
    told = f"the leak probe has tripped ({found.get('sentence', 'no sentence')})"
    if waiver is None:
        return Rule(name, False, None, None, f"{told}; mend the split, or give decide.leak_waiver a reason")
    return Rule(name, True, None, None, f"{told}; waived: {waiver}")


def verdict(candidate: str, best: str | None, rules: Sequence[Rule]) -> dict[str, Any]:
    """The content of verdict.json: accepted where no rule that was asked fails."""
    asked = [rule for rule in rules if rule.passed is not None]
    failed = [rule.name for rule in asked if not rule.passed]
    if failed:
        which = ", ".join(failed)
        fail = "fails" if len(failed) == 1 else "fail"
        sentence = f"{candidate} is refused: {len(failed)} of {len(asked)} rules {fail}: {which}"
    else:
        holds = "the one rule asked holds" if len(asked) == 1 else f"all {len(asked)} rules hold"
        sentence = f"{candidate} is accepted: {holds}"
    return {
        "accepted": not failed,
        "best_baseline": best,
        "candidate": candidate,
        "rules": [asdict(rule) for rule in rules],
        "sentence": sentence,
    }


def verdict_page(found: Mapping[str, Any]) -> str:
    """verdict.md: the sentence, and a row per rule."""
    words = {True: "holds", False: "**fails**", None: "not asked"}
    lines = ["# Verdict", "", f"{found['sentence']}.", ""]
    lines += ["| rule | | found | limit | |", "| --- | --- | --- | --- | --- |"]
    for rule in found["rules"]:
        cells = [rule["name"], words[rule["passed"]], _plain(rule["value"]), _plain(rule["limit"])]
        lines.append(f"| {' | '.join(map(escaped, [*cells, rule['sentence']]))} |")
    return "\n".join(lines) + "\n"


def failed_lines(found: Mapping[str, Any]) -> list[str]:
    """A line per rule that fails."""
    return [f"{rule['name']}: {rule['sentence']}" for rule in found["rules"] if rule["passed"] is False]


def _not_asked(name: str) -> Rule:
    return Rule(name, None, None, None, "not asked")


def _bounded(name: str, told: str, value: float, limit: float, *, above: bool) -> Rule:
    passed = value >= limit if above else value <= limit
    wanted = f"wanted at {'least' if above else 'most'} {limit:g}"
    return Rule(name, passed, value, limit, f"{told}; {wanted}")


def _why(entry: Entry | None) -> str:
    if entry is None:
        return "it was not measured"
    if entry["value"] is None:
        return str(entry.get("reason", "it is undefined"))
    return "there is no interval (one group or image only)"


def _gain(apart: Entry, metric: str) -> dict[str, float | None]:
    """A difference turned so that above zero is better."""
    if metric not in LOWER_IS_BETTER or apart["value"] is None:
        return dict(apart)
    low, high = apart["low"], apart["high"]
    return {"value": -apart["value"], "low": high and -high, "high": low and -low}


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
