"""`python -m convflow` and the console script: errors the user can mend become a line each, status 2."""

import os
import sys
from pathlib import Path

from convflow import cli
from convflow.environment import quiet_tools
from convflow.errors import ConvflowError


def main() -> int:
    """Run the command line on `sys.argv`; returns the exit status."""
    quiet_tools(Path.cwd())
    try:
        return cli.run(sys.argv[1:])
    except ConvflowError as error:
        sys.stderr.write("".join(f"convflow: {line}\n" for line in str(error).splitlines()))
        return 2
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno is None:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"convflow: {place}{error.strerror}; {_remedy(error.errno)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("convflow: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _remedy(number: int) -> str:
    if number == 28:  # ENOSPC, whose name differs between systems
        return "free some disk space and run the same command again"
    return f"check the path and its permissions (running in {os.getcwd()})"


if __name__ == "__main__":
    sys.exit(main())
