"""What enters the first trained stage: computed once per picture and view, or anew for each batch.

While the stages below are frozen, what leaves them is the same in every epoch. Kept on disk in half
precision, it spares an epoch everything below; the views are then the augmentation: each epoch sees another.

Shape letters: N images, B of them, V views, C channels, S side, F features of the frozen stages.
"""

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from convflow.errors import TrainingError
from convflow.files import reserve
from convflow.learning.augment import Augment
from convflow.learning.embedding import Mode, freeze
from convflow.nets.backbones import Trunk, at_once

Entering = tuple[
    Tensor, Tensor
]  # of B images: what enters the first trained stage, and F features from below
_ROOM = 0.8  # share of the free disk that may be used


@dataclass(frozen=True, eq=False)
class Pictures:
    """Some of the pictures of an array.

    Attributes:
        image_NSSC: uint8, may lie on disk.
        row_N: int64, which of them; None: all.
    """

    image_NSSC: NDArray[np.uint8]
    row_N: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many they are."""
        return len(self.image_NSSC if self.row_N is None else self.row_N)

    def read(self, index_B: NDArray[np.int64], device: torch.device) -> Tensor:
        """Pixels uint8 (B, C, S, S), channels last."""
        rows = index_B if self.row_N is None else self.row_N[index_B]
        return torch.from_numpy(np.array(self.image_NSSC[rows])).to(device).permute(0, 3, 1, 2)


class Below:
    """The stages below the first trained one, frozen."""

    def __init__(self, trunk: Trunk, depths: list[int], first: int, mode: Mode, device: torch.device) -> None:
        """Make the stages before `first` ready to be asked.

        Args:
            trunk: with its weights; stays as it is.
            depths: stages whose features the head sees.
            first: the first trained stage.
            mode: how to compute, see `convflow.learning.embedding`.
            device: where.
        """
        self._frozen = freeze(trunk, depths, mode, str(device))
        self.depths, self.first, self.device, self.layout = depths, first, device, trunk.layout
        self.size_px = trunk.spec.size_px

    @torch.no_grad()
    def __call__(self, image_BCSS: Tensor, view_B: NDArray[np.int64]) -> Entering:
        """Look at each picture (0..255) under its own view."""
        trunk, mode = self._frozen.trunk, self._frozen.mode
        x = turned_over(trunk.prepare(image_BCSS), torch.from_numpy(view_B).to(self.device))
        x = x.contiguous(memory_format=torch.contiguous_format if mode == "fp32" else torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=mode == "bf16"):
            x, found = trunk.through(x, self.depths, 0, self.first)
        return x.float(), torch.cat([x.new_zeros(len(x), 0, dtype=torch.float32), *found], dim=1)


class Feed(Protocol):
    """Gives what enters the first trained stage."""

    view_NV: NDArray[np.int64]

    def batch(self, turn: int, index_B: NDArray[np.int64], generator: torch.Generator | None) -> Entering:
        """Of the pictures `index_B`, each under the view that is its own in this turn.

        Args:
            turn: counted from 0; after the last column of `view_NV` comes the first again.
            index_B: among the pictures fed.
            generator: of augmentation, where pictures are changed at random; None: they are not.
        """
        ...


class Fresh:
    """Computes each batch anew, so that pixels can be changed at random."""

    def __init__(
        self, below: Below, pictures: Pictures, view_NV: NDArray[np.int64], augment: Augment
    ) -> None:
        """Feed `pictures`, in each turn under its column of `view_NV`, changed by `augment` where asked."""
        self.view_NV = view_NV
        self._below, self._pictures, self._augment = below, pictures, augment

    def batch(self, turn: int, index_B: NDArray[np.int64], generator: torch.Generator | None) -> Entering:
        """See `Feed`."""
        image_BCSS = self._pictures.read(index_B, self._below.device)
        if generator is not None:
            image_BCSS = self._augment(image_BCSS, generator)
        x, feature_BF = self._below(image_BCSS, self.view_NV[index_B, turn % self.view_NV.shape[1]])
        if self._below.first:  # as `Kept` rounds it: how much disk is free must not change the weights
            x = x.half().float()
        return x, feature_BF


class Kept:
    """Computes each turn's batch once and keeps it on disk, in a file that ends with this process."""

    def __init__(self, below: Below, pictures: Pictures, view_NV: NDArray[np.int64], folder: Path) -> None:
        """Make room in `folder`; a turn is computed when it is first asked for."""
        self.view_NV = view_NV
        self._below, self._pictures = below, pictures
        x, feature_BF = below(pictures.read(np.zeros(1, np.int64), below.device), np.zeros(1, np.int64))
        self._last = x.ndim == 4 and below.layout == "maps"  # kept with the channels last
        shape = (view_NV.shape[1], len(pictures))
        self._x = _room(folder, (*shape, *self._stored(x).shape[1:]), np.float16)
        self._feature = _room(folder, (*shape, feature_BF.shape[1]), np.float32)
        self._done: set[int] = set()

    def batch(self, turn: int, index_B: NDArray[np.int64], generator: torch.Generator | None) -> Entering:
        """See `Feed`; nothing is changed at random here."""
        turn %= self.view_NV.shape[1]
        if turn not in self._done:
            self._fill(turn)
        device = self._below.device
        x = torch.from_numpy(self._x[turn, index_B]).to(device).float()
        feature_BF = torch.from_numpy(self._feature[turn, index_B]).to(device)
        return x.permute(0, 3, 1, 2) if self._last else x, feature_BF

    def _fill(self, turn: int) -> None:
        step = at_once(self._below.size_px, self._below.device)
        order = np.arange(len(self._pictures))
        with tqdm(total=len(order), desc=f"view {turn + 1}", unit="img", disable=None, leave=False) as bar:
            for index_B in np.split(order, range(step, len(order), step)):
                pixels = self._pictures.read(index_B, self._below.device)
                x, feature_BF = self._below(pixels, self.view_NV[index_B, turn])
                stored = self._stored(x).half()
                if not bool(stored.isfinite().all()):
                    raise TrainingError(
                        f"finetune.tune.blocks: what enters stage {self._below.first} is too large for half "
                        "precision; set it to all"
                    )
                self._x[turn, index_B] = stored.cpu().numpy()
                self._feature[turn, index_B] = feature_BF.cpu().numpy()
                bar.update(len(index_B))
        self._done.add(turn)

    def _stored(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1) if self._last else x


def turned_over(image_BCSS: Tensor, view_B: Tensor) -> Tensor:
    """Each picture under its own view, numbered as in `convflow.nets.backbones.VIEWS`."""
    bits = view_B[:, None, None, None]
    image = torch.where(bits & 4 > 0, image_BCSS.transpose(2, 3), image_BCSS)
    image = torch.where(bits & 1 > 0, image.flip(3), image)
    return torch.where(bits & 2 > 0, image.flip(2), image)


def bytes_kept(below: Below, pictures: Pictures, n_views: int) -> int:
    """What `Kept` would write, at most."""
    x, feature_BF = below(pictures.read(np.zeros(1, np.int64), below.device), np.zeros(1, np.int64))
    return len(pictures) * n_views * (2 * x.numel() + 4 * feature_BF.numel())


def has_room(folder: Path, n_bytes: int) -> bool:
    """Whether the disk of `folder`, which is made, has room for so much."""
    folder.mkdir(parents=True, exist_ok=True)
    return n_bytes <= _ROOM * shutil.disk_usage(folder).free


def _room(folder: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[np.generic]:
    """An array in a file without a name: the system sweeps it away, whatever becomes of this process."""
    if 0 in shape:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, "w+", shape=shape)
