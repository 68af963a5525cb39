"""Augmentation: exact where it can be, scipy as judge where it interpolates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from convflow.learning import augment as module
from convflow.learning.augment import Augment

EVERYTHING = Augment("both", rotate_degrees=20, shift=0.1, scale=0.2, brightness=30, contrast=0.3)
LOW, MIDDLE, HIGH = 0.0, 0.5, 1.0


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n_images, channels=1, side=12):
    """Packed pictures as `Batches` gives them: uint8, channels last in memory."""
    image = torch.randint(0, 256, (n_images, side, side, channels), generator=seeded(1)).to(torch.uint8)
    return image.permute(0, 3, 1, 2)


@pytest.fixture
def drawn(monkeypatch):
    """Let the next call draw these numbers: columns are mirrors (2), angle, zoom, shifts (2), tones (2)."""

    def set_draws(*rows):
        table = torch.tensor(rows)
        monkeypatch.setattr(module.torch, "rand", lambda *shape, **_: table[: shape[0]])

    return set_draws


def by_scipy(image_SS, *, degrees=0.0, zoom=1.0, shift_px=(0.0, 0.0)):
    """Output pixel x shows input pixel zoom * R(degrees) x + shift about the centre, as (row, column)."""
    angle = np.radians(degrees)
    matrix = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (len(image_SS) - 1) / 2
    offset = centre - matrix @ [centre, centre] + np.array(shift_px)
    return ndimage.affine_transform(image_SS.astype(float), matrix, offset, order=1, mode="nearest")


@pytest.mark.parametrize("channels", [1, 3])
def test_all_zero_leaves_pictures_as_they_are(channels):
    image = noise(5, channels)
    found = Augment()(image, seeded())
    assert found.dtype == torch.float32
    assert torch.equal(found, image.float())


@pytest.mark.parametrize(("flips", "axes"), [("horizontal", [(3,)]), ("both", [(3,), (2,), (2, 3)])])
def test_flips_are_exact_and_each_picture_has_its_own(flips, axes):
    image = noise(64)
    found = Augment(flips)(image, seeded())
    choices = [image.float(), *(image.float().flip(axis) for axis in axes)]
    which = [[torch.equal(found[n], choice[n]) for choice in choices] for n in range(64)]
    assert all(sum(row) == 1 for row in which)
    share_of_each = np.mean(which, axis=0)
    np.testing.assert_allclose(share_of_each, 1 / len(choices), atol=0.15)


def test_the_same_flips_come_out_when_other_changes_take_the_interpolating_way():
    image = noise(16)
    exact = Augment("both")(image, seeded())
    nearly = Augment("both", rotate_degrees=1e-6)(image, seeded())
    torch.testing.assert_close(nearly, exact, atol=0.02, rtol=0)


def test_a_quarter_turn_is_rot90(drawn):
    drawn([HIGH, HIGH, HIGH, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE])
    image = noise(1)
    found = Augment(rotate_degrees=90)(image, seeded())
    torch.testing.assert_close(found, image.float().rot90(1, (2, 3)), atol=0.01, rtol=0)


@pytest.mark.parametrize(("draw", "degrees"), [(LOW, -30), (0.75, 15), (HIGH, 30)])
def test_rotation_agrees_with_scipy(drawn, draw, degrees):
    drawn([HIGH, HIGH, draw, MIDDLE, MIDDLE, MIDDLE, MIDDLE, MIDDLE])
    image = noise(1)
    found = Augment(rotate_degrees=30)(image, seeded())[0, 0].numpy()
    np.testing.assert_allclose(found, by_scipy(image[0, 0].numpy(), degrees=degrees), atol=0.01)


@pytest.mark.parametrize(("across", "down"), [(LOW, HIGH), (HIGH, LOW), (LOW, LOW)])
def test_a_mirrored_turned_zoomed_picture_is_the_mirror_of_the_turned_zoomed_one(drawn, across, down):
    drawn([across, down, HIGH, HIGH, MIDDLE, MIDDLE, MIDDLE, MIDDLE])
    image = noise(1)
    found = Augment("both", rotate_degrees=25, scale=0.2)(image, seeded())[0, 0].numpy()
    turned = by_scipy(image[0, 0].numpy(), degrees=25, zoom=1.2)
    axes = [axis for axis, draw in ((1, across), (0, down)) if draw == LOW]
    np.testing.assert_allclose(found, np.flip(turned, axes), atol=0.01)


def test_a_shift_is_a_share_of_the_side_in_pixels(drawn):
    drawn([HIGH, HIGH, MIDDLE, MIDDLE, HIGH, LOW, MIDDLE, MIDDLE])
    image = noise(1, side=12)
    found = Augment(shift=0.25)(image, seeded())  # 3 of 12 pixels: left by 3, down by 3
    torch.testing.assert_close(found[..., 3:, :-3], image[..., :-3, 3:].float(), atol=0.01, rtol=0)
    expected = by_scipy(image[0, 0].numpy(), shift_px=(-3, 3))  # the border is drawn out
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=0.01)


@pytest.mark.parametrize(("draw", "zoom"), [(LOW, 0.7), (HIGH, 1.3)])
def test_scale_agrees_with_scipy(drawn, draw, zoom):
    drawn([HIGH, HIGH, MIDDLE, draw, MIDDLE, MIDDLE, MIDDLE, MIDDLE])
    image = noise(1)
    found = Augment(scale=0.3)(image, seeded())[0, 0].numpy()
    np.testing.assert_allclose(found, by_scipy(image[0, 0].numpy(), zoom=zoom), atol=0.01)


def test_contrast_turns_about_the_middle_grey_and_brightness_adds(drawn):
    neutral = [HIGH, HIGH, MIDDLE, MIDDLE, MIDDLE, MIDDLE]
    drawn([*neutral, HIGH, MIDDLE], [*neutral, MIDDLE, LOW])
    image = torch.full((2, 3, 4, 4), 227, dtype=torch.uint8)
    found = Augment(brightness=20, contrast=0.5)(image, seeded())
    torch.testing.assert_close(found[0], torch.full((3, 4, 4), 127.5 + 1.5 * 99.5))
    torch.testing.assert_close(found[1], torch.full((3, 4, 4), 207.0))


def test_every_picture_draws_its_own_numbers():
    image = noise(1, 3).expand(32, -1, -1, -1)
    for one in ("rotate_degrees", "shift", "scale", "brightness", "contrast"):
        found = replace(Augment(), **{one: 0.2})(image, seeded())
        assert len({picture.numpy().tobytes() for picture in found}) == 32, one


def test_the_same_generator_gives_the_same_pictures_and_another_others():
    image = noise(8, 3)
    found = EVERYTHING(image, seeded(4))
    assert torch.equal(found, EVERYTHING(image, seeded(4)))
    assert not torch.equal(found, EVERYTHING(image, seeded(5)))


@pytest.mark.parametrize("augment", [Augment(), Augment("both"), EVERYTHING])
def test_draws_are_the_same_whatever_the_device_and_the_settings(augment):
    here, elsewhere, plain = seeded(), seeded(), seeded()
    augment(noise(8), here)
    augment(noise(8).to("meta"), elsewhere)
    Augment()(noise(8), plain)
    assert torch.equal(here.get_state(), elsewhere.get_state())
    assert torch.equal(here.get_state(), plain.get_state())


@pytest.mark.parametrize("augment", [Augment(), Augment("both"), Augment(contrast=0.1), EVERYTHING])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stay_float32_and_channels_last(augment, channels):
    found = augment(noise(4, channels), seeded())
    assert (found.dtype, found.shape) == (torch.float32, (4, channels, 12, 12))
    assert found.is_contiguous(memory_format=torch.channels_last)
