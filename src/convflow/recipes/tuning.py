"""How a pretrained network is fitted, rung by rung."""

from typing import Annotated, Literal

from pydantic import Field

from convflow.params import Grid, NotNegative, Positive, PositiveInt, Section
from convflow.recipes.augmenting import Augment

Rungs = Annotated[list[Literal["probe", "views", "tune", "soup", "temperature"]], Field(min_length=1)]


class Probe(Section):
    """`probe:`; see `convflow.learning.probing.Search`."""

    depths: Literal["auto"] | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    c: Grid
    folds: PositiveInt
    unsure: Literal["weight", "soft", "ignore"]


class Tune(Section):
    """`tune:`; see `convflow.learning.tuning.Tuning`. Flips are the views of the features."""

    method: Literal["lp_ft", "plain", "gradual"]
    blocks: Literal["all"] | PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: Positive
    decay: Annotated[float, Field(gt=0, le=1)]
    weight_decay: NotNegative
    ema: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    runs: Annotated[int, Field(ge=2)]
    augment: Augment
    device: Literal["auto", "cuda", "mps", "cpu"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    deterministic: bool
