"""Networks by name: what they take, what they give, what they refuse."""

import math
import re

import pytest
import torch
from torch import nn

from convflow.errors import ParamsError
from convflow.nets.registry import OWN, TORCHVISION, Classifier, build


def noise(n_images, channels, size_px):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_images, channels, size_px, size_px), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("size_px", [32, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_resnet18_gives_one_logit_per_class(channels, size_px):
    logits_BK = build("resnet18", 5, channels, size_px, {}).eval()(noise(2, channels, size_px))
    assert logits_BK.shape == (2, 5)
    assert logits_BK.isfinite().all()


@pytest.mark.parametrize("arch", OWN + TORCHVISION)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_architecture_takes_grey_and_colour(arch, channels):
    with torch.device("meta"):  # shapes only: no weights are drawn
        net = build(arch, 4, channels, 96, {})
        assert net(noise(2, channels, 96).to("meta")).shape == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("arch", TORCHVISION)
def test_every_architecture_computes(arch):
    logits_BK = build(arch, 4, 1, 64, {}).eval()(noise(2, 1, 64))
    assert logits_BK.shape == (2, 4)
    assert logits_BK.isfinite().all()


@pytest.mark.parametrize("size_px", [8, 9, 16, 31, 32, 63, 64, 65, 96, 128, 300])
def test_residual_halves_any_picture_down_to_a_small_map(size_px):
    model = build("residual", 3, 1, size_px, {"width": 4})
    net = model.net
    map_BCHW = net.blocks(net.stem(torch.zeros(2, 1, size_px, size_px)))
    assert 1 <= map_BCHW.shape[-1] <= max(4, math.ceil(size_px / 64))
    assert model(noise(2, 1, size_px)).shape == (2, 3)


def test_a_residual_block_starts_as_its_shortcut():
    block = build("residual", 2, 1, 16, {"width": 4}).net.blocks[0].eval()
    x = torch.rand(2, 4, 16, 16)
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


@pytest.mark.parametrize(("size_px", "stride"), [(63, 1), (64, 2)])
def test_a_resnet_for_small_pictures_keeps_them_whole_at_first(size_px, stride):
    net = build("resnet18", 2, 3, size_px, {}).net
    assert net.conv1.stride == (stride, stride)
    assert isinstance(net.maxpool, nn.Identity) == (stride == 1)


def test_normalisation_is_the_first_layer_and_takes_bytes_and_floats():
    mean_C, std_C = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([2.0, 4.0, 8.0])
    model = Classifier(nn.Flatten(), mean_C, std_C)
    image = noise(3, 3, 8)
    by_hand = torch.stack([(image[:, c].float() - mean_C[c]) / std_C[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(image), by_hand.flatten(1))
    torch.testing.assert_close(model(image.float()), by_hand.flatten(1))


def test_the_same_seed_draws_the_same_weights():
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        drawn.append(build("residual", 2, 1, 32, {}).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(
        ParamsError, match=r"train.arch: no architecture 'resnet19'; choose one of residual, res"
    ):
        build("resnet19", 2, 1, 32, {})


@pytest.mark.parametrize(
    ("arch", "arguments"),
    [
        ("residual", {"widht": 8}),
        ("residual", {"width": 0}),
        ("residual", {"width": 2.5}),
        ("residual", {"width": "wide"}),
        ("residual", {"width": 10**12}),
        ("residual", {"dropout": 1.5}),
        ("residual", {"dropout": math.nan}),
        ("residual", {"n_classes": 3}),
        ("resnet18", {"dropout": 0.5}),
        ("resnet18", {"arch": "densenet121"}),
    ],
)
def test_arguments_that_do_not_suit_are_named_in_one_line(arch, arguments):
    wanted = re.escape(f"train.arch_args: {arguments} does not suit {arch} (")
    with pytest.raises(ParamsError, match=wanted + ".*; try {}, its defaults$"):
        build(arch, 2, 1, 32, arguments)


@pytest.mark.parametrize(("arch", "least_px"), [("vgg11_bn", 32), ("vgg16_bn", 32), ("alexnet", 63)])
def test_pictures_too_small_are_refused_and_the_smallest_work(arch, least_px):
    with pytest.raises(
        ParamsError, match=f"packed_px: {least_px - 1} leaves nothing for {arch}.*{least_px} or"
    ):
        build(arch, 2, 3, least_px - 1, {})
    with torch.device("meta"):
        assert build(arch, 2, 3, least_px, {})(noise(2, 3, least_px).to("meta")).shape == (2, 2)


def test_normalised_by_itself_a_picture_answers_alike_in_any_exposure():
    model = build("residual", 2, 1, 32, {"width": 4}, "image").eval()
    image = noise(3, 1, 32).float()
    dimmer = 0.5 * image + 40
    with torch.inference_mode():
        assert torch.allclose(model(image), model(dimmer), atol=0.02)
        assert torch.isfinite(model(torch.full((1, 1, 32, 32), 7.0))).all()
