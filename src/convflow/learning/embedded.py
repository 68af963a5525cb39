"""A folder of features: an array for each side, and embedded.json, which says what they are the features of.

The sides are train.npy and val.npy, or all.npy where splits come later.

Shape letters: N images, V views, F features.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convflow.errors import ConvflowError, DataError
from convflow.files import read_json, write_json
from convflow.learning.pretrained import Wanted
from convflow.nets.backbones import VIEWS, Views

_ABOUT = "embedded.json"


@dataclass(frozen=True)
class About:
    """What embedded.json says.

    Attributes:
        source: of the weights, see `convflow.learning.pretrained`.
        sha256: of the weights.
        spec: of the trunk, as `convflow.nets.backbones.Spec.as_json` gives it.
        depths: the stages whose features lie side by side.
        widths: features of each of them.
        views: under which each picture was looked at.
        mode: how the features were computed (fp32, channels_last, bf16).
        inputs: digests of the packed folders, by side: `train` and `val`, or `all`.
    """

    source: str
    sha256: str
    spec: dict[str, Any]
    depths: list[int]
    widths: list[int]
    views: Views
    mode: str
    inputs: dict[str, str]

    def wanted(self) -> Wanted:
        """What to ask for to get the very trunk these features came from."""
        return Wanted(self.spec["arch"], self.sha256, self.spec["size_px"], self.spec["pooling"])

    def in_words(self, n_images: int) -> str:
        """What a stage tells when they are computed."""
        return (
            f"{sum(self.widths):,} features of each of {n_images:,} images, views: {self.views}; "
            f"{self.source} at {self.spec['size_px']} px ({self.mode})"
        )


class Embedded:
    """An open folder of features.

    Attributes:
        about: what they are the features of.
        sides: by name, float32 (N, V, F), memory-mapped.
    """

    def __init__(self, folder: Path, *, made_by: str = "embed") -> None:
        """Open `folder`, which the stage `made_by` has written.

        Raises:
            DataError: a part is missing, or the parts do not agree.
        """
        self._made_by = made_by
        try:
            self.about = About(**read_json(folder / _ABOUT))
            self.sides: dict[str, NDArray[np.float32]] = {
                side: np.load(folder / f"{side}.npy", mmap_mode="r") for side in self.about.inputs
            }
        except (ConvflowError, OSError, ValueError, EOFError, TypeError) as error:
            raise DataError(
                f"{folder}: not features of convflow ({error}); run `dvc repro -f {made_by}`"
            ) from None
        wanted = (len(VIEWS[self.about.views]), sum(self.about.widths))
        for side, feature_NVF in self.sides.items():
            if feature_NVF.shape[1:] != wanted:
                raise DataError(
                    f"{folder}/{side}.npy: {feature_NVF.shape}, not (N, {wanted[0]}, {wanted[1]}); "
                    f"run `dvc repro -f {made_by}`"
                )

    def check(self, inputs: dict[str, str], folder: Path) -> None:
        """See that these are the features of the packed folders with the digests `inputs`.

        Raises:
            DataError: they are of others.
        """
        if self.about.inputs != inputs:
            raise DataError(
                f"{folder}: features of other images than those packed; run `dvc repro {self._made_by}`"
            )


def write_about(folder: Path, about: About) -> None:
    """Write embedded.json."""
    write_json(folder / _ABOUT, asdict(about))
