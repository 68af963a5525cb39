"""`convflow compare`: two registered versions side by side."""

import argparse

from convflow.files import dump_json
from convflow.registry.version import find_version

_HELP = """\
differences are A less B, on the test images that both versions were asked about; a version is
called ahead only where the whole 95 % interval of the difference in balanced accuracy says so

--json: versions, metrics and cost (lists of two: A, B), params that differ, digests, paired (difference of
every metric with its interval, images in common), winner (a version or null), sentence
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="a number or an alias: 3, champion, challenger")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Print the comparison.

    Raises:
        TrackingError: no such version.
        ConvflowError: a file of one of the runs is damaged.
    """
    a, b = find_version(args.a), find_version(args.b)
    # scipy and pyarrow: only now that both versions are known to be there
    from convflow.lineage.comparing import compare, lines

    found = compare(a, b)
    print(dump_json(found) if args.json else "\n".join(lines(found, (a.shown, b.shown))) + "\n", end="")
    return 0
