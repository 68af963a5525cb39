"""`convflow environment`: print the tools' settings, or run a command under them."""

import argparse
import os
from pathlib import Path

from convflow.environment import own_tools_first, quiet_tools, shell_lines, tool_settings
from convflow.errors import ParamsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--shell",
        action="store_true",
        help='as export lines: eval "$(convflow environment --shell)"',
    )
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND",
        help="run COMMAND with these settings",
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings; with a command, become that command.

    Raises:
        ParamsError: the command is not there.
    """
    root = Path.cwd()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if command:
        _become(command, root)
    elif args.shell:
        print(shell_lines(root), end="")
    else:
        for name, value in tool_settings(root).items():
            print(f"{name}={os.environ.get(name, value)}")
    return 0


def _become(command: list[str], root: Path) -> None:
    quiet_tools(root)
    own_tools_first()
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        raise ParamsError(f"{command[0]}: {error.strerror}; name a command on PATH") from None
