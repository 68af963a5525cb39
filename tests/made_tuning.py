"""A little trunk, pictures, their features and a head on them: where fine-tuning begins."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from convflow.learning.climbing import Side, Stand
from convflow.learning.embedding import embed, freeze
from convflow.learning.probing import Search, Taught, fit_probe
from convflow.learning.tuner import Place, Tuner
from convflow.learning.tuning import Tuning
from convflow.nets.backbones import VIEWS, Spec, Trunk, build_trunk
from made_packed import pictures

VIEWED = "mirror"
DEPTHS = [1, 2, 3]


def tuning(**changed) -> Tuning:
    known = {
        "method": "lp_ft", "blocks": 2, "epochs": 2, "batch_size": 8, "lr": 1e-3, "decay": 0.5,
        "weight_decay": 0.01, "ema": 0.5, "label_smoothing": 0.0, "seed": 0, "runs": 2,
    }  # fmt: skip
    return Tuning(**{**known, **changed})


@dataclass
class World:
    """All that a tuner wants; `tuner` makes one."""

    trunk: Trunk
    sides: tuple[Side, Side]
    widths: dict[int, int]
    stand: Stand
    work: Path

    def tuner(self, *, seconds_left=None, sides=None, precision="fp32", **changed) -> Tuner:
        place = Place("cpu", precision, "fp32", VIEWED, self.work)
        return Tuner(self.trunk, sides or self.sides, tuning(**changed), place, seconds_left=seconds_left)


def made_trunk() -> Trunk:
    """A few stages whose batch norms have seen something, and let everything through."""
    torch.manual_seed(0)
    trunk = build_trunk(Spec("residual", {"width": 8}, 1, 32, 16, per_image=True))
    noise = torch.rand(16, 1, 16, 16) * 255
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    trunk.train()
    with torch.no_grad():
        for _ in range(8):
            trunk(trunk.prepare(noise), [len(trunk.stages) - 1])
    return trunk.eval().requires_grad_(False)


def made_world(work: Path, *, n_train=24, n_val=20, all_views=True, weight=1.0) -> World:
    """Two classes; some labels of train are unsure where `weight` says so."""
    trunk = made_trunk()
    depths = [depth for depth in DEPTHS if depth < len(trunk.stages)]
    widths = {depth: trunk.widths[depth] for depth in depths}
    frozen = freeze(trunk, depths, "fp32", "cpu")
    sides = []
    for seed, n_images in ((1, n_train), (2, n_val)):
        image_NSSC, label_N = pictures(n_images, seed=seed)
        image_NSSC = np.ascontiguousarray(image_NSSC.swapaxes(1, 2))  # stripes that a mirror leaves in place
        feature_NVF = np.empty((n_images, len(VIEWS[VIEWED]), frozen.n_features), np.float32)
        embed(frozen, image_NSSC, VIEWED, feature_NVF, text="")
        weight_N = np.ones(n_images, np.float32)
        weight_N[::3] = weight
        sides.append(Side(feature_NVF, Taught(label_N, weight_N, None, 2), image_NSSC))
    train, val = sides
    search = Search((tuple(depths),), (1e-4,))  # a cautious head: there is something left to learn
    probe = fit_probe(train.seen(all_views=all_views), widths, train.taught, search)
    return World(trunk, (train, val), widths, Stand(probe, all_views), work)
