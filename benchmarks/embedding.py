"""Features of a packed folder against a bare forward pass of the same net in its fastest mode, in one run.

    python benchmarks/embedding.py [PACKED] [--source efficientnet_lite0] [--views dihedral] [--images 256]
        [--pooling mean_std] [--threads 2] [--compile]

The bare pass has its pictures ready as floats in memory and keeps the last stage's mean alone; ours reads
them from disk, prepares them, keeps all later stages under all views and writes them down. Both are given per
view of an image, the median of three. `--compile` also times torch.compile, its compilation apart.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from convflow.data.packed import Packed
from convflow.learning.embedding import MODES, Mode, embed_to, freeze, later_stages, pick_mode
from convflow.learning.pretrained import Wanted, open_pretrained
from convflow.nets.backbones import VIEWS, Trunk

AT_ONCE, TURNS = 32, 3


def bare(trunk: Trunk, image_NSSC: np.ndarray, mode: Mode, *, compiled: bool = False) -> Callable[[], None]:
    """A forward pass over pictures that lie ready, as short as it can be written; norms are not folded."""
    memory_format = torch.contiguous_format if mode == "fp32" else torch.channels_last
    net = torch.nn.Sequential(*trunk.stages).to(memory_format=memory_format)
    run = torch.compile(net) if compiled else net
    pixels = torch.from_numpy(np.array(image_NSSC)).permute(0, 3, 1, 2)
    batches = [part.contiguous(memory_format=memory_format) for part in trunk.prepare(pixels).split(AT_ONCE)]

    @torch.inference_mode()
    def go() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16"):
            for batch in batches:
                run(batch).mean(dim=(2, 3))

    return go


def seconds(go: Callable[[], None]) -> float:
    """Of one go."""
    begun = time.perf_counter()
    go()
    return time.perf_counter() - begun


def main() -> None:
    """Print ours, the bare pass in each mode, and the ratio to the fastest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", type=Path, nargs="?", default=Path("data/packed/train/224"))
    parser.add_argument("--source", default="efficientnet_lite0")
    parser.add_argument("--views", default="dihedral", choices=list(VIEWS))
    parser.add_argument("--pooling", default="mean_std", choices=["mean", "mean_std"])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    images = Packed(asked.packed).pixels[: asked.images]
    trunk = open_pretrained(asked.source, Wanted(pooling=asked.pooling)).trunk
    depths = later_stages(len(trunk.stages))
    n_views = len(VIEWS[asked.views])
    with tempfile.TemporaryDirectory() as scratch:
        mode = pick_mode(trunk, depths, images, "cpu", Path(scratch, "memory.json"))
        frozen = freeze(trunk, depths, mode, "cpu")
        path = Path(scratch, "features.npy")
        sides = {f"bare {one}": bare(trunk, images, one) for one in MODES}
        if asked.compile:
            sides["bare compiled bf16"] = bare(trunk, images, "bf16", compiled=True)
            print(f"torch.compile: {seconds(sides['bare compiled bf16']):.1f} s for its first pass")
        sides[f"convflow ({mode})"] = lambda: embed_to(path, frozen, images, asked.views, text="")
        taken = {name: [seconds(go) for _ in range(TURNS)] for name, go in sides.items()}
    shares = {name: n_views if name.startswith("convflow") else 1 for name in taken}
    ms = {name: 1000 * statistics.median(found) / len(images) / shares[name] for name, found in taken.items()}
    print(
        f"{asked.source}, {trunk.spec.size_px} px, {len(images)} images, {asked.threads} threads; ms per view"
    )
    for name, value in ms.items():
        print(f"{name:22} {value:8.2f}")
    best = min(value for name, value in ms.items() if name.startswith("bare"))
    print(f"ratio to the fastest   {ms[f'convflow ({mode})'] / best:8.2f} x")


if __name__ == "__main__":
    main()
