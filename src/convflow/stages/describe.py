"""data/packed/<use> -> data/features: classical features of all images of the set"""

from dataclasses import asdict
from pathlib import Path

from convflow.baselines.feature_files import write_features
from convflow.baselines.features import FeatureSpec, block_sizes
from convflow.data.packed import Packed
from convflow.errors import ParamsError
from convflow.files import whole_folder, write_json
from convflow.recipes.describing import Features


class Params(Features):
    """`describe:` in params.yaml."""


def run(packed: Path, features: Path, *, params: Params) -> None:
    """Describe every picture by numbers."""
    spec = FeatureSpec(**(params.model_dump() | {"lbp_radii": tuple(params.lbp_radii)}))
    images = Packed(packed)
    blocks = block_sizes(spec, images.contract.channels)
    if not blocks:
        raise ParamsError("describe: none is asked for; set hog_cells, lbp_radii, histogram_bins or raw_px")
    with whole_folder(features) as folder:
        write_features(folder / "all.npy", images, spec)
        write_json(folder / "features.json", {"blocks": list(blocks.items()), "spec": asdict(spec)})
    print(f"describe: {sum(blocks.values()):,} features of each of {len(images.pixels):,} images")
