"""95 % intervals by resampling: whole groups where images come in groups, single images otherwise.

Intervals are expanded percentile intervals (Hesterberg, The American Statistician 69, 2015): percentile
intervals whose tails are read a little further out, by the normal probability of a t quantile with
n - 1 degrees of freedom. With hundreds of units they are percentile intervals; with ten groups the plain
ones would be too short, because the resampled spread is that of a sample of ten divided by ten, not nine.
The draws depend on seed and units alone, so every model on the same images sees the same draws, and a
difference between two models is paired by subtracting their draws.

Shape letters: N images, B draws, M calibration bins, U units (groups or images).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import special

from convflow.evaluation.ranking import Floats, Indices

LEVEL = 0.95
FEW_GROUPS = 10
_TAIL = (1 - LEVEL) / 2
_ELEMENTS = 200_000  # counts that stay in the cache (1.6 MB)
_MOST_ELEMENTS = 2_000_000  # counts held at most; with what is made from them some 150 MB
_WORTH = 64  # draws at once that make up for what every slice costs anew
_SCALES: Floats = np.linspace(0, 1.6, 65)
_LARGE_SCALES: Floats = np.geomspace(1.8, 1000, 40)  # where few bins show hardly any of a noisy gap


@dataclass(frozen=True)
class Interval:
    """The ends of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampling:
    """Which images are drawn together, how often, and from which seed.

    Args:
        unit_N: int, the unit each image belongs to, in [0, n_units).
        kind: "groups" or "rows", for the record.
    """

    unit_N: Indices
    n_units: int
    kind: str
    n_draws: int
    seed: int

    def counts(self) -> Iterator[Floats]:
        """Yield slices of the draws: how often each image stands in each, (b, N)."""
        rng = np.random.default_rng(self.seed)
        n_images = len(self.unit_N)
        step = max(1, _ELEMENTS // n_images, min(_WORTH, _MOST_ELEMENTS // n_images))
        for done in range(0, self.n_draws, step):
            n_now = min(step, self.n_draws - done)
            pick_BU = rng.integers(0, self.n_units, (n_now, self.n_units))
            flat = (pick_BU + np.arange(n_now)[:, None] * self.n_units).ravel()
            count_BU = np.bincount(flat, minlength=n_now * self.n_units).astype(np.float64)
            count_BU = count_BU.reshape(n_now, self.n_units)
            yield count_BU[:, self.unit_N] if self.kind == "groups" else count_BU

    def draw(self, measure: Callable[[Floats], Mapping[str, Floats]]) -> dict[str, Floats]:
        """Measure every draw; `measure` turns counts (b, N) into named values (b, ...)."""
        pieces = [measure(count_BN) for count_BN in self.counts()]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def about(self) -> dict[str, object]:
        """How it was done, in JSON values; with `warning` where the intervals deserve one."""
        found: dict[str, object] = {
            "by": self.kind, "level": LEVEL, "method": "expanded percentile bootstrap",
            "n_draws": self.n_draws, "n_groups": self.n_units if self.kind == "groups" else None,
            "n_rows": len(self.unit_N), "seed": self.seed,
        }  # fmt: skip
        if self.n_units < 2:
            found["warning"] = f"one of {self.kind} only: nothing to resample, no intervals"
        elif self.kind == "groups" and self.n_units < FEW_GROUPS:
            found["warning"] = (
                f"only {self.n_units} groups: the intervals are rough; they want at least {FEW_GROUPS}"
            )
        return found


def resampling(group_N: list[str | None], *, n_draws: int, seed: int) -> Resampling:
    """Resample groups where there are any (an image without one is its own), images otherwise."""
    if all(group is None for group in group_N):
        n_images = len(group_N)
        return Resampling(np.arange(n_images), n_images, "rows", n_draws, seed)
    names = [f"image {row}" if group is None else f"group {group}" for row, group in enumerate(group_N)]
    units, unit_N = np.unique(names, return_inverse=True)
    return Resampling(unit_N.astype(np.int64), len(units), "groups", n_draws, seed)


def interval(draw_B: Floats, n_units: int) -> Interval | None:
    """The expanded percentile interval of one metric; draws that leave it undefined (NaN) are left out.

    None where fewer than half of the draws are defined, or there is but one unit.
    """
    known = draw_B[np.isfinite(draw_B)]
    if n_units < 2 or 2 * len(known) < len(draw_B):
        return None
    tail = expanded_tail(n_units)
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(float(low), float(high))


def share_interval(draw_B: Floats, n_units: int) -> Interval | None:
    """As `interval`, for a share that may be 0 or 1 in every draw: then exact for `n_units` tries.

    All draws agree where not one image was wrong (or right), which proves no certainty: the
    far end is the one of Clopper and Pearson (1934).
    """
    found = interval(draw_B, n_units)
    if found is None or found.low < found.high or found.low not in (0.0, 1.0):
        return found
    reach = _TAIL ** (1 / n_units)
    return Interval(reach, 1.0) if found.low == 1.0 else Interval(0.0, 1 - reach)


def expanded_tail(n_units: int) -> float:
    """The share of draws to leave out on each side, below 2.5 %; for `n_units` >= 2."""
    quantile = float(special.stdtrit(n_units - 1, 1 - _TAIL))
    return NormalDist().cdf(-math.sqrt(n_units / (n_units - 1)) * quantile)


def calibration_interval(gap_M: Floats, gap_BM: Floats, n_units: int) -> tuple[float, Interval] | None:
    """The calibration error with its noise taken out, and a 95 % interval for it.

    The plain ECE adds up absolute gaps, so noise in each bin makes it too high, the draws are higher
    still, and percentiles miss the truth of a well calibrated model nearly always. Here a test is
    turned round instead (Carpenter, Biometrika 86, 1999): an error t times as large as the gaps seen is
    kept when the ECE seen lies among the middle 95 % of what that error gives once the noise of the
    draws is added. Where 0 is kept, the interval begins at 0; it always holds the ECE seen. The estimate
    is the error that would give the ECE seen as its median. Both speak of the 15 bins' error in the
    population, not of one with infinitely many bins.

    Args:
        gap_M: confidence less accuracy of each bin times its share, as seen.
        gap_BM: the same of each draw.
        n_units: groups or images drawn, as in `Resampling`.
    """
    if n_units < 2:
        return None
    seen = float(np.abs(gap_M).sum())
    noise_BM = gap_BM - gap_M
    tail = expanded_tail(n_units)

    def given(scales_S: Floats) -> Floats:
        """The low, middle and high quantile of the ECE that each scale gives, (S, 3)."""
        return np.array([
            np.quantile(np.abs(scale * gap_M + noise_BM).sum(axis=1), [tail, 0.5, 1 - tail])
            for scale in scales_S
        ])  # fmt: skip

    scale_S, given_SQ = _SCALES, given(_SCALES)
    if given_SQ[-1, 0] < seen:
        scale_S, given_SQ = np.r_[scale_S, _LARGE_SCALES], np.r_[given_SQ, given(_LARGE_SCALES)]
    high, middle, low = (_scale_that_gives(seen, scale_S, given_SQ[:, q]) * seen for q in range(3))
    return middle, Interval(low, max(high, seen))  # an ECE below its noise is luck


def _scale_that_gives(seen: float, scale_S: Floats, given_S: Floats) -> float:
    """The scale at which the rising curve `given_S` reaches `seen`; its first or last beyond the ends."""
    return float(np.interp(seen, np.maximum.accumulate(given_S), scale_S))
