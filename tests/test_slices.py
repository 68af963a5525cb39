"""Slices: which there are, their accuracy and interval, the worst, and what is left out with its reason."""

import numpy as np
import pyarrow as pa
import pytest

from convflow.evaluation.bootstrap import resampling
from convflow.evaluation.entrants import enter
from convflow.evaluation.sides import read_predictions
from convflow.evaluation.slices import MOST_VALUES, cut, describe_slices, slice_table, worst_line
from convflow.tables import write_table
from made_models import predictions

LABEL = ["a", "b"] * 60


@pytest.fixture
def entrant(tmp_path):
    """Call it for what a model said of 60 val and 60 test images, with these columns more."""

    def make(**more):
        path = tmp_path / "cnn.parquet"
        sides = ["val"] * 60 + ["test"] * 60
        table = predictions(["a", "b"], LABEL, split=sides, skill=0.4, **more)
        write_table(path, table, about={"classes": ["a", "b"], "model": "cnn"})
        return enter(read_predictions(path), operating_point="argmax", positive=None)

    return make


def of_test(values):
    """Columns hold all images, of which the second half is test."""
    return [*values, *values]


def found_in(one, *, n_draws=300, min_images=5):
    draws = resampling(one.found.test.group_N, n_draws=n_draws, seed=0)
    return describe_slices([one], one, draws, min_images)


def test_every_image_is_in_one_slice_of_each_column(entrant):
    one = entrant(
        tag_lens=of_test(["wide", "tele", ""] * 20),
        group=of_test([f"g{n // 10}" for n in range(60)]),
        width=of_test(range(10, 70)),
        height=[1] * 120,
        brightness_mean=of_test([float(n % 7) for n in range(60)]),
    )
    slices, left_out = cut(one.found.test)
    assert left_out == {}
    columns = {piece.column for piece in slices}
    assert columns == {"group", "lens", "size quarter", "brightness quarter"}
    for column in columns:
        inside = sum(piece.inside_N.astype(int) for piece in slices if piece.column == column)
        assert inside.tolist() == [1] * 60
    assert [piece.value for piece in slices if piece.column == "lens"] == ["(none)", "tele", "wide"]
    quarters = [piece for piece in slices if piece.column == "size quarter"]
    assert [int(piece.inside_N.sum()) for piece in quarters] == [15, 15, 15, 15]
    assert quarters[0].value == "1st: 10 to 24"


def test_what_gives_no_slices_is_named_with_the_reason(entrant):
    one = entrant(
        tag_site=["here"] * 120,
        tag_serial=[str(n) for n in range(120)],
        width=[8] * 120,
        height=[9] * 120,
        brightness_mean=pa.array([None, 1.0] * 60),
    )
    slices, left_out = cut(one.found.test)
    assert slices == []
    assert left_out == {
        "site": "one value only (here)",
        "serial": f"60 different values, more than {MOST_VALUES}",
        "size quarter": "the same in every test image (72)",
        "brightness quarter": "not known of every test image",
    }
    found = found_in(one)
    assert found["slices"] == []
    assert found["worst"] is None
    assert worst_line(found) == "no slice of at least 5 images"
    assert slice_table(found)[1] == []


def test_accuracy_and_interval_are_those_of_the_slices_images_alone(entrant):
    one = entrant(tag_lens=of_test(["wide", "tele"] * 30))
    right_N = one.case.label_N == one.case.decided
    found = {row["value"]: row for row in found_in(one, n_draws=4000)["slices"]}
    for value, start in (("wide", 0), ("tele", 1)):
        inside_N = right_N[start::2]
        share, row = inside_N.mean(), found[value]
        assert row["n"] == 30
        assert row["accuracy"]["value"] == pytest.approx(share, abs=1e-6)
        assert row["models"]["cnn"] == row["accuracy"]["value"]
        reach = 2.0 * np.sqrt(share * (1 - share) / 30)
        assert row["accuracy"]["low"] == pytest.approx(share - reach, abs=0.06)
        assert row["accuracy"]["high"] == pytest.approx(min(1, share + reach), abs=0.06)


def test_the_worst_slice_is_large_enough_to_say_so(entrant):
    one = entrant()
    wrong_N = one.case.label_N != one.case.decided
    assert wrong_N.any()
    lens = np.where(wrong_N, "broken", "fine").astype(object)
    lens[np.flatnonzero(wrong_N)[0]] = "fine"
    found = found_in(entrant(tag_lens=of_test(lens.tolist())), min_images=int(wrong_N.sum()) - 1)
    assert found["worst"]["value"] == "broken"
    assert found["worst"]["accuracy"]["value"] == 0
    assert found["worst_by_column"]["lens"] == found["worst"]
    assert "worst slice of at least" in worst_line(found)
    larger = found_in(entrant(tag_lens=of_test(lens.tolist())), min_images=int(wrong_N.sum()))
    assert larger["worst"]["value"] == "fine"


def test_a_group_resampled_whole_has_no_interval_of_its_own(entrant):
    one = entrant(group=of_test([f"g{n // 10}" for n in range(60)]))
    found = found_in(one)
    assert [row["groups"] for row in found["slices"]] == [1] * 6
    for row in found["slices"]:
        assert row["accuracy"]["low"] is None
        assert row["accuracy"]["reason"] == "one group only"
    names, rows = slice_table(found)
    assert names == ["column", "value", "images", "accuracy", "low", "high", "accuracy_cnn"]
    assert [row[:3] for row in rows] == [["group", f"g{n}", 10] for n in range(6)]
