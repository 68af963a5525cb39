"""All models on the same test images: metrics, cost, and each against the candidate; for JSON and CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

from convflow.evaluation.bootstrap import Resampling
from convflow.evaluation.efficiency import BATCHES
from convflow.evaluation.entrants import Entrant, Measured
from convflow.evaluation.metrics import SCALARS
from convflow.evaluation.pairs import differences, holm, mcnemar
from convflow.evaluation.report import entry, protocol

RANKED_BY = "balanced_accuracy"
_COSTS = ("fit_seconds", "size_bytes", "n_parameters", "flops")
_P_DIGITS = 6  # significant ones: p values may be tiny


def leaderboard(
    entrants: Sequence[Entrant],
    measured: Sequence[Measured],
    draws: Resampling,
    candidate: str,
    models: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of leaderboard.json, the best balanced accuracy first.

    Args:
        entrants: all of them.
        measured: of each, as `measure_all` gives it.
        draws: those `measured` was drawn by.
        candidate: the name of one of them.
        models: by name: "kind" and "arch" of its card, "test" as in metrics.json, "cost" as `efficiency`
            gives it.
    """
    lead = next(one for one in entrants if one.name == candidate)
    rows = [
        {"name": one.name, "candidate": one is lead, **models[one.name], "versus": None} for one in entrants
    ]
    versus = _versus(entrants, measured, draws, lead)
    for row in rows:
        row["versus"] = versus.get(row["name"])
        row["test"] = {name: value for name, value in row["test"].items() if name != "recall"}
    rows.sort(key=_standing)
    return {
        "candidate": candidate,
        "difference": "candidate less this model, on the same draws",
        "intervals": draws.about(),
        "mcnemar": _about_mcnemar(len(entrants) - 1, draws),
        "models": rows,
        "n": lead.found.test.n_images,
        "protocol": protocol(lead.found, draws),
        "ranked_by": RANKED_BY,
    }


def _versus(
    entrants: Sequence[Entrant], measured: Sequence[Measured], draws: Resampling, lead: Entrant
) -> dict[str, dict[str, Any]]:
    """Each other model against the candidate, by name."""
    ours = measured[entrants.index(lead)]
    right_N = lead.case.label_N == lead.case.decided
    others = [(one, found) for one, found in zip(entrants, measured, strict=True) if one is not lead]
    tests = [mcnemar(right_N, one.case.label_N == one.case.decided) for one, _ in others]
    corrected = holm([test.p for test in tests])
    versus = {}
    for (one, theirs), test, p_holm in zip(others, tests, corrected, strict=True):
        apart = differences(ours, theirs, draws.n_units)
        versus[one.name] = {
            "difference": {name: entry(found.value, found.ends) for name, found in apart.items()},
            "mcnemar": {
                "only_candidate_right": test.only_ours,
                "only_this_right": test.only_theirs,
                "p": _rounded_p(test.p),
                "p_holm": _rounded_p(p_holm),
            },
        }
    return versus


def _rounded_p(p: float) -> float:
    return float(f"{p:.{_P_DIGITS}g}")


def _about_mcnemar(n_pairs: int, draws: Resampling) -> dict[str, Any]:
    note = "exact, two-sided"
    if draws.kind == "groups":
        note += (
            "; it takes images as independent, which those of one group are not: "
            "read the interval of the difference, which is drawn by groups"
        )
    return {"corrected": "Holm", "note": note, "pairs": n_pairs}


def _standing(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    value = row["test"][RANKED_BY]["value"]
    return value is None, -(value or 0.0), row["name"]


def board_table(board: Mapping[str, Any]) -> tuple[list[str], list[list[object]]]:
    """leaderboard.csv: its columns and its rows."""
    names = ["rank", "model", "kind", "arch", "candidate"]
    names += [f"{metric}{end}" for metric in SCALARS for end in ("", "_low", "_high")] + ["ece_debiased"]
    names += [*_COSTS, *(f"latency_ms_{batch}" for batch in BATCHES)]
    names += [f"ahead_{metric}{end}" for metric in SCALARS for end in ("", "_low", "_high")]
    names += ["mcnemar_p", "mcnemar_p_holm"]
    rows = [_flat(rank, row) for rank, row in enumerate(board["models"], start=1)]
    return names, rows


def _flat(rank: int, row: Mapping[str, Any]) -> list[object]:
    nothing = {"value": None, "low": None, "high": None}
    cost, versus = row["cost"], row["versus"] or {"difference": {}, "mcnemar": {}}
    apart = [versus["difference"].get(metric, nothing) for metric in SCALARS]
    return [
        rank, row["name"], row["kind"], row["arch"], row["candidate"],
        *(row["test"][metric][end] for metric in SCALARS for end in ("value", "low", "high")),
        row["test"]["ece"].get("debiased"),
        *(cost[name] for name in _COSTS),
        *(cost["latency_ms"][batch]["median"] for batch in BATCHES),
        *(one[end] for one in apart for end in ("value", "low", "high")),
        versus["mcnemar"].get("p"), versus["mcnemar"].get("p_holm"),
    ]  # fmt: skip


def chances(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What always naming the commonest class comes to, by metric; from one model's part of metrics.json."""
    present = len(numbers["classes"]) - len(numbers["absent_classes"]["test"])
    found = {"balanced_accuracy": 1 / present, "roc_auc": 0.5}
    base = numbers["majority"]["accuracy"]["value"]
    return found if base is None else {**found, "accuracy": base}
