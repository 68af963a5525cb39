"""Classical features of pictures: edges, light and texture, the same for training and for every answer.

    hog        histograms of oriented gradients (Dalal & Triggs, CVPR 2005), cell by cell: what lies where
    edges      the gradients of all cells, by direction and sorted by strength: what lies anywhere
    histogram  levels of each channel, as shares of the picture's mean, so that its exposure does not count
    lbp_R      uniform local binary patterns (Ojala et al., TPAMI 2002), 8 neighbours at a radius of R px
    raw        grey levels of a shrunken copy

Shares are square roots, so that their distances are those of distributions (Hellinger).

Shape letters: N pictures, S side, C channels, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import hog, local_binary_pattern

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

_NEIGHBOURS = 8
_PATTERNS = _NEIGHBOURS + 2  # uniform ones by their number of set bits, and all others together
_BRIGHTEST = 2.0  # times the picture's mean; brighter counts as this
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_GREY = np.array([19595, 38470, 7471])  # of 65536: red, green and blue in grey, as Pillow weighs them


@dataclass(frozen=True)
class FeatureSpec:
    """Which features; 0 or no radius: none of that sort.

    Args:
        hog_cells: cells along a side.
        hog_orientations: directions of a gradient, over half a turn.
        lbp_radii: in px.
        histogram_bins: per channel.
        raw_px: side of the shrunken copy.
    """

    hog_cells: int = 8
    hog_orientations: int = 9
    lbp_radii: tuple[int, ...] = field(default=(1, 3))
    histogram_bins: int = 32
    raw_px: int = 0


def block_sizes(spec: FeatureSpec, channels: int) -> dict[str, int]:
    """How many features each sort has, in their order."""
    cells, directions = spec.hog_cells, spec.hog_orientations
    block = min(2, cells)
    sizes = {
        "hog": max(0, cells - block + 1) ** 2 * block**2 * directions,
        "edges": len(_QUANTILES) * directions if cells else 0,
        "histogram": spec.histogram_bins * channels,
        **{f"lbp_{radius}": _PATTERNS for radius in spec.lbp_radii},
        "raw": spec.raw_px**2,
    }
    return {name: size for name, size in sizes.items() if size}


def features_of(images_NSSC: Picture, spec: FeatureSpec) -> NDArray[np.float32]:
    """The features of each picture, by itself.

    Args:
        images_NSSC: uint8 (N, S, S, C), C is 1 or 3.
        spec: which features.

    Returns:
        float32 (N, F), finite; F is the sum of `block_sizes`.
    """
    n_features = sum(block_sizes(spec, images_NSSC.shape[-1]).values())
    found_NF = np.empty((len(images_NSSC), n_features), np.float32)
    for row_F, image_SSC in zip(found_NF, images_NSSC, strict=True):
        row_F[:] = picture_features(image_SSC, spec)
    return found_NF


def picture_features(image_SSC: Picture, spec: FeatureSpec) -> NDArray[np.float32]:
    """The features of one picture: float32 (F,)."""
    image_SSC = np.asarray(image_SSC)
    grey_SS = _grey(image_SSC)
    mean = max(float(image_SSC.mean()), 1.0)
    parts: list[NDArray[np.floating]] = []
    if spec.hog_cells:
        even_SS = _even(grey_SS, spec.hog_cells)
        parts += [_hog(even_SS, spec), _edges(even_SS / mean, spec)]
    if spec.histogram_bins:
        parts += [_histogram(image_SSC[..., c], mean, spec.histogram_bins) for c in range(image_SSC.shape[2])]
    parts += [_patterns(grey_SS, radius) for radius in spec.lbp_radii]
    if spec.raw_px:
        parts.append(_shrunken(grey_SS, spec.raw_px))
    return np.concatenate(parts).astype(np.float32)


def _grey(image_SSC: Picture) -> Picture:
    if image_SSC.shape[2] == 1:
        grey_SS: Picture = image_SSC[..., 0]
        return grey_SS
    weighed_SS: NDArray[np.int64] = image_SSC.astype(np.int64) @ _GREY
    return ((weighed_SS + 2**15) >> 16).astype(np.uint8)


def _even(grey_SS: Picture, cells: int) -> Picture:
    """The picture, scaled where needed so that every cell has as many px."""
    side = cells * max(1, round(len(grey_SS) / cells))
    if side == len(grey_SS):
        return grey_SS
    return np.asarray(Image.fromarray(grey_SS).resize((side, side), Image.Resampling.BILINEAR))


def _hog(even_SS: Picture, spec: FeatureSpec) -> Floats:
    cell = len(even_SS) // spec.hog_cells
    block = min(2, spec.hog_cells)
    find: Callable[..., Floats] = hog  # skimage's own says it may return a picture, too
    return find(even_SS, spec.hog_orientations, (cell, cell), (block, block), block_norm="L2-Hys")


def _edges(light_SS: Floats, spec: FeatureSpec) -> Floats:
    """Quantiles over the cells of the mean gradient in each direction: (7 * directions,)."""
    cells, directions = spec.hog_cells, spec.hog_orientations
    wide = np.pad(light_SS, 1, mode="edge")
    down_SS, right_SS = (wide[2:, 1:-1] - wide[:-2, 1:-1]) / 2, (wide[1:-1, 2:] - wide[1:-1, :-2]) / 2
    turn_SS = np.mod(np.arctan2(down_SS, right_SS), np.pi)
    direction_SS = np.minimum((turn_SS * (directions / np.pi)).astype(np.int64), directions - 1)
    cell_S = np.arange(len(light_SS)) // (len(light_SS) // cells)
    place_SS = (cell_S[:, None] * cells + cell_S) * directions + direction_SS
    strength_SS = np.hypot(down_SS, right_SS)
    total = np.bincount(place_SS.ravel(), strength_SS.ravel(), minlength=cells**2 * directions)
    mean = total.reshape(cells**2, directions) * (cells / len(light_SS)) ** 2
    found: Floats = np.quantile(mean, _QUANTILES, axis=0).ravel()
    return found


def _histogram(level_SS: Picture, mean: float, bins: int) -> Floats:
    count = np.bincount(level_SS.ravel(), minlength=256)
    place = np.minimum(np.arange(256) * (bins / (_BRIGHTEST * mean)), bins - 1).astype(np.int64)
    return np.sqrt(np.bincount(place, count, minlength=bins) / level_SS.size)


def _patterns(grey_SS: Picture, radius: int) -> Floats:
    found_SS = local_binary_pattern(grey_SS, _NEIGHBOURS, radius, "uniform").astype(np.int64)
    return np.sqrt(np.bincount(found_SS.ravel(), minlength=_PATTERNS) / grey_SS.size)


def _shrunken(grey_SS: Picture, side: int) -> Floats:
    small = Image.fromarray(grey_SS).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small).ravel() / 255
