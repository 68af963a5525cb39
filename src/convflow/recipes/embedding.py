"""Features of a pretrained network."""

from typing import Annotated, Literal

from pydantic import Field

from convflow.params import Section


class Embedding(Section):
    """Which network, and how it looks; see `convflow.learning.embedding.How`."""

    source: str
    arch: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    size_px: Annotated[int, Field(ge=8, le=1024)] | None
    pooling: Literal["mean", "mean_std"]
    views: Literal["none", "mirror", "flips", "dihedral"]
    mode: Literal["auto", "fp32", "channels_last", "bf16"]
    device: Literal["auto", "cuda", "mps", "cpu"]
