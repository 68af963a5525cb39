"""predictions/ + models/ + reports/timing/ -> reports/evaluation/: every model on the same test images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from convflow.errors import ParamsError
from convflow.evaluation.board_figure import draw_leaderboard
from convflow.evaluation.board_text import board_lines
from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.efficiency import efficiency
from convflow.evaluation.entrants import Entrant, enter, measure_all
from convflow.evaluation.figures import draw_figures
from convflow.evaluation.leaderboard import board_table, chances, leaderboard
from convflow.evaluation.plotdata import read_history, write_csv, write_tables
from convflow.evaluation.report import describe
from convflow.evaluation.sides import read_all
from convflow.evaluation.slices import describe_slices, slice_table, worst_line
from convflow.evaluation.summary import score_lines, table_lines
from convflow.files import read_json, whole_folder, write_json, write_text
from convflow.params import PositiveInt, Section


class Params(Section):
    """Section `evaluate` of params.yaml."""

    models: Annotated[list[str], Field(min_length=1)]
    candidate: str
    operating_point: Literal["argmax", "balanced_accuracy", "accuracy", "f1"]
    positive: str | None
    calibrate: Literal["temperature", "none"]
    n_draws: Annotated[int, Field(ge=200, le=100_000)]
    seed: Annotated[int, Field(ge=0)]
    min_slice: PositiveInt


def run(predictions: Path, models: Path, timing: Path, evaluation: Path, *, params: Params) -> None:
    """Measure every model of `params.models` on the same draws of the test images, and rank them.

    Raises:
        ParamsError: the candidate is none of the models, or one is listed twice.
        DataError: a model's predictions are missing, or of other images or classes.
    """
    _check(params)
    found = read_all(predictions, params.models, params.candidate)
    cards = {name: read_json(models / name / "card.json") for name in params.models}
    chosen = params.model_dump(include={"operating_point", "positive", "calibrate"})
    entrants = [enter(found[name], **chosen) for name in params.models]
    candidate = next(one for one in entrants if one.name == params.candidate)
    draws = resampling(candidate.found.test.group_N, n_draws=params.n_draws, seed=params.seed)
    measured = measure_all(entrants, draws)
    metrics = {one.name: describe(one, drawn, draws) for one, drawn in zip(entrants, measured, strict=True)}
    facts = {
        name: {
            "arch": card.get("arch"),
            "cost": efficiency(models / name, card, timing),
            "kind": card.get("kind"),
            "test": metrics[name]["test"],
        }
        for name, card in cards.items()
    }
    board = leaderboard(entrants, measured, draws, candidate.name, facts)
    slices = describe_slices(entrants, candidate, draws, params.min_slice)
    with whole_folder(evaluation) as folder:
        _write_numbers(folder, metrics, board, slices)
        _draw(folder, candidate, cards[candidate.name], models / candidate.name)
        draw_leaderboard(folder / "leaderboard.png", board, chances(metrics[candidate.name]))
    lines = [*score_lines(candidate.name, metrics[candidate.name]), *board_lines(board), worst_line(slices)]
    print("\n".join(f"evaluate: {line}" for line in lines))


def _check(params: Params) -> None:
    if params.candidate not in params.models:
        raise ParamsError(
            f"params.yaml: evaluate.candidate: {params.candidate!r} is none of evaluate.models "
            f"({', '.join(params.models)}); add it there, or name one of them"
        )
    twice = sorted({name for name in params.models if params.models.count(name) > 1})
    if twice:
        raise ParamsError(f"params.yaml: evaluate.models: {twice[0]!r} stands there twice; name each once")


def _write_numbers(
    folder: Path, metrics: dict[str, Any], board: dict[str, Any], slices: dict[str, Any]
) -> None:
    """All but leaderboard.* is the same for the same predictions; that alone holds clocks."""
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "leaderboard.json", board)
    write_json(folder / "slices.json", slices)
    write_csv(folder / "leaderboard.csv", *board_table(board))
    write_csv(folder / "slices.csv", *slice_table(slices))
    ranked: Sequence[str] = [row["name"] for row in board["models"]]
    lines = [*table_lines({name: metrics[name] for name in ranked}), f"{worst_line(slices)}."]
    write_text(folder / "summary.md", "\n".join(lines) + "\n")


def _draw(folder: Path, candidate: Entrant, card: dict[str, Any], model: Path) -> None:
    """The candidate's tables and pictures; only a network has epochs."""
    history = read_history(model / "history.jsonl") if card.get("kind") != "baseline" else []
    write_tables(folder, candidate, history)
    draw_figures(folder, candidate, history, card.get("best_epoch"))
