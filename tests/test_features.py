"""Classical features: scikit-image and plain numpy as judges, and pictures of every kind."""

import math

import numpy as np
import pytest
from PIL import Image
from skimage.feature import hog, local_binary_pattern

from convflow.baselines import feature_files
from convflow.baselines.features import FeatureSpec, block_sizes, features_of
from convflow.data.packed import Packed, read_json
from convflow.errors import DataError, ParamsError
from convflow.params import check_section
from convflow.stages import features as stage
from made_features import made_packed

PARAMS = {
    "hog_cells": 4,
    "hog_orientations": 9,
    "lbp_radii": [1, 3],
    "histogram_bins": 8,
    "raw_px": 0,
}
SPEC = FeatureSpec(hog_cells=4, hog_orientations=9, lbp_radii=(1, 3), histogram_bins=8, raw_px=5)


def images(n_images=3, side=16, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n_images, side, side, channels), dtype=np.uint8)


def block(found_NF, spec, channels, name):
    sizes = block_sizes(spec, channels)
    start = sum(size for other, size in list(sizes.items())[: list(sizes).index(name)])
    return found_NF[:, start : start + sizes[name]]


def section(**changed):
    return check_section({"packed_px": 16, **PARAMS, **changed}, stage.Params, place="params.yaml: features")


def test_the_sorts_of_features_stand_in_order_and_are_as_many_as_told():
    assert block_sizes(SPEC, 3) == {
        "hog": 3 * 3 * 4 * 9, "edges": 63, "histogram": 24, "lbp_1": 10, "lbp_3": 10, "raw": 25,
    }  # fmt: skip
    found = features_of(images(channels=3), SPEC)
    assert (found.dtype, found.shape) == (np.float32, (3, 324 + 63 + 24 + 20 + 25))


def test_hog_and_patterns_are_scikit_images():
    grey = images(2)
    found = features_of(grey, SPEC)
    for row, image in zip(range(2), grey[..., 0], strict=True):
        expected = hog(image, 9, (4, 4), (2, 2))
        np.testing.assert_allclose(block(found, SPEC, 1, "hog")[row], expected, atol=1e-6)
        for radius in (1, 3):
            codes = local_binary_pattern(image, 8, radius, "uniform")
            share = np.array([(codes == code).mean() for code in range(10)])
            np.testing.assert_allclose(block(found, SPEC, 1, f"lbp_{radius}")[row] ** 2, share, atol=1e-6)


def test_the_histogram_is_of_shares_of_the_pictures_mean():
    dark = np.array([[10, 20], [30, 40]], np.uint8).repeat(8, 0).repeat(8, 1)[None, ..., None]
    shares = block(features_of(dark, SPEC), SPEC, 1, "histogram")[0] ** 2
    # mean 25, so the levels are 0.4, 0.8, 1.2 and 1.6 of it, in bins of a quarter
    assert shares.tolist() == pytest.approx([0, 0.25, 0, 0.25, 0.25, 0, 0.25, 0])
    bright = block(features_of(dark * 4, SPEC), SPEC, 1, "histogram")[0] ** 2
    assert bright.tolist() == pytest.approx(shares.tolist())


def test_a_level_far_above_the_mean_is_in_the_last_bin():
    picture = np.zeros((1, 16, 16, 1), np.uint8)
    picture[0, 0, 0] = 255
    shares = block(features_of(picture, SPEC), SPEC, 1, "histogram")[0] ** 2
    assert shares[[0, -1]].tolist() == pytest.approx([255 / 256, 1 / 256])


def test_edges_say_how_strong_and_which_way_but_not_where():
    spec = FeatureSpec(hog_cells=4, hog_orientations=2, lbp_radii=(), histogram_bins=0)
    there, elsewhere = np.full((2, 16, 16), 100, np.uint8)
    there[5:7, 5:7], elsewhere[9:11, 5:7] = 200, 200
    moved = features_of(np.stack([there, elsewhere])[..., None], spec)
    edges = block(moved, spec, 1, "edges")
    np.testing.assert_array_equal(edges[0], edges[1])
    assert not np.array_equal(block(moved, spec, 1, "hog")[0], block(moved, spec, 1, "hog")[1])
    ramp = np.broadcast_to(np.arange(16, dtype=np.uint8) * 10, (16, 16))
    quantiles = block(features_of(ramp[None, ..., None], spec), spec, 1, "edges")[0].reshape(7, 2)
    # the slope runs to the right, 10 levels a px of a mean of 75; at the two borders it is half of that
    assert quantiles[-1].tolist() == pytest.approx([10 / 75, 0])
    assert quantiles[0].tolist() == pytest.approx([(3 * 10 + 5) / 4 / 75, 0])


def test_the_shrunken_copy_holds_means_of_its_parts():
    picture = images(1, side=20)
    spec = FeatureSpec(0, 9, (), 0, 5)
    means = picture[0, ..., 0].reshape(5, 4, 5, 4).mean(axis=(1, 3)).ravel()
    # Pillow rounds after the rows and again after the columns
    np.testing.assert_allclose(features_of(picture, spec)[0] * 255, means, atol=1.01)


