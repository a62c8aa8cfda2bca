import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data import source as sources
from bnn_tf.errors import UsageError

IMAGES, LABELS = np.zeros((4, 6, 9, 3), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "images in memory are uint8"),
        (IMAGES[..., 0], LABELS, "images in memory are uint8"),
        (IMAGES[..., :2], LABELS, "images in memory are uint8"),
        (IMAGES, LABELS[:3], "labels are 4 whole numbers"),
        (IMAGES, LABELS - 1, "labels are 4 whole numbers from 0 on"),
        (IMAGES, LABELS / 2, "labels are 4 whole numbers"),
    ],
)
def test_arrays_are_checked(images, labels, message):
    with pytest.raises(data.DataError, match=message):
        data.ArraySplit(images, labels)


def test_a_source_is_checked():
    split, empty = data.ArraySplit(IMAGES, LABELS), data.ArraySplit(IMAGES[:0], LABELS[:0])
    with pytest.raises(data.DataError, match="has 1 class; classification needs at least 2"):
        data.Source(["one"], split, split)
    with pytest.raises(data.DataError, match="holds no examples in its test split"):
        data.Source(["one", "two"], split, empty)
    with pytest.raises(UsageError, match="limit must be at least 1"):
        data.Source(["one", "two"], split, split).limited(0)


def test_facts():
    split = data.ArraySplit(IMAGES, LABELS)
    facts = data.describe(data.Source(["one", "two"], split, split.limited(3), "mine"))
    assert str(facts) == "2 classes, 4 + 3 images, 6–9 px"
    assert facts.to_dict()["pixels"] == (6, 9)
    assert str(data.Facts("x", ["a"] * 1000, None, None, None)) == "1,000 classes"


@pytest.mark.parametrize("width", [1, 4, 6, 26])
def test_any_rows_of_random_numbers_can_be_computed_alone(width):
    seed = tf.constant([3, 1], tf.int64)
    key = sources.derived(seed, 1)
    whole = tf.random.stateless_uniform([50, width], key, alg="philox").numpy()
    for first, count in [(0, 50), (7, 1), (13, 20), (49, 1)]:
        assert np.array_equal(sources.uniform_rows(first, count, width, seed), whole[first : first + count])
    assert sources.uniform_rows(2**40, 1, width, seed).shape == (1, width)
