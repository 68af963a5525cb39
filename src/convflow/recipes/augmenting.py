"""Random changes of training pictures."""

from typing import Annotated

from pydantic import Field

from convflow.params import Fraction, Section


class Augment(Section):
    """`augment:` without flips; see `convflow.learning.augment.Augment`."""

    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Fraction
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Annotated[float, Field(ge=0, le=255)]
    contrast: Fraction
