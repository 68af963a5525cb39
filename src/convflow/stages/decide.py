"""data/splits, reports/validation, reports/evaluation -> reports/verdict.json, .md: refusing is a result."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from convflow.evaluation import deciding
from convflow.evaluation.summary import TITLES
from convflow.files import read_json, write_json, write_text
from convflow.params import Fraction, Positive, Section

Floored = Literal[
    "accuracy", "weighted_accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision"
]
Compared = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision", "log_loss", "brier"
]


class Compare(Section):
    """`decide.compare:`; how far above the best baseline, in which metric (a fraction, not points)."""

    metric: Compared
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Waiver(Section):
    """`decide.leak_waiver:`; why a tripped leak probe is no reason to refuse."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Params(Section):
    """Section `decide` of params.yaml; null switches a rule off."""

    require_validation: bool
    leak_waiver: Waiver | None
    floors: dict[Floored, Fraction | None]
    floor_on: Literal["value", "low"]
    compare: Compare | None
    min_recall: Fraction | dict[str, Fraction] | None
    min_slice_accuracy: Fraction | dict[str, Fraction] | None
    max_ece: Fraction | None
    max_latency_ms: Positive | None


def run(
    splits: Path, validation: Path, evaluation: Path, verdict: Path, page: Path, *, params: Params
) -> None:
    """Judge the candidate of the leaderboard and write the verdict; ends well whatever it is.

    Raises:
        ParamsError: decide.min_recall names a class that is none.
    """
    board = read_json(evaluation / "leaderboard.json")
    candidate = board["candidate"]
    numbers = read_json(evaluation / "metrics.json")[candidate]
    row = next(one for one in board["models"] if one["candidate"])
    compare = params.compare
    rules = [
        deciding.validation(_maybe(validation / "result.json"), required=params.require_validation),
        deciding.leak_probe(
            _maybe(splits / "leak.json"), params.leak_waiver.reason if params.leak_waiver else None
        ),
        deciding.margin(board, compare.metric if compare else None, compare.margin if compare else None),
        *_floors(numbers["test"], params),
        *deciding.worst_slices(read_json(evaluation / "slices.json"), params.min_slice_accuracy),
        deciding.calibration(numbers["test"]["ece"], params.max_ece),
        deciding.latency(row["cost"], params.max_latency_ms),
    ]
    best = deciding.best_baseline(board, compare.metric if compare else board["ranked_by"])
    found = deciding.verdict(candidate, best["name"] if best else None, rules)
    write_json(verdict, found)
    write_text(page, deciding.verdict_page(found))
    lines = [*deciding.failed_lines(found), found["sentence"]]
    print("\n".join(f"decide: {line}" for line in lines))


def _floors(test: dict[str, Any], params: Params) -> list[deciding.Rule]:
    floors = [
        deciding.floor(TITLES[name], test.get(name), limit, params.floor_on)
        for name, limit in params.floors.items()
    ]
    return [*floors, *deciding.recalls(test["recall"], params.min_recall, params.floor_on)]


def _maybe(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
