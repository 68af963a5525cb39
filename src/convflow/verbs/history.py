"""`convflow history`: the versions of the registered model, and who made which champion, when and why."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from convflow.files import dump_json
from convflow.registry.asked import read_model
from convflow.registry.door import open_door

_HELP = """\
accuracy: on test, with its 95 % interval, as the version's run has it. The log promotions.jsonl is checked:
each line holds the hash of the one before, and the registry that of the newest.

exit status: 0; 2 where the log has been tampered with, or there is nothing registered
"""
_HEAD = ("version", "registered", "model", "verdict", "accuracy", "aliases", "champion")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Print a row per version and a line per act; 2 when the log's chain is broken.

    Raises:
        TrackingError: no store, or no such model in it.
    """
    store, name, _ = read_model()
    past = open_door("past").look_back(store, name)
    if args.json:
        print(dump_json(asdict(past)), end="")
    else:
        rows = [_HEAD, *(_cells(version) for version in past.versions)]
        print("\n".join(_table(rows)))
        print("\n".join(["", *(_act(act) for act in past.acts), _chain(past)]))
    if past.fault:
        print(f"convflow: {past.fault}", file=sys.stderr)
    return 2 if past.fault else 0


def _cells(version: dict[str, Any]) -> tuple[str, ...]:
    accuracy = version["accuracy"]
    found = "-" if accuracy["value"] is None else f"{accuracy['value']:.3f}"
    if accuracy["low"] is not None:
        found += f" [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
    last = version["last_decision"]
    acts = version["acts"]
    if acts:
        told = {"promote": "promoted", "rollback": "rolled back to"}[acts[-1]["action"]]
        state = f"{told} {acts[-1]['at'][:10]} by {acts[-1]['by']}"
    else:
        state = f"{last['word']} {str(last['at'])[:10]} by {last['by']}" if last else "-"
    registered = version["registered_at"][:16].replace("T", " ")
    aliases = ", ".join(version["aliases"]) or "-"
    said = (version["model"] or "-", version["verdict"] or "-")
    return (version["version"], registered, *said, found, aliases, state)


def _act(act: Any) -> str:
    what = "promoted" if act.action == "promote" else "rolled back to"
    after = f" after version {act.previous}" if act.previous else ""
    how = " by force" if act.forced else ""
    why = f": {act.reason}" if act.reason else ""
    return f"{act.at[:19]}  version {act.version} {what}{after}{how}, by {act.by}{why}"


def _chain(past: Any) -> str:
    if past.fault:
        return "the log is broken, see below"
    return f"{len(past.acts)} acts in the log, its chain holds" if past.acts else "no act in the log yet"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
