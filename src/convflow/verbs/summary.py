"""`convflow summary`: what the last run trained, how good it is, where to look."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convflow.evaluation.summary import summary_lines
from convflow.files import dump_json, read_json
from convflow.params import load_section, read_params
from convflow.registry.standing import registered_line
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")
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
    pages += [_registered(cards), f"browse: {_browse()}"]
    print("\n".join(summary_lines(metrics, cards, leak=leak, pages=pages)))
    return 0


def _registered(cards: Mapping[str, Any]) -> str:
    asked = read_params(PARAMS).get("publish") or {}
    return registered_line(_store(), str(asked.get("name")), str(asked.get("alias")), cards)


def _browse() -> str:
    store = _store()
    return store.shown if store.is_server else "make ui (http://127.0.0.1:5000)"


def _store() -> Store:
    return open_store(load_section(PARAMS, "tracking", Tracking), Path.cwd())


def _maybe(path: Path) -> Any:
    return read_json(path) if path.exists() else None
