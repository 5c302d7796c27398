"""Preprocessing of images, against torchvision; and batches that do not depend on threads."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ntkcl.data.loading.batches import TransformedImages
from ntkcl.data.loading.transforms import (
    RANDOM_NUMBERS_PER_IMAGE,
    eval_transform,
    normalized,
    pixels,
    random_box,
    train_transform,
)
from ntkcl.data.prepared.decoding import picture_of
from ntkcl.settings.models import Preprocessing

PUBLISHED = Preprocessing()
SIZES = [(32, 32), (300, 200), (200, 531), (64, 900), (224, 224), (257, 256)]


def picture(width, height, mode="RGB"):
    """Smooth random colours: interpolations of noise would differ in every pixel."""
    small = np.random.default_rng(width * height).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_test_image_is_what_the_published_transforms_make(width, height):
    theirs = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
        ]
    )
    image = picture(width, height)
    ours = normalized(pixels(eval_transform(image, PUBLISHED, 224))[None], PUBLISHED)[0]
    assert torch.equal(ours, theirs(image))


def test_mean_and_standard_deviation_are_taken_per_channel():
    settings = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5,))
    image = picture(224, 224)
    theirs = transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))(transforms.ToTensor()(image))
    assert torch.allclose(normalized(pixels(image)[None], settings)[0], theirs)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_random_crops_are_distributed_as_torchvisions(width, height):
    draws, generator = 4000, torch.Generator().manual_seed(0)
    ours = np.array(
        [
            random_box(height, width, u, PUBLISHED)
            for u in torch.rand(draws, RANDOM_NUMBERS_PER_IMAGE, generator=generator).tolist()
        ]
    )
    torch.manual_seed(1)
    image = torch.empty(3, height, width)
    theirs = np.array([transforms.RandomResizedCrop.get_params(image, [0.05, 1], [3 / 4, 4 / 3]) for _ in range(draws)])
    assert (ours >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    for values in (lambda box: box, lambda box: box[:, 2:3] * box[:, 3:4]):
        for a, b in zip(values(ours).T, values(theirs).T, strict=True):
            spread = max(a.std(), b.std())
            assert abs(a.mean() - b.mean()) <= 5 * spread * math.sqrt(2 / draws)
            assert abs(a.std() - b.std()) <= 0.1 * spread


def test_a_given_box_is_cropped_and_mirrored_as_torchvision_does():
    image, draws = picture(300, 200), torch.rand(RANDOM_NUMBERS_PER_IMAGE, generator=torch.Generator().manual_seed(3))
    box = random_box(200, 300, draws.tolist(), PUBLISHED)
    for flip in (0, 1):
        ours = train_transform(image, draws, Preprocessing(hflip=flip), 224)
        theirs = transforms.functional.resized_crop(image, *box, [224, 224])
        theirs = transforms.functional.hflip(theirs) if flip else theirs
        assert np.array_equal(np.array(ours), np.array(theirs))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1"])
def test_every_kind_of_picture_becomes_grey_or_colour(mode):
    image = picture(40, 30).convert(mode)
    assert pixels(picture_of(image, 3)).shape == (3, 30, 40)
    assert pixels(picture_of(image, 1)).shape == (1, 30, 40)


def batches(threads, seed=0):
    pictures = [picture(20 + index, 30) for index in range(23)]
    images = TransformedImages(
        pictures.__getitem__, torch.arange(23), PUBLISHED, 16, 3, torch.device("cpu"), threads=threads
    )
    torch.manual_seed(seed)
    return list(images.train_batches(4)), list(images.eval_batches(4)), torch.rand(1)


def test_batches_do_not_depend_on_the_number_of_threads():
    one, five = batches(1), batches(5)
    for ours, theirs in zip(one[0] + one[1], five[0] + five[1], strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
    assert one[2] == five[2]  # nor does the next random number
    labels = torch.cat([labels for _, labels in one[0]])
    assert sorted(labels.tolist()) == list(range(23))
    assert labels.tolist() != list(range(23))
    assert torch.cat([labels for _, labels in one[1]]).tolist() == list(range(23))


def test_each_epoch_shows_other_crops():
    first, second = batches(1, seed=0)[0], batches(1, seed=1)[0]
    assert not torch.equal(first[0][0], second[0][0])


def test_a_pass_may_be_left_early():
    images = TransformedImages(
        lambda index: picture(16, 16), torch.arange(1000), PUBLISHED, 16, 3, torch.device("cpu"), threads=2
    )
    for _ in images.train_batches(2):
        break
