"""`convflow summary`: what the last run trained, how good it is, what was decided, where to look."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convflow.evaluation.board_text import board_lines, markdown
from convflow.evaluation.summary import summary_lines
from convflow.files import dump_json, read_json
from convflow.params import load_section, read_params
from convflow.registry.standing import registered_line
from convflow.registry.store import Store, Tracking, open_store

PARAMS = Path("params.yaml")
METRICS = Path("reports/evaluation/metrics.json")
BOARD = Path("reports/evaluation/leaderboard.json")
VERDICT = Path("reports/verdict.json")
VALIDATION = Path("reports/validation/result.json")
LEAK = Path("data/splits/leak.json")
PAGES = {
    "numbers": "reports/evaluation/summary.md",
    "verdict": "reports/verdict.md",
    "plots": "reports/evaluation",
    "validation": "reports/validation/index.html",
}
_OLD = (
    "convflow: validation stopped the last run (see reports/validation/index.html); "
    "the figures are those of an earlier one"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` this verb's options."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print it as JSON, for a script")
    how.add_argument("--markdown", action="store_true", help="print the leaderboard as a table for a page")


def run(args: argparse.Namespace) -> int:
    """Print the summary of what lies in the project's folder; returns the exit status.

    Raises:
        ConvflowError: nothing has been evaluated yet.
    """
    read_params(PARAMS)  # elsewhere than in a project this says so first
    metrics, board = read_json(METRICS), read_json(BOARD)
    if (gate := _maybe(VALIDATION)) and not gate["success"]:
        print(_OLD, file=sys.stderr)
    cards = {name: card for name in metrics if (card := _maybe(Path("models", name, "card.json")))}
    leak, verdict = _maybe(LEAK), _maybe(VERDICT)
    candidate = board["candidate"]
    card = cards.get(candidate)
    if args.json:
        told = {"leaderboard": board, "leak": leak, "metrics": metrics, "models": cards, "verdict": verdict}
        print(dump_json(told), end="")
    elif args.markdown:
        print("\n".join(markdown(board)))
    else:
        found = [*board_lines(board), *([_decided(verdict)] if verdict else [])]
        pages = [f"{title}: {path}" for title, path in PAGES.items() if Path(path).exists()]
        pages += [_registered({candidate: card} if card else {}), f"browse: {_browse()}"]
        lines = summary_lines(candidate, metrics[candidate], card, found=found, leak=leak, pages=pages)
        print("\n".join(lines))
    return 0


def _decided(verdict: Mapping[str, Any]) -> str:
    return f"verdict: {verdict['sentence']}"


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
