"""data/packed/{train,val} -> data/embedded: features of a frozen, pretrained network, for every view"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from convflow.data.packed import Packed
from convflow.errors import DataError
from convflow.files import digest_folder, whole_folder
from convflow.learning.devices import one_line, pick_device
from convflow.learning.embedded import About, write_about
from convflow.learning.embedding import embed_to, freeze, later_stages, pick_mode
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.params import Section

MEMORY = Path(".convflow/embedding.json")


class Params(Section):
    """`embed:` in params.yaml."""

    source: str
    arch: str | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    size_px: Annotated[int, Field(ge=8, le=1024)] | None
    pooling: Literal["mean", "mean_std"]
    views: Literal["none", "mirror", "flips", "dihedral"]
    mode: Literal["auto", "fp32", "channels_last", "bf16"]
    device: Literal["auto", "cuda", "mps", "cpu"]


def run(train: Path, val: Path, embedded: Path, *, params: Params) -> None:
    """Let every image of train and val through the network once per view."""
    sides = {"train": Packed(train), "val": Packed(val)}
    if sides["train"].contract != sides["val"].contract:
        raise DataError(f"{val}: packed otherwise than {train}; run `dvc repro -f pack`")
    wanted = Wanted(params.arch, params.sha256, params.size_px, params.pooling)
    found = open_pretrained(params.source, wanted)
    trunk = found.trunk
    device = pick_device(params.device, require_gpu=False)
    with one_line():
        depths = later_stages(len(trunk.stages))
        mode = params.mode
        if mode == "auto":
            mode = pick_mode(trunk, depths, sides["train"].pixels, device, MEMORY)
        frozen = freeze(trunk, depths, mode, device)
        with whole_folder(embedded) as folder:
            for name, side in sides.items():
                embed_to(folder / f"{name}.npy", frozen, side.pixels, params.views, text=name)
            inputs = {"train": digest_folder(train), "val": digest_folder(val)}
            widths = [trunk.widths[depth] for depth in depths]
            spec = trunk.spec.as_json()
            about = About(found.source, found.sha256, spec, depths, widths, params.views, mode, inputs)
            write_about(folder, about)
    n_images = sum(len(side.pixels) for side in sides.values())
    print(
        f"embed: {sum(widths):,} features of each of {n_images:,} images, views: {params.views}; "
        f"{params.source} at {trunk.spec.size_px} px ({mode})"
    )
