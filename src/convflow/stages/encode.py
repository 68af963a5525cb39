"""data/packed/<use> -> data/encoded: features of a frozen, pretrained network, of all images of the set"""

from pathlib import Path

from convflow.data.packed import Packed
from convflow.errors import DataError
from convflow.learning.embedding import How, embed_sides
from convflow.learning.pretrained import Wanted
from convflow.recipes.embedding import Embedding

MEMORY = Path(".convflow/embedding.json")


class Params(Embedding):
    """`encode:` in params.yaml."""


def run(packed: Path, encoded: Path, *, params: Params) -> None:
    """Let every image of the set through the network once per view; splits pick their rows later."""
    images = Packed(packed)
    if not len(images.pixels):
        raise DataError(f"{packed}: no images; add some and run `dvc repro` in the study's folder")
    wanted = Wanted(params.arch, params.sha256, params.size_px, params.pooling)
    how = How(params.source, wanted, params.views, params.mode, params.device)
    about = embed_sides(encoded, {"all": images}, how, MEMORY)
    print(f"encode: {about.in_words(len(images.pixels))}")
