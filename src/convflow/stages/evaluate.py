"""predictions/<name>.parquet + models/<name>/ -> reports/evaluation/"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from convflow.evaluation.figures import draw_figures
from convflow.evaluation.plotdata import read_history, write_tables
from convflow.evaluation.report import evaluate_model
from convflow.evaluation.sides import read_predictions
from convflow.evaluation.summary import score_lines, table_lines
from convflow.files import read_json, whole_folder, write_json, write_text
from convflow.params import Section


class Params(Section):
    """Section `evaluate` of params.yaml."""

    operating_point: Literal["argmax", "balanced_accuracy", "accuracy", "f1"]
    positive: str | None
    n_draws: Annotated[int, Field(ge=200, le=100_000)]
    seed: Annotated[int, Field(ge=0)]


def run(predictions: Path, model: Path, evaluation: Path, *, params: Params) -> None:
    """Evaluate one model's predictions on test; decide as chosen on val."""
    found = read_predictions(predictions)
    card = read_json(model / "card.json")
    history = read_history(model / "history.jsonl")
    numbers, case = evaluate_model(found, **params.model_dump())
    with whole_folder(evaluation) as folder:
        write_json(folder / "metrics.json", {found.model: numbers})
        write_text(folder / "summary.md", "\n".join(table_lines({found.model: numbers})) + "\n")
        write_tables(folder, case, found.test.classes, history)
        draw_figures(folder, case, found.test.classes, history, card.get("best_epoch"))
    print("\n".join(f"evaluate: {line}" for line in score_lines(found.model, numbers)))
