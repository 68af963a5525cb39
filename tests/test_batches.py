"""Batches: every image once, the same from memory and from disk."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convflow.data.packed import Packed
from convflow.learning.batches import Batches
from made_packed import CPU, batches, packed_folder, pictures


def numbered(n_images, **given):
    """One-pixel images that carry their own number."""
    number_N = np.arange(n_images, dtype=np.uint8)
    return batches(number_N.reshape(-1, 1, 1, 1), number_N.astype(np.int64), number_N, **given)


@pytest.mark.parametrize("channels", [1, 3])
def test_from_memory_and_from_disk_the_batches_are_the_same(tmp_path, channels):
    packed = Packed(packed_folder(tmp_path / "train", 23, classes=["a", "b", "c"], channels=channels))
    order_N = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    kept, streamed = (Batches(packed, CPU, resident_bytes=size) for size in (packed.pixels.nbytes, 10))
    assert (kept.resident, streamed.resident) == (True, False)
    pairs = list(zip(kept.epoch(order_N, 5), streamed.epoch(order_N, 5), strict=True))
    assert [len(one[1]) for one, _ in pairs] == [5, 5, 5, 5, 3]
    for one, other in pairs:
        for left, right in zip(one, other, strict=True):
            assert torch.equal(left, right)
            assert (left.dtype, left.stride()) == (right.dtype, right.stride())


@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_holds_bytes_channels_last_with_labels_and_weights(resident):
    image_NSSC, label_N = pictures(6, channels=3)
    weight_N = np.linspace(0.1, 1, 6)
    data = batches(image_NSSC, label_N, weight_N, resident=resident)
    order_N = torch.tensor([4, 0, 5])
    ((image, label_B, weight_B),) = data.epoch(order_N, 8)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(0, 2, 3, 1).numpy(), image_NSSC[order_N])
    assert label_B.tolist() == label_N[order_N].tolist()
    np.testing.assert_allclose(weight_B.numpy(), weight_N[order_N], rtol=1e-6)


@given(n_images=st.integers(1, 40), batch_size=st.integers(1, 45), resident=st.booleans())
def test_every_image_comes_exactly_once_and_in_order(n_images, batch_size, resident):
    data = numbered(n_images, resident=resident)
    found = list(data.in_order(batch_size))
    for column in range(3):
        assert torch.cat([batch[column].flatten() for batch in found]).tolist() == list(range(n_images))
    assert len(found) == data.n_batches(batch_size)
    if batch_size > 1 and n_images > 1:
        assert min(len(label_B) for _, label_B, _ in found) > 1


@pytest.mark.parametrize("resident", [True, False])
def test_a_single_image_left_over_joins_the_batch_before(resident):
    data = numbered(9, resident=resident)
    assert [label_B.tolist() for _, label_B, _ in data.in_order(4)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]


@pytest.mark.parametrize("resident", [True, False])
def test_no_images_are_no_batches(resident):
    data = numbered(0, resident=resident)
    assert list(data.in_order(4)) == []
    assert (len(data), data.n_batches(4)) == (0, 0)


def test_what_is_kept_is_a_copy_that_the_disk_cannot_change():
    image_NSSC, label_N = pictures(4)
    data = batches(image_NSSC, label_N)
    before = image_NSSC.copy()
    image_NSSC[:] = 0
    ((image, _, _),) = data.in_order(4)
    assert np.array_equal(image.permute(0, 2, 3, 1).numpy(), before)


def test_a_disk_that_fails_is_heard_and_not_waited_for():
    data = numbered(8, resident=False)

    class Broken:
        def __getitem__(self, index_B):
            raise OSError(5, "Input/output error")

    data._map = Broken()
    with pytest.raises(OSError, match="Input/output error"):
        list(data.in_order(4))


def test_an_epoch_given_up_half_way_leaves_no_thread_waiting():
    found = numbered(12, resident=False).in_order(4)
    next(found)
    found.close()
    assert next(iter(numbered(12, resident=False).in_order(4)))[1].tolist() == [0, 1, 2, 3]
