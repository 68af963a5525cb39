"""How the house draws: one style, the colours of Okabe and Ito, and pictures whose bytes say nothing else.

Drawn without pyplot (half its import time, no global state). People with colour blindness can tell these
colours apart. Nothing of ours is imported here, so whoever draws does not depend on how figures are computed.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"
PALE_BLUE = "#A9CCE3"  # of intervals and single curves
DIM = "#555555"  # of axes and asides
_STYLE: Mapping[str, Any] = MappingProxyType({
    "axes.edgecolor": DIM, "axes.grid": True, "axes.axisbelow": True, "axes.spines.right": False,
    "axes.spines.top": False, "axes.titlelocation": "left", "axes.titlesize": 12,
    "figure.constrained_layout.use": True, "font.family": "DejaVu Sans", "font.size": 10,
    "grid.color": "#E4E4E4", "grid.linewidth": 0.8, "legend.frameon": False, "lines.linewidth": 2,
    "savefig.dpi": 110, "text.parse_math": False,
})  # fmt: skip


@contextmanager
def drawing(changed: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """The house's style for what is drawn within, but for what is `changed` (by matplotlib's names)."""
    with mpl.rc_context({**_STYLE, **changed}), warnings.catch_warnings():
        # class names may be in any script; a box in a picture is no reason to stop
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, whatever `path` ends in; the same bytes for the same picture."""
    figure.savefig(path, format="png", metadata={"Software": None})
