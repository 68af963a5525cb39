"""What, beside the commit, a version was made by: files kept under `source/` of its run."""

from pathlib import Path

from convflow.registry.store import redact

SOURCE = "source"
MEMBERS = "splits/members.parquet"  # later models are not asked about what this one has learnt
DIFF = "git/changes.diff"
LOCK, PARAMS, PACKAGES = Path("dvc.lock"), Path("params.yaml"), Path("requirements.lock")
SIDES = Path("data/sides.csv")  # the memory of the split, which is read before it is written
KEPT = (LOCK, PARAMS, PACKAGES, SIDES)


def gather_source(root: Path, folder: Path) -> None:
    """Copy what is kept of the project at `root` to `folder`, without passwords; less what is not there."""
    for name in KEPT:
        if (root / name).is_file():
            text = (root / name).read_bytes().decode("utf-8", errors="replace")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(redact(text).encode())
