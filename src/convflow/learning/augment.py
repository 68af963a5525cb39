"""Random changes of training pictures, drawn for each by itself, computed for the whole batch at once.

(torchvision's transforms.v2 draw one set of numbers for a whole batch.)

Shape letters: B images, C channels, S side.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Flips = Literal["none", "horizontal", "both"]


@dataclass(frozen=True)
class Augment:
    """How far pictures may be changed; zero everywhere leaves them as they are.

    Attributes:
        flips: mirror left-right, or left-right and up-down, each with probability one half.
        rotate_degrees: turned by up to this much either way.
        shift: moved by up to this share of the side, each way.
        scale: enlarged or shrunk by up to this share.
        brightness: added, up to this many grey levels of 255 either way.
        contrast: multiplied about the middle grey by 1 +- up to this.
    """

    flips: Flips = "none"
    rotate_degrees: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __call__(self, image_BCSS: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of pictures.

        Args:
            image_BCSS: uint8, 0..255, on any device.
            generator: on the CPU, so that the draws are the same on every device.

        Returns:
            float32, channels last, 0..255 (brightness and contrast may lead beyond).
        """
        draws = torch.rand(len(image_BCSS), 8, generator=generator).to(image_BCSS.device, non_blocking=True)
        image = image_BCSS.float()
        if self.rotate_degrees or self.shift or self.scale:
            grid = F.affine_grid(self._affine(draws), list(image.shape), align_corners=False)
            image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
            image = image.contiguous(memory_format=torch.channels_last)  # grid_sample drops it
        elif self.flips != "none":
            image = self._flip(image, draws)
        if self.brightness or self.contrast:
            signed = 2 * draws[:, 6:8, None, None] - 1
            image = (
                (image - 127.5) * (1 + self.contrast * signed[:, :1])
                + 127.5
                + self.brightness * signed[:, 1:]
            )
        return image

    def _mirror(self, draws_B8: Tensor) -> tuple[Tensor, Tensor]:
        ones = torch.ones_like(draws_B8[:, 0])
        across = torch.where(draws_B8[:, 0] < 0.5, -ones, ones) if self.flips != "none" else ones
        down = torch.where(draws_B8[:, 1] < 0.5, -ones, ones) if self.flips == "both" else ones
        return across, down

    def _flip(self, image: Tensor, draws_B8: Tensor) -> Tensor:
        across, down = (sign.lt(0)[:, None, None, None] for sign in self._mirror(draws_B8))
        image = torch.where(across, image.flip(3), image)
        return torch.where(down, image.flip(2), image)

    def _affine(self, draws_B8: Tensor) -> Tensor:
        signed = 2 * draws_B8 - 1
        angle = signed[:, 2] * math.radians(self.rotate_degrees)
        zoom = 1 + signed[:, 3] * self.scale
        across, down = self._mirror(draws_B8)
        # affine_grid works in half sides, so a shift by a share of the side is twice that share
        rows = [
            torch.stack(
                [zoom * across * angle.cos(), -zoom * down * angle.sin(), 2 * self.shift * signed[:, 4]], 1
            ),
            torch.stack(
                [zoom * across * angle.sin(), zoom * down * angle.cos(), 2 * self.shift * signed[:, 5]], 1
            ),
        ]
        return torch.stack(rows, dim=1)
