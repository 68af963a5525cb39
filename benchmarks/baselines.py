"""Seconds of each baseline's fit, and of the features against a plain loop over scikit-image.

    python benchmarks/baselines.py [PACKED ..] [--repeats 3]

PACKED is a folder with packed train and val, as data/packed, in the size of features.packed_px; name that of
another set beside it. Settings come from params.yaml here. A fit is timed as `dvc repro` runs it: a process
of its own, its imports included. The features of train are computed by convflow and by the shortest loop that
finds HOG, patterns and histograms of the same sizes; the two take turns, and the ratio is the median over the
turns.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage.feature import hog, local_binary_pattern

from convflow.baselines.feature_files import write_features
from convflow.baselines.features import FeatureSpec
from convflow.data.packed import Packed
from convflow.files import read_json
from convflow.params import load_section
from convflow.stages.baseline import Params as BaselineParams
from convflow.stages.features import Params

PARAMS = Path("params.yaml")


def plain(packed: Packed, spec: FeatureSpec) -> np.ndarray:
    """What a user would write: a picture at a time, in one process."""
    rows = []
    cell = packed.contract.size_px // spec.hog_cells
    for image in packed.pixels:
        grey = np.asarray(image)[..., 0]
        parts = [hog(grey, spec.hog_orientations, (cell, cell), (2, 2))]
        parts.append(np.histogram(image, spec.histogram_bins, (0, 256), density=True)[0])
        for radius in spec.lbp_radii:
            codes = local_binary_pattern(grey, 8, radius, "uniform")
            parts.append(np.histogram(codes, 10, (0, 10), density=True)[0])
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def main() -> None:
    """Print both sides, their ratio, and the fits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", nargs="*", type=Path, default=[Path("data/packed")])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    px = load_section(PARAMS, "features", Params).packed_px
    for folder in asked.packed:
        train, val = (folder / side / str(px) for side in ("train", "val"))
        if not train.is_dir():
            sys.exit(f"convflow: {train}: no packed images; run `dvc repro pack` first")
        _features(train, asked.repeats)
        _fits(train.resolve(), val.resolve())


def _features(folder: Path, repeats: int) -> None:
    params = load_section(PARAMS, "features", Params).model_dump(exclude={"packed_px"})
    spec = FeatureSpec(**(params | {"lbp_radii": tuple(params["lbp_radii"])}))
    packed = Packed(folder)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "train.npy"
        turns = [
            (_seconds(lambda: write_features(path, packed, spec)), _seconds(lambda: plain(packed, spec)))
            for _ in range(repeats)
        ]
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    ratio = statistics.median(loop / mine for mine, loop in turns)
    side = packed.contract.size_px
    print(f"{folder}: {len(packed.pixels):,} images of {side} px, {len(packed.contract.classes)} classes")
    print(f"  features   convflow {ours:6.2f} s   plain loop {theirs:6.2f} s   ratio {ratio:.2f} x")


def _fits(*sides: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        _stage("features", *sides, out / "features")
        for kind in load_section(PARAMS, "baseline", BaselineParams).kinds:
            model, timing = out / "models" / kind, out / f"fit-{kind}.json"
            seconds = _seconds(
                lambda model=model, timing=timing: _stage("baseline", out / "features", *sides, model, timing)
            )
            accuracy = read_json(model / "card.json")["val"]["accuracy"]
            inside = read_json(timing)["seconds"]
            print(
                f"  {kind:10} fit {seconds:6.2f} s ({inside:.2f} s without imports), val accuracy {accuracy}"
            )


def _stage(name: str, *paths: Path) -> None:
    command = [sys.executable, "-m", "convflow", "run", name, *map(str, paths)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
