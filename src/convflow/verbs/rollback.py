"""`convflow rollback`: make the champion before the present one champion again."""

import argparse

from convflow.registry.asked import print_outcome, read_house
from convflow.registry.door import open_door

_HELP = """\
Which one was before, promotions.jsonl tells; called again it goes back further, not to and fro. The version
must still be there, load in a fresh process and answer as it did.

exit status: 0 rolled back; 1 refused, the champion stays; 2 an error, as no champion before
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; recorded")
    parser.add_argument("--json", action="store_true", help="print the decision as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Go back by one champion; returns the exit status.

    Raises:
        TrackingError: no store, no champion before, a log that was tampered with.
    """
    house = read_house()
    promotion = open_door("promotion")
    return print_outcome("rollback", promotion.rollback(house(promotion), args.reason), as_json=args.json)
