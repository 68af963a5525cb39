"""Classical features."""

from typing import Annotated

from pydantic import Field

from convflow.params import Section

Radius = Annotated[int, Field(ge=1, le=64)]


class Features(Section):
    """Which there are; see `convflow.baselines.features.FeatureSpec`."""

    hog_cells: Annotated[int, Field(ge=0, le=64)]
    hog_orientations: Annotated[int, Field(ge=1, le=36)]
    lbp_radii: Annotated[list[Radius], Field(max_length=8)]
    histogram_bins: Annotated[int, Field(ge=0, le=256)]
    raw_px: Annotated[int, Field(ge=0, le=128)]
