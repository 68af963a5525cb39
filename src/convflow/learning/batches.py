"""Batches of packed pictures on the device: all kept there when they fit, else streamed from disk."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convflow.data.packed import Packed

Batch = tuple[Tensor, Tensor, Tensor]


class Batches:
    """Images uint8 (B, C, S, S), channels last, labels int64 (B,), weights float32 (B,), on `device`."""

    def __init__(self, packed: Packed, device: torch.device, *, resident_bytes: int) -> None:
        """Keep the pixels on `device` when they take at most `resident_bytes`, else leave them on disk."""
        self.device = device
        self.labels = torch.from_numpy(packed.labels).to(device)
        self.weights = torch.from_numpy(packed.weights).to(device)
        self._map = packed.pixels
        self.resident = packed.pixels.nbytes <= resident_bytes
        self._pixels = torch.from_numpy(np.array(packed.pixels)).to(device) if self.resident else None

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def n_batches(self, batch_size: int) -> int:
        """How many batches an epoch has."""
        return len(_parts(torch.arange(len(self)), batch_size))

    def epoch(self, order_N: Tensor, batch_size: int) -> Iterator[Batch]:
        """Yield each image of `order_N` (int64, on the CPU) once, in that order, `batch_size` at a time.

        A single image left over joins the batch before: batch norm cannot train on one alone.
        """
        index = _parts(order_N.to(self.device), batch_size)  # one copy an epoch: each would wait for the GPU
        if self._pixels is not None:
            for index_B in index:
                images = self._pixels.index_select(0, index_B).permute(0, 3, 1, 2)
                yield images, self.labels[index_B], self.weights[index_B]
            return
        for index_B, pixels in zip(index, self._stream(_parts(order_N, batch_size)), strict=True):
            images = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            yield images, self.labels[index_B], self.weights[index_B]

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all images in the order of the packed folder."""
        return self.epoch(torch.arange(len(self)), batch_size)

    def _stream(self, parts: list[Tensor]) -> Iterator[Tensor]:
        waiting: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1) as reader:  # reads the next batch while this one is computed
            for part in parts:
                waiting.append(reader.submit(self._read, part.numpy()))
                if len(waiting) > 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _read(self, index_B: NDArray[np.int64]) -> Tensor:
        pixels = torch.from_numpy(self._map[index_B])
        return pixels.pin_memory() if self.device.type == "cuda" else pixels


def _parts(order_N: Tensor, batch_size: int) -> list[Tensor]:
    parts = list(torch.split(order_N, batch_size)) if len(order_N) else []
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
