"""Images that are decoded once and cropped on the device equal the ones that Pillow crops one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ntkcl.data.loading import gpu_images
from ntkcl.data.loading.batches import TransformedImages
from ntkcl.data.loading.gpu_images import GpuImages
from ntkcl.devices import distributed
from ntkcl.errors import UserError
from ntkcl.settings.models import Preprocessing

CPU = torch.device("cpu")
FILTERS = ["nearest", "bilinear", "bicubic"]
SHAPES = [(32, 32), (300, 300), (90, 300), (300, 90), (1, 40), (40, 1), (64, 64), (65, 63), (128, 256), (500, 375)]


def noise(height, width, mode="RGB", seed=0):
    """Every pixel for itself, and a third of them black or white: no error of a weight or a place is hidden."""
    levels = np.random.default_rng((height, width, seed)).integers(-128, 384, (height, width, 3)).clip(0, 255)
    return Image.fromarray(levels.astype(np.uint8)).convert(mode)


def both(pictures, how=None, size=64, channels=3, **more):
    """The same images, cropped by Pillow and on the device."""
    labels = torch.arange(len(pictures)) % 7
    how = how or Preprocessing()
    viewed = TransformedImages(pictures.__getitem__, labels, how, size, channels, CPU, list(map(str, labels)), **more)
    return viewed, GpuImages.from_images(viewed, 10**9)


def passes(images, batch_size, seed=0, **more):
    """A pass as in training, one as in testing, and what torch's generator draws next."""
    torch.manual_seed(seed)
    return list(images.train_batches(batch_size, **more)), list(images.eval_batches(batch_size)), torch.rand(1)


def assert_equal(ours, theirs):
    """Sums of whole numbers have one result: not a grey level may differ."""
    assert len(ours) == len(theirs)
    for (images, labels), (expected_images, expected_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(labels, expected_labels)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        assert torch.equal(images, expected_images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop", ["random", "center"])
@pytest.mark.parametrize("interpolation", FILTERS)
def test_they_are_what_pillow_makes(interpolation, crop, channels):
    how = Preprocessing(train_crop=crop, interpolation=interpolation, train_interpolation=interpolation, hflip=0.5)
    viewed, ours = both([noise(*shape) for shape in SHAPES], how, channels=channels)
    theirs, cropped = passes(viewed, 4), passes(ours, 4)
    assert_equal(cropped[0], theirs[0])
    assert_equal(cropped[1], theirs[1])
    assert cropped[2] == theirs[2]  # the next random number does not depend on who crops the images
    assert (ours.device, ours.ids) == (viewed.device, viewed.ids)


side = st.integers(1, 200)


@given(
    shapes=st.lists(st.tuples(side, side).filter(lambda shape: max(shape) <= 12 * min(shape)), min_size=1, max_size=4),
    size=st.sampled_from([7, 16, 32, 65]),
    interpolation=st.sampled_from(FILTERS),
    crop_pct=st.sampled_from([1.0, 0.875, 0.6]),
    ratio=st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (0.2, 5.0)]),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=20)
def test_so_they_are_for_any_size_and_crop(shapes, size, interpolation, crop_pct, ratio, seed):
    how = Preprocessing(interpolation=interpolation, train_interpolation=interpolation, crop_pct=crop_pct, ratio=ratio)
    viewed, ours = both([noise(*shape, seed=seed) for shape in shapes], how, size)
    theirs, cropped = passes(viewed, 3, seed), passes(ours, 3, seed)
    for (images, _), (expected, _) in zip(cropped[0] + cropped[1], theirs[0] + theirs[1], strict=True):
        levels_apart = 255 * (images - expected).abs()
        assert levels_apart.max() <= 1.001
        assert levels_apart.mean() <= 1e-3  # a weight that is on the edge of being rounded otherwise


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_every_kind_are_turned_and_normalized_alike(mode):
    how = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5,))
    turned = noise(30, 50)
    turned.getexif()[0x0112] = 6  # a quarter to the right
    viewed, ours = both([noise(40, 70, mode), turned], how, 16)
    assert ours.sizes[1] == (50, 30)
    for cropped, theirs in zip(passes(ours, 2)[:2], passes(viewed, 2)[:2], strict=True):
        assert_equal(cropped, theirs)


def test_threads_and_parts_of_a_batch_change_nothing(monkeypatch):
    pictures = [noise(20 + 9 * row, 60 - 2 * row) for row in range(20)]
    (_, one), (_, five) = both(pictures, size=16), both(pictures, size=16, threads=5)
    expected = passes(one, 8)
    monkeypatch.setattr(gpu_images, "MAX_PIXELS", 3 * 191 * 60)
    parts = passes(five, 8)
    assert_equal(parts[0], expected[0])
    assert_equal(parts[1], expected[1])


def test_batches_may_be_left_out_at_the_beginning():
    _, images = both([noise(9, 12, seed=row) for row in range(11)], size=8)
    whole, rest = passes(images, 4), passes(images, 4, skip=2)
    assert_equal(rest[0], whole[0][2:])
    assert rest[2] == whole[2]
    assert passes(images, 4, skip=3)[0] == []


def test_each_pass_has_an_order_and_crops_of_its_own():
    _, images = both([noise(30, 30, seed=row) for row in range(23)], size=8)
    (first, test, _), (second, _, _) = passes(images, 5), passes(images, 5, seed=1)
    assert not torch.equal(first[0][0], second[0][0])
    labels = torch.cat([labels for _, labels in first])
    assert not torch.equal(labels, images.labels)
    assert torch.equal(labels.sort().values, images.labels.sort().values)
    assert torch.equal(torch.cat([labels for _, labels in test]), images.labels)


def test_each_of_several_processes_gets_its_share(monkeypatch):
    viewed, ours = both([noise(20, 30, seed=row) for row in range(3)], size=8)
    monkeypatch.setattr(distributed, "shard", lambda rows: rows.tensor_split(2)[1])
    for cropped, theirs in zip(passes(ours, 2)[:2], passes(viewed, 2)[:2], strict=True):
        assert_equal(cropped, theirs)  # the second of two has nothing to do with the last batch, of one image
    assert len(passes(ours, 2)[0][1][0]) == 0


def test_they_are_not_decoded_to_the_end_when_they_do_not_fit():
    read = []

    def to_pil(row):
        read.append(row)
        return noise(10, 10)

    viewed = TransformedImages(to_pil, torch.arange(1000), Preprocessing(), 8, 3, CPU, threads=2)
    assert GpuImages.from_images(viewed, 20 * 300 - 1) is None
    assert 20 <= len(read) < 100
    few = TransformedImages(to_pil, torch.arange(20), Preprocessing(), 8, 3, CPU)
    assert GpuImages.from_images(few, 20 * 300).buffer.numel() == 20 * 300
    assert GpuImages.from_images(few, 20 * 300 - 1) is None


def test_a_damaged_picture_is_named():
    def damaged(row):
        raise UserError("image 'a' is damaged; fetch it again")

    with pytest.raises(UserError, match="'a' is damaged"):
        GpuImages.from_images(TransformedImages(damaged, torch.arange(2), Preprocessing(), 8, 3, CPU), 10**9)


def test_float32_suffices_within_autocast():
    viewed, ours = both([noise(50, 40)] * 2, size=16)
    expected = list(viewed.eval_batches())
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(list(ours.eval_batches()), expected)
