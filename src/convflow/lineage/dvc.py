"""DVC, always run as a command of this environment."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "dvc")


def ask_dvc(folder: Path, *arguments: str) -> str | None:
    """What a DVC command prints in `folder`; None where it fails."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environ(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def cache_folder(root: Path) -> Path | None:
    """The folder of DVC's cache for the project at `root`; None where there is no DVC."""
    found = ask_dvc(root, "cache", "dir")
    return Path(found.strip()) if found and found.strip() else None


def remotes(root: Path) -> dict[str, str]:
    """The addresses of the project's remotes, by name."""
    told = (ask_dvc(root, "remote", "list") or "").splitlines()
    return {
        name: url.removesuffix("(default)").strip()
        for name, _, url in (line.partition("\t") for line in told)
    }


def environ(folder: Path) -> dict[str, str]:
    """The environment of a DVC command in `folder`: what it notes down lies there, and `src` comes first."""
    own = {"DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site"), "PYTHONPATH": str(folder / "src")}
    kept = {name: value for name, value in os.environ.items() if name not in ("DVC_ROOT", "DVC_STAGE")}
    return kept | own
