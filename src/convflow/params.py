"""params.yaml: one strict, frozen section per stage.

The schema of a section lives in its stage's file; what several sections share, in `convflow.recipes`.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convflow.errors import ParamsError
from convflow.faults import find_faults

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Grid = Annotated[list[Positive], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """One stage's part of params.yaml: no unknown key, no silent conversion, no change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def read_params(path: Path) -> dict[str, Any]:
    """Read the whole of params.yaml.

    Raises:
        ParamsError: when the file is missing, is not YAML, or is not a mapping of sections.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run convflow from the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: expected sections such as 'train:', found {type(tree).__name__}")
    return tree


def load_section(path: Path, name: str, schema: type[S]) -> S:
    """Read section `name` of params.yaml and check it against `schema`.

    Raises:
        ParamsError: a line for each offending key, with what is wrong with it and its value.
    """
    return check_section(read_params(path).get(name), schema, place=f"{path}: {name}")


def check_section(values: Any, schema: type[S], *, place: str) -> S:
    """Check `values` against `schema`; each line of the error starts with `place`.

    Raises:
        ParamsError: as `load_section` does.
    """
    try:
        return schema.model_validate({} if values is None else values)
    except ValidationError:
        faults = find_faults(values, schema).items()
        raise ParamsError("\n".join(f"{place}{key and '.'}{key}: {text}" for key, text in faults)) from None
