"""data/packed/{train,val} -> data/features: classical features, once for all baselines"""

from dataclasses import asdict
from pathlib import Path

from convflow.baselines.feature_files import write_features
from convflow.baselines.features import FeatureSpec, block_sizes
from convflow.data.packed import Packed
from convflow.errors import DataError, ParamsError
from convflow.files import whole_folder, write_json
from convflow.params import PositiveInt
from convflow.recipes.describing import Features


class Params(Features):
    """`features:` in params.yaml; dvc.yaml makes a path of `packed_px`."""

    packed_px: PositiveInt


def run(train: Path, val: Path, features: Path, *, params: Params) -> None:
    """Describe every picture of train and val by numbers."""
    spec = FeatureSpec(**(params.model_dump(exclude={"packed_px"}) | {"lbp_radii": tuple(params.lbp_radii)}))
    sides = {folder: Packed(folder) for folder in (train, val)}
    if sides[train].contract != sides[val].contract:
        raise DataError(f"{val}: packed otherwise than {train}; run `dvc repro -f pack`")
    blocks = block_sizes(spec, sides[train].contract.channels)
    if not blocks:
        raise ParamsError("features: none is asked for; set hog_cells, lbp_radii, histogram_bins or raw_px")
    with whole_folder(features) as folder:
        for name, side in zip(("train", "val"), sides.values(), strict=True):
            write_features(folder / f"{name}.npy", side, spec)
        write_json(folder / "features.json", {"blocks": list(blocks.items()), "spec": asdict(spec)})
    told = ", ".join(f"{name} {size:,}" for name, size in blocks.items())
    n_images = sum(len(side.pixels) for side in sides.values())
    print(f"features: {sum(blocks.values()):,} of each of {n_images:,} images ({told})")
