"""Which images become test images where no split is published."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkcl.data.prepared.manifest import Manifest
from ntkcl.data.sources.common.splits import Stratified, stratified, with_both_splits
from ntkcl.errors import UserError

NAMES = st.text(min_size=1, max_size=8)
DATASETS = st.dictionaries(NAMES, st.integers(2, 30), min_size=1, max_size=5).map(
    lambda sizes: [(f"{c}/{n}", c) for c, size in sizes.items() for n in range(size)]
)
FRACTIONS = st.floats(0.01, 0.99)


def split_of(images, fraction=0.2, seed=0):
    """The split of each image, by name."""
    ids, classes = [name for name, _ in images], [c for _, c in images]
    options = Stratified(kind="stratified", test_fraction=fraction, seed=seed)
    return dict(zip(ids, stratified(ids, classes, options), strict=True))


@given(DATASETS, FRACTIONS, st.integers(0, 2**40))
def test_every_class_has_its_share_of_test_images_and_at_least_one_of_each(images, fraction, seed):
    splits = split_of(images, fraction, seed)
    assert splits.keys() == dict(images).keys()
    test = Counter(c for name, c in images if splits[name] == "test")
    for c, size in Counter(dict(images).values()).items():
        assert 1 <= test[c] <= size - 1
        assert abs(test[c] - fraction * size) <= 0.5 or test[c] in (1, size - 1)


@given(DATASETS, FRACTIONS, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(images, fraction, random):
    shuffled = random.sample(images, len(images))
    assert split_of(shuffled, fraction) == split_of(images, fraction)


@given(DATASETS, FRACTIONS, FRACTIONS)
def test_more_test_images_are_the_fewer_and_others(images, one, other):
    few, many = (split_of(images, fraction) for fraction in sorted((one, other)))
    assert all(many[name] == "test" for name, split in few.items() if split == "test")


@given(DATASETS, DATASETS, FRACTIONS)
def test_another_class_changes_nothing_for_those_that_are_there(images, others, fraction):
    more = [*images, *((f"new {name}", f"new {c}") for name, c in others)]
    splits = split_of(more, fraction)
    assert {name: splits[name] for name, _ in images} == split_of(images, fraction)


def test_the_split_is_the_same_for_ever_and_another_for_another_seed():
    images = [(f"{c}/{n}.jpg", c) for c in "ab" for n in range(10)]
    chosen = {name for name, split in split_of(images).items() if split == "test"}
    assert chosen == {"a/7.jpg", "a/9.jpg", "b/8.jpg", "b/9.jpg"}
    assert split_of(images, seed=1) != split_of(images)


def test_a_class_with_a_single_image_or_none_of_a_split_is_an_error_of_one_line():
    with pytest.raises(UserError, match=r"class 'b' has the single image 'b/0'") as error:
        split_of([("a/0", "a"), ("a/1", "a"), ("b/0", "b")])
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="class 'b' has no test image"):
        with_both_splits(Manifest(list("wxyz"), list("aabb"), ["train", "test", "train", "train"]))
