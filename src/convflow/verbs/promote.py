"""`convflow promote`: make a registered version champion, on evidence."""

import argparse

from convflow.errors import ParamsError
from convflow.registry.asked import print_outcome, read_house
from convflow.registry.door import open_door

_HELP = """\
Two blessings are needed; their limits are the section `promote` of params.yaml.
quality    decide accepts it; its tags name code, data and commit; it and the champion are asked anew about
           today's test images, and the paired interval of their difference lies above -promote.margin; no
           class and no slice falls; classes and input are those of the champion. --force overrides these.
mechanics  the registered files, fetched anew, load in a fresh process within the limits and answer as they
           did. Nothing overrides these.
Every decision is kept in the version's run and in its tags; every promotion in promotions.jsonl, which you
commit.

exit status: 0 promoted, or champion already; 1 refused on evidence; 2 an error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument(
        "version", nargs="?", metavar="VERSION", help="a number or an alias (default: that of publish.alias)"
    )
    parser.add_argument("--force", action="store_true", help="override quality; needs --reason")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; recorded")
    parser.add_argument("--json", action="store_true", help="print the decision as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Judge and promote; returns the exit status.

    Raises:
        ParamsError: forced without a reason, or a version that is neither number nor alias.
        TrackingError: no store, no such version, a log that was tampered with.
    """
    if args.force and not args.reason.strip():
        raise ParamsError('--force: say why; add --reason "..."')
    if args.version is not None and not args.version.strip():
        raise ParamsError("the version is empty; give a number or an alias, see `convflow history`")
    house = read_house()
    promotion = open_door("promotion")
    outcome = promotion.promote(house(promotion), promotion.Wish(args.version, args.force, args.reason))
    return print_outcome("promote", outcome, as_json=args.json)