def test_of_a_colour_picture_edges_are_of_its_grey_and_light_of_each_channel():
    colour = images(2, channels=3)
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in colour])[..., None]
    found, found_grey = features_of(colour, SPEC), features_of(grey, SPEC)
    for name in ("hog", "lbp_1", "lbp_3", "raw"):
        np.testing.assert_array_equal(block(found, SPEC, 3, name), block(found_grey, SPEC, 1, name), name)
    assert block(found, SPEC, 3, "histogram").shape == (2, 24)
    np.testing.assert_allclose((block(found, SPEC, 3, "histogram") ** 2).sum(axis=1), 3, atol=1e-5)
    swapped = block(features_of(colour[..., ::-1], SPEC), SPEC, 3, "histogram")
    assert not np.array_equal(swapped, block(found, SPEC, 3, "histogram"))


@pytest.mark.parametrize("side", [8, 15, 16, 17, 50])
@pytest.mark.parametrize("cells", [0, 1, 2, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_side_have_as_many_features(side, cells, channels):
    spec = FeatureSpec(hog_cells=cells, histogram_bins=4, raw_px=3)
    found = features_of(images(2, side, channels), spec)
    assert found.shape == (2, sum(block_sizes(spec, channels).values()))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_plain_picture_has_finite_features(level):
    assert np.isfinite(features_of(np.full((1, 16, 16, 3), level, np.uint8), SPEC)).all()


def test_a_picture_alone_has_the_features_it_has_among_others(tmp_path):
    several = images(5)
    together = features_of(several, SPEC)
    np.save(tmp_path / "p.npy", several)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    assert np.array_equal(features_of(mapped, SPEC), together)
    for n in range(5):
        assert np.array_equal(features_of(several[n : n + 1], SPEC)[0], together[n])
    assert features_of(several[:0], SPEC).shape == (0, together.shape[1])


@pytest.mark.slow
def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    packed = Packed(made_packed(tmp_path / "train", np.arange(140) % 3, 3))
    feature_files.write_features(tmp_path / "one.npy", packed, SPEC)
    monkeypatch.setattr(feature_files, "_WORTH_PROCESSES", 1)
    feature_files.write_features(tmp_path / "many.npy", packed, SPEC)
    assert (tmp_path / "many.npy").read_bytes() == (tmp_path / "one.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), features_of(packed.pixels, SPEC))


def run_here(root, **changed):
    stage.run(root / "train", root / "val", root / "features", params=section(**changed))
    return {path.name: path.read_bytes() for path in (root / "features").iterdir()}


def test_the_stage_writes_both_sides_and_says_what_is_in_them(tmp_path, capsys):
    for side, n_images in (("train", 6), ("val", 3)):
        made_packed(tmp_path / side, np.arange(n_images) % 2, 2)
    first = run_here(tmp_path)
    assert capsys.readouterr().out == (
        "features: 415 of each of 9 images (hog 324, edges 63, histogram 8, lbp_1 10, lbp_3 10)\n"
    )
    assert read_json(tmp_path / "features/features.json") == {
        "blocks": [["hog", 324], ["edges", 63], ["histogram", 8], ["lbp_1", 10], ["lbp_3", 10]],
        "spec": PARAMS,
    }
    train = np.load(tmp_path / "features/train.npy")
    assert (train.dtype, train.shape, np.load(tmp_path / "features/val.npy").shape) == (
        np.float32, (6, 415), (3, 415),
    )  # fmt: skip
    assert run_here(tmp_path) == first
    assert run_here(tmp_path, histogram_bins=9) != first


def test_a_side_without_images_has_no_rows(tmp_path):
    made_packed(tmp_path / "train", [0, 1], 2)
    made_packed(tmp_path / "val", [], 2)
    run_here(tmp_path)
    assert np.load(tmp_path / "features/val.npy").shape == (0, 415)


def test_sides_packed_differently_are_refused(tmp_path):
    made_packed(tmp_path / "train", [0, 1], 2)
    made_packed(tmp_path / "val", [0, 1], 2, channels=3)
    with pytest.raises(DataError, match=r"val: packed otherwise than .*train; run `dvc repro -f pack`$"):
        run_here(tmp_path)


def test_no_feature_at_all_is_refused(tmp_path):
    for side in ("train", "val"):
        made_packed(tmp_path / side, [0, 1], 2)
    with pytest.raises(ParamsError, match=r"^features: none is asked for; set hog_cells, lbp_radii"):
        run_here(tmp_path, hog_cells=0, lbp_radii=[], histogram_bins=0)


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"hog_cells": 65}, "hog_cells"),
        ({"hog_orientations": 0}, "hog_orientations"),
        ({"lbp_radii": [0]}, "lbp_radii.0"),
        ({"lbp_radii": 1}, "lbp_radii"),
        ({"histogram_bins": 257}, "histogram_bins"),
        ({"raw_px": math.inf}, "raw_px"),
        ({"sift": True}, "sift"),
    ],
)
def test_a_param_out_of_range_is_named(changed, place):
    with pytest.raises(ParamsError, match=rf"params.yaml: features.{place}"):
        section(**changed)
