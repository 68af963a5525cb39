"""Features of a packed side, written as a stream: in several processes where that is sooner done."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from convflow.baselines.features import FeatureSpec, block_sizes, picture_features
from convflow.data.packed import Packed
from convflow.data.workers import map_in_processes
from convflow.errors import ParamsError
from convflow.files import whole_folder, write_json

_WORTH_PROCESSES = 2**23  # pixels: two to three seconds of work, where starting processes costs about one


@dataclass(frozen=True)
class Place:
    """One picture of a packed side."""

    pixels: Path
    index: int

    def __str__(self) -> str:
        return f"{self.pixels}, picture {self.index}"


def write_all(
    features: Path, sides: Mapping[str, Packed], settings: Mapping[str, Any], *, place: str
) -> dict[str, int]:
    """Write a folder: the features of each side, <side>.npy, and what they are, features.json.

    Args:
        features: the folder.
        sides: packed alike.
        settings: the attributes of `FeatureSpec`.
        place: the section of params.yaml that has them, for errors.

    Returns:
        how many features each block has.

    Raises:
        DataError: a worker process died.
        ParamsError: no block is asked for.
    """
    spec = FeatureSpec(**{**settings, "lbp_radii": tuple(settings["lbp_radii"])})
    blocks = block_sizes(spec, next(iter(sides.values())).contract.channels)
    if not blocks:
        raise ParamsError(f"{place}: none is asked for; set hog_cells, lbp_radii, histogram_bins or raw_px")
    with whole_folder(features) as folder:
        for name, side in sides.items():
            write_features(folder / f"{name}.npy", side, spec)
        write_json(folder / "features.json", {"blocks": list(blocks.items()), "spec": asdict(spec)})
    return blocks


def write_features(path: Path, packed: Packed, spec: FeatureSpec) -> None:
    """Write the features of every picture of `packed`, in order: one .npy, float32 (N, F).

    Raises:
        DataError: a worker process died.
    """
    n_images = len(packed.pixels)
    n_features = sum(block_sizes(spec, packed.contract.channels).values())
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_images, n_features)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for row_F in tqdm(_rows(packed, spec), total=n_images, unit="img", desc=path.stem, disable=None):
            stream.write(row_F.astype("<f4").tobytes())


def _rows(packed: Packed, spec: FeatureSpec) -> Iterator[NDArray[np.float32]]:
    if packed.pixels.size < _WORTH_PROCESSES * packed.contract.channels:
        return (picture_features(image_SSC, spec) for image_SSC in packed.pixels)
    places = [Place(packed.folder / "pixels.npy", index) for index in range(len(packed.pixels))]
    return map_in_processes(partial(_at, spec), places)


def _at(spec: FeatureSpec, place: Place) -> NDArray[np.float32]:
    return picture_features(np.load(place.pixels, mmap_mode="r")[place.index], spec)
