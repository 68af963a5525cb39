"""The section `promote` of params.yaml: what a version has to hold to become champion."""

from typing import Annotated, Literal

from pydantic import Field

from convflow.params import Fraction, PositiveInt, Section

Compared = Literal[
    "accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "average_precision", "log_loss", "brier"
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Promote(Section):
    """Limits of quality, then of mechanics, which nobody can override."""

    metric: Compared
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    max_class_drop: Fraction
    max_slice_drop: Fraction
    min_slice: PositiveInt
    min_rows: PositiveInt
    allow_dirty: bool
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    check_images: PositiveInt
    max_load_s: Positive
    max_size_mb: Positive
