"""The leak probe on a random split and on a split by group of the same images.

python benchmarks/leaks.py            after `dvc repro`; reads data/approved, as a markdown table
"""

import json
import tempfile
from pathlib import Path

from convflow.params import read_params
from convflow.stages import split

SPLITS = {"at random (`stratified`)": "stratified", "by module (`grouped`)": "grouped"}


def probe(method: str) -> dict[str, dict[str, float]]:
    """Split data/approved by `method`; what each probe found, by its name."""
    section = read_params(Path("params.yaml"))["split"] | {"method": method, "leak_probe": "warn"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split.run(
            Path("data/approved"), folder / "splits", folder / "sides.csv", params=split.Params(**section)
        )
        found = json.loads((folder / "splits/leak.json").read_text())
    majority = {"accuracy": found["majority_accuracy"]}
    return {"always the commonest class": majority} | {one["name"]: one for one in found["probes"]}


def cell(found: dict[str, float]) -> str:
    """Accuracy, and the gain over the commonest class with its interval."""
    if "gain" not in found:
        return f"{found['accuracy']:.1%}"
    interval = f"[{found['gain_low']:+.2f}, {found['gain_high']:+.2f}]"
    return f"{found['accuracy']:.1%}, gain {found['gain']:+.2f} {interval}"


def main() -> None:
    """Print a row per probe, a column per split."""
    columns = {title: probe(method) for title, method in SPLITS.items()}
    print(f"\n| told from | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in ("always the commonest class", "file order", "brightness", "file", "path"):
        print(f"| {name} | {' | '.join(cell(found[name]) for found in columns.values())} |")


if __name__ == "__main__":
    main()
