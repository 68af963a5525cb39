"""How settings of baselines are searched for."""

from typing import Annotated, Literal

from pydantic import Field

from convflow.params import Grid, PositiveInt, Section


class Knn(Section):
    """`knn:`, values to try."""

    neighbours: Annotated[list[PositiveInt], Field(min_length=1)]


class Svm(Section):
    """`svm:`, values to try; gamma in units of 1 / (the features' variance in all)."""

    c: Grid
    gamma: Grid


class Logistic(Section):
    """`logistic:`, values to try."""

    c: Grid


class Baselines(Section):
    """The search inside train; see `convflow.baselines.rows.Search`."""

    folds: Annotated[int, Field(ge=2)]
    criterion: Literal["balanced_accuracy", "accuracy", "log_loss"]
    knn: Knn
    svm: Svm
    logistic: Logistic
    device: Literal["auto", "cpu", "cuda"]
