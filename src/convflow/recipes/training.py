"""How a network is trained from scratch."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from convflow.params import NotNegative, Positive, PositiveInt, Section
from convflow.recipes.augmenting import Augment


class FlippedAugment(Augment):
    """`augment:`; see `convflow.learning.augment.Augment`."""

    flips: Literal["none", "horizontal", "both"]


class Network(Section):
    """Architecture and training; see `convflow.learning.fitting.Recipe`."""

    arch: str
    arch_args: dict[str, bool | int | FiniteFloat | str]
    normalise: Literal["dataset", "image"]
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: NotNegative
    schedule: Literal["one_cycle", "cosine"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    augment: FlippedAugment
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    deterministic: bool
