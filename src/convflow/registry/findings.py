"""What the reports say of a model, as short tags to search and sort runs by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convflow.files import read_json
from convflow.registry.key import Evidence
from convflow.registry.verdict import LONGEST_TAG


def findings(evidence: Evidence, name: str) -> dict[str, str]:
    """Tags on the protocol behind the figures of `name`, the leak probe and the rivals; only what is told."""
    figures = _told(evidence.evaluation / "metrics.json").get(name)
    board = _told(evidence.evaluation / "leaderboard.json")
    said = {
        "convflow.protocol": figures.get("protocol") if isinstance(figures, dict) else None,
        "convflow.leak": _told(evidence.splits / "leak.json").get("sentence"),
        "convflow.wins": wins(board) if board.get("candidate") == name else None,
    }
    return {tag: str(text)[:LONGEST_TAG] for tag, text in said.items() if text}


def wins(board: Mapping[str, Any]) -> str:
    """Which models of leaderboard.json the candidate is ahead of, by the interval of the paired difference.

    Say, `balanced_accuracy: ahead of knn, majority; level with svm`.
    """
    metric = str(board.get("ranked_by"))
    found: dict[str, list[str]] = {"ahead of": [], "level with": [], "behind": [], "not compared with": []}
    for row in board.get("models", []):
        if row.get("versus"):
            found[_standing(row["versus"]["difference"].get(metric) or {})].append(row["name"])
    told = "; ".join(f"{how} {', '.join(sorted(names))}" for how, names in found.items() if names)
    return f"{metric}: {told}" if told else ""


def _standing(difference: Mapping[str, Any]) -> str:
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None:
        return "not compared with"
    return "ahead of" if low > 0 else "behind" if high < 0 else "level with"


def _told(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
