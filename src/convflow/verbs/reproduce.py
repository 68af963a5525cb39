"""`convflow reproduce`: make a registered version anew, and say whether the same comes out."""

import argparse
import sys
from pathlib import Path

from convflow.environment import own_tools_first
from convflow.files import dump_json
from convflow.registry.version import find_version

_HELP = """\
runs the pipeline at the version's commit, with its parameters and its pictures, in a copy of the project
below .convflow/reproduce; nothing of the project is touched, nothing is registered, and of the cache only
the pictures are taken. The environment is the present one. Progress goes to stderr.

exit status: 0 when predictions and metrics are identical, or equal within publish.tolerance
             1 when they are different; the first difference is named
             2 when the version cannot be made anew

--json: outcome (identical, within, different), predictions and metrics (how, largest_difference, where),
        stations (data, sides, model: whether they are the same), stages, notes, commit, kept
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument("version", metavar="VERSION", help="a number or an alias: 3, champion, challenger")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")
    parser.add_argument("--keep", action="store_true", help="leave the copy there, to look into it")


def run(args: argparse.Namespace) -> int:
    """Make the version anew and compare; 1 when something else comes out.

    Raises:
        TrackingError: no such version.
        ModelError: it cannot be made anew.
        DataError: its pictures are not to be had.
    """
    own_tools_first()
    found = find_version(args.version)
    # pyarrow: only now that the version is known to be there
    from convflow.lineage.reproducing import lines, reproduce, told

    outcome = reproduce(found, Path.cwd(), _say, keep=args.keep)
    print(dump_json(told(outcome)) if args.json else "\n".join(lines(outcome)) + "\n", end="")
    return 1 if outcome.how == "different" else 0


def _say(line: str) -> None:
    print(f"reproduce: {line}", file=sys.stderr, flush=True)
