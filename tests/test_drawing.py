"""One style for all pictures, and nothing of ours behind it."""

import warnings

import matplotlib as mpl
from matplotlib.figure import Figure

from closure import closure
from convflow.evaluation.drawing import BLUE, drawing, save


def picture(path, changed=None):
    with drawing(changed or {}):
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, 1], [0, 1], color=BLUE)
        save(figure, path)
    return path.read_bytes()


def test_whoever_draws_depends_on_no_figures():
    assert closure("convflow.evaluation.drawing") == {"src/convflow/evaluation/drawing.py"}


def test_the_same_picture_has_the_same_bytes_under_any_name(tmp_path):
    plain = picture(tmp_path / "one.png")
    assert plain.startswith(b"\x89PNG")
    assert b"Software" not in plain
    assert picture(tmp_path / ".one.png.17.partial") == plain
    assert picture(tmp_path / "thin.png", {"lines.linewidth": 1}) != plain


def test_a_style_holds_within_and_not_after():
    before = mpl.rcParams["axes.titlesize"]
    with drawing({"axes.titlesize": 7}):
        assert (mpl.rcParams["axes.titlesize"], mpl.rcParams["axes.grid"]) == (7, True)
        warnings.warn("Glyph 1 missing from some font", UserWarning, stacklevel=1)
    assert mpl.rcParams["axes.titlesize"] == before
