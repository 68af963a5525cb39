"""`convflow summary`: what the last run trained, how good it is, where to look."""

import argparse
from pathlib import Path
from typing import Any

from convflow.evaluation.summary import summary_lines
from convflow.files import dump_json, read_json

METRICS = Path("reports/evaluation/metrics.json")
LEAK = Path("data/splits/leak.json")
PAGES = {
    "numbers": "reports/evaluation/summary.md",
    "plots": "reports/evaluation",
    "validation": "reports/validation/index.html",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` this verb's options."""
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Print the summary of what lies in the project's folder; returns the exit status.

    Raises:
        ConvflowError: nothing has been evaluated yet.
    """
    metrics = read_json(METRICS)
    cards = {name: card for name in metrics if (card := _maybe(Path("models", name, "card.json")))}
    leak = _maybe(LEAK)
    if args.json:
        print(dump_json({"leak": leak, "metrics": metrics, "models": cards}), end="")
        return 0
    pages = [f"{title}: {path}" for title, path in PAGES.items() if Path(path).exists()]
    print("\n".join(summary_lines(metrics, cards, leak=leak, pages=pages)))
    return 0


def _maybe(path: Path) -> Any:
    return read_json(path) if path.exists() else None
