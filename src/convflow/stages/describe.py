"""data/packed/<use> -> data/features: classical features of all images of the set"""

from pathlib import Path

from convflow.baselines.feature_files import write_all
from convflow.data.packed import Packed
from convflow.recipes.describing import Features


class Params(Features):
    """`describe:` in params.yaml."""


def run(packed: Path, features: Path, *, params: Params) -> None:
    """Describe every picture by numbers."""
    images = Packed(packed)
    blocks = write_all(features, {"all": images}, params.model_dump(), place="describe")
    print(f"describe: {sum(blocks.values()):,} features of each of {len(images.pixels):,} images")
