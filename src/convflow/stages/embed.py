"""data/packed/{train,val} -> data/embedded: features of a frozen, pretrained network, for every view"""

from pathlib import Path

from convflow.data.packed import open_sides
from convflow.learning.embedding import How, embed_sides
from convflow.learning.pretrained import Wanted
from convflow.params import PositiveInt
from convflow.recipes.embedding import Embedding

MEMORY = Path(".convflow/embedding.json")


class Params(Embedding):
    """`embed:` in params.yaml; dvc.yaml makes a path of `packed_px`."""

    packed_px: PositiveInt


def run(train: Path, val: Path, embedded: Path, *, params: Params) -> None:
    """Let every image of train and val through the network once per view."""
    sides = open_sides(train, val)
    wanted = Wanted(params.arch, params.sha256, params.size_px, params.pooling)
    how = How(params.source, wanted, params.views, params.mode, params.device)
    about = embed_sides(embedded, sides, how, MEMORY)
    n_images = sum(len(side.pixels) for side in sides.values())
    print(f"embed: {about.in_words(n_images)}")
