"""data/packed/<use> -> data/encoded: features of a frozen, pretrained network, of all images of the set"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from convflow.data.packed import Packed
from convflow.errors import DataError
from convflow.learning.embedding import How, embed_sides
from convflow.learning.pretrained import Wanted
from convflow.params import Section

MEMORY = Path(".convflow/embedding.json")


class Params(Section):
    """`encode:` in params.yaml; as `embed:` of the main pipeline."""

    source: str
    arch: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    size_px: Annotated[int, Field(ge=8, le=1024)] | None
    pooling: Literal["mean", "mean_std"]
    views: Literal["none", "mirror", "flips", "dihedral"]
    mode: Literal["auto", "fp32", "channels_last", "bf16"]
    device: Literal["auto", "cuda", "mps", "cpu"]


def run(packed: Path, encoded: Path, *, params: Params) -> None:
    """Let every image of the set through the network once per view; splits pick their rows later."""
    images = Packed(packed)
    if not len(images.pixels):
        raise DataError(f"{packed}: no images; add some and run `dvc repro` in the study's folder")
    wanted = Wanted(params.arch, params.sha256, params.size_px, params.pooling)
    how = How(params.source, wanted, params.views, params.mode, params.device)
    about = embed_sides(encoded, {"all": images}, how, MEMORY)
    print(f"encode: {about.in_words(len(images.pixels))}")
