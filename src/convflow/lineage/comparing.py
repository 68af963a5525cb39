"""Two versions side by side: figures, settings, data, cost, the paired difference; for people and scripts."""

from collections.abc import Mapping, Sequence
from typing import Any

from convflow.evaluation.board_text import short as size_text
from convflow.evaluation.leaderboard import RANKED_BY
from convflow.evaluation.pairs import Difference
from convflow.evaluation.summary import TITLES, with_interval
from convflow.lineage.chain import differing
from convflow.lineage.links import short
from convflow.lineage.pairing import Paired, Said, ahead, pair
from convflow.registry.version import Version

_DIGESTS = {"data": "data", "split": "sides", "model": "digest.model", "commit": "git.commit"}
_DRAWS, _SEED = 2000, 0


def compare(a: Version, b: Version) -> dict[str, Any]:
    """All there is to tell, in JSON values; differences are A less B.

    Raises:
        ConvflowError: a file of a run is damaged.
    """
    numbers = [_numbers(one) for one in (a, b)]
    paired = _paired(a, b, numbers)
    return {
        "versions": [_about(one) for one in (a, b)],
        "metrics": _metrics(numbers),
        "params": {key: list(both) for key, both in differing(a.params, b.params).items()},
        "digests": {name: [one.tag(tag) for one in (a, b)] for name, tag in _DIGESTS.items()},
        "cost": _costs(a, b),
        "paired": _told(paired) if paired else None,
        "winner": _winner(paired, (a, b)),
        "sentence": _sentence(paired, (a, b)),
    }


def _about(one: Version) -> dict[str, Any]:
    return {
        "registered": one.name, "version": one.version, "aliases": list(one.aliases), "model": one.model,
        "created": one.created, "protocol": one.tag("protocol"), "verdict": one.tag("verdict"),
    }  # fmt: skip


def _numbers(one: Version) -> dict[str, Any]:
    found = (one.report("evaluation/metrics.json") or {}).get(one.model)
    return found if isinstance(found, dict) else {}


