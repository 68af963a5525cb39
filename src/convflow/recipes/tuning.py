"""How a pretrained network is fitted, rung by rung."""

from typing import Annotated, Literal

from pydantic import Field

from convflow.params import Fraction, Grid, NotNegative, Positive, PositiveInt, Section

Rungs = Annotated[list[Literal["probe", "views", "tune", "soup", "temperature"]], Field(min_length=1)]


class Probe(Section):
    """`probe:`; see `convflow.learning.probing.Search`."""

    depths: Literal["auto"] | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    c: Grid
    folds: PositiveInt
    unsure: Literal["weight", "soft", "ignore"]


class Augment(Section):
    """`augment:` of a tuning from pixels; flips are the views under which features were computed."""

    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    shift: Fraction
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Annotated[float, Field(ge=0, le=255)]
    contrast: Fraction


class Tune(Section):
    """`tune:`; see `convflow.learning.tuning.Tuning`."""

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
