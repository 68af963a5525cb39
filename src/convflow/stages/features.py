"""data/packed/{train,val} -> data/features: classical features, once for all baselines"""

from pathlib import Path

from convflow.baselines.feature_files import write_all
from convflow.data.packed import open_sides
from convflow.params import PositiveInt
from convflow.recipes.describing import Features


class Params(Features):
    """`features:` in params.yaml; dvc.yaml makes a path of `packed_px`."""

    packed_px: PositiveInt


def run(train: Path, val: Path, features: Path, *, params: Params) -> None:
    """Describe every picture of train and val by numbers."""
    sides = open_sides(train, val)
    blocks = write_all(features, sides, params.model_dump(exclude={"packed_px"}), place="features")
    told = ", ".join(f"{name} {size:,}" for name, size in blocks.items())
    n_images = sum(len(side.pixels) for side in sides.values())
    print(f"features: {sum(blocks.values()):,} of each of {n_images:,} images ({told})")
