"""`convflow trace`: from a registered version back to its commit, its pictures and who promoted it."""

import argparse
from pathlib import Path

from convflow.files import dump_json
from convflow.registry.version import find_version

_HELP = """\
a line for each link of the chain; before it
  !  the link is broken: what it names cannot be had any more, or is not what was published
  ~  it is known, and the project has moved on since
exit status: 0 when no link is broken, 1 when one is, 2 when there is no such version

--json: version, model, broken (names of links), links: a list of name, state, text and what belongs to it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _HELP
    parser.add_argument("version", metavar="VERSION", help="a number or an alias: 3, champion, challenger")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for a script")


def run(args: argparse.Namespace) -> int:
    """Print the chain; 1 where a link of it is broken.

    Raises:
        TrackingError: no such version.
    """
    found = find_version(args.version)
    # pyarrow: only now that the version is known to be there
    from convflow.lineage.chain import chain
    from convflow.lineage.dvc import cache_folder
    from convflow.lineage.links import lines, told

    root = Path.cwd()
    links = chain(found, root, cache_folder(root))
    broken = [one.name for one in links if one.state == "broken"]
    if args.json:
        facts = {"version": found.version, "model": found.name, "broken": broken, "links": told(links)}
        print(dump_json(facts), end="")
    else:
        print("\n".join(lines(links)))
        if broken:
            print(f"broken: {', '.join(broken)}")
    return 1 if broken else 0