def _metrics(numbers: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Value and interval of every metric that either has; None where one has not."""
    tests = [one.get("test", {}) for one in numbers]
    names = [name for name in TITLES if any(name in test for test in tests)]
    ends = ("value", "low", "high")
    return {
        name: [{end: test[name].get(end) for end in ends} if name in test else None for test in tests]
        for name in names
    }


def _costs(*versions: Version) -> dict[str, list[Any]]:
    costs = []
    for one in versions:
        board = one.report("evaluation/leaderboard.json") or {}
        rows = [row for row in board.get("models", []) if row.get("name") == one.model]
        cost = rows[0].get("cost", {}) if rows else {}
        latency = {
            f"latency_ms_{n}": (cost.get("latency_ms") or {}).get(n, {}).get("median") for n in ("1", "64")
        }
        costs.append(
            {name: cost.get(name) for name in ("size_bytes", "n_parameters", "fit_seconds")} | latency
        )
    return {name: [cost[name] for cost in costs] for name in costs[0]}


def _paired(a: Version, b: Version, numbers: Sequence[dict[str, Any]]) -> Paired | None:
    said = []
    for one, told in zip((a, b), numbers, strict=True):
        place = one.fetch(f"predictions/{one.model}.parquet")
        if place is None or not told:
            return None
        positive = ((one.settings() or {}).get("evaluate") or {}).get("positive")
        said.append(Said(place, told, positive))
    about = numbers[0].get("intervals", {})
    return pair(*said, n_draws=about.get("n_draws", _DRAWS), seed=about.get("seed", _SEED))


def _told(paired: Paired) -> dict[str, Any]:
    return {
        "difference": {name: _entry(apart) for name, apart in paired.apart.items()},
        "images": {
            "common": paired.n_common, "a": paired.n_ours, "b": paired.n_theirs,
            "relabelled": paired.n_relabelled,
        },
        "intervals": paired.about,
        "mcnemar": paired.test and {
            "only_a_right": paired.test.only_ours, "only_b_right": paired.test.only_theirs,
            "p": paired.test.p,
        },
        "why_not": paired.why_not or None,
    }  # fmt: skip


def _entry(apart: Difference) -> dict[str, float | None]:
    ends = apart.ends
    return {"value": apart.value, "low": ends.low if ends else None, "high": ends.high if ends else None}


def _winner(paired: Paired | None, both: tuple[Version, Version]) -> str | None:
    """The version that is ahead by the interval of the metric that models are ranked by; else None."""
    if paired is None or RANKED_BY not in paired.apart:
        return None
    side = ahead(RANKED_BY, paired.apart[RANKED_BY])
    return both[0 if side > 0 else 1].version if side else None


def _sentence(paired: Paired | None, both: tuple[Version, Version]) -> str:
    if paired is None:
        return "no winner: a run holds no predictions or figures"
    if paired.why_not:
        return f"no winner: {paired.why_not}"
    if RANKED_BY not in paired.apart:
        return f"no winner: the common images leave {TITLES[RANKED_BY]} undefined"
    apart, on = paired.apart[RANKED_BY], f"on {paired.n_common:,} common test images"
    said = f"{TITLES[RANKED_BY]} {_points(apart)} points {on}"
    winner = _winner(paired, both)
    if winner is None:
        why = "the interval holds 0" if apart.ends else "too few groups for an interval"
        return f"no winner: {said}: {why}"
    return f"version {winner} is ahead: {said}"


def _points(apart: Difference) -> str:
    ends = f" [{apart.ends.low * 100:+.1f}, {apart.ends.high * 100:+.1f}]" if apart.ends else ""
    return f"{apart.value * 100:+.1f}{ends}"


def lines(found: Mapping[str, Any], heads: tuple[str, str]) -> list[str]:
    """What `compare` found, in two columns; `heads` name the versions."""
    rows: list[tuple[str, ...]] = [("", *heads)]
    rows += [(TITLES[name], *map(_cell, both)) for name, both in found["metrics"].items()]
    rows += _cost_rows(found["cost"])
    rows += [
        (name, short(first), "the same" if first and first == second else short(second))
        for name, (first, second) in found["digests"].items()
    ]
    rows += [("verdict", *(str(one["verdict"]) for one in found["versions"]))]
    rows += [(key, *("-" if one is None else one for one in both)) for key, both in found["params"].items()]
    if not found["params"]:
        rows.append(("params", "the same", "the same"))
    widths = [max(len(row[at]) for row in rows) for at in range(2)]
    table = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]]).rstrip() for row in rows]
    return [*table, *_paired_lines(found, heads), found["sentence"]]


def _cell(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else with_interval(entry)


def _cost_rows(cost: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, str]]:
    titles = {
        "size_bytes": ("size", "{}B"), "n_parameters": ("parameters", "{}"), "fit_seconds": ("fit", "{} s"),
        "latency_ms_1": ("latency, one by one", "{} ms"),
        "latency_ms_64": ("latency, 64 at once", "{} ms each"),
    }  # fmt: skip
    rows = []
    for name, (title, form) in titles.items():
        first, second = ("-" if value is None else form.format(size_text(value)) for value in cost[name])
        rows.append((title, first, second))
    return rows


def _paired_lines(found: Mapping[str, Any], heads: tuple[str, str]) -> list[str]:
    paired = found["paired"]
    if not paired or paired["why_not"]:
        return []
    images = paired["images"]
    out = [
        f"paired: {heads[0]} less {heads[1]}, on {images['common']:,} common test images "
        f"(of {images['a']:,} and {images['b']:,}), 95 % intervals by {paired['intervals']['by']}"
    ]
    if images["relabelled"]:
        out.append(f"  {images['relabelled']:,} more have another label now and were left out")
    for name, apart in paired["difference"].items():
        ends = "(no interval)" if apart["low"] is None else f"[{apart['low']:+.4f}, {apart['high']:+.4f}]"
        out.append(f"  {TITLES[name]:<{max(map(len, TITLES.values()))}}  {apart['value']:+.4f} {ends}")
    test = paired["mcnemar"]
    out.append(
        f"  right by one alone: {test['only_a_right']} and {test['only_b_right']}, "
        f"McNemar's p {test['p']:.3g}"
    )
    if warning := paired["intervals"].get("warning"):
        out.append(f"  warning: {warning}")
    return out
