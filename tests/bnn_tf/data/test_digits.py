import numpy as np

from bnn_tf import data
from bnn_tf.data import digits


def test_sizes_and_classes():
    source = data.load("digits")
    assert (source.name, source.num_classes, source.image_shape) == ("digits", 10, (32, 32, 3))
    assert source.class_names == [str(i) for i in range(10)]
    assert (source.size("train"), source.size("test")) == (1437, 360)


def test_each_digit_is_held_out_once_and_every_class_in_proportion():
    labels = digits._raw()[1]
    test = digits._held_out(labels)
    assert len(set(test)) == 360
    shares = np.bincount(labels[test]) / np.bincount(labels)
    assert abs(shares - 360 / 1797).max() < 1.5 / 174


def test_the_split_never_changes():
    source = data.load("digits")
    assert source.split("test").tensors[1][:12].numpy().tolist() == [0, 7, 0, 7, 4, 8, 3, 8, 3, 7, 4, 6]
    assert source.split("train").tensors[1][:12].numpy().tolist() == [4, 7, 6, 0, 5, 4, 2, 9, 3, 7, 7, 5]


def test_the_two_splits_are_all_the_digits():
    source = data.load("digits")
    images = [source.split(name).tensors[0].numpy() for name in ("train", "test")]
    brightness = np.sort(np.concatenate(images)[..., 0].reshape(1797, -1).mean(axis=1))
    original = np.sort(digits._raw()[0].reshape(1797, -1).mean(axis=1)) * 255 / 16
    assert np.abs(brightness - original).max() < 6


def test_pixels_are_grey_whole_numbers_of_the_full_range():
    images = data.load("digits").split("test").tensors[0].numpy()
    assert images.dtype == np.uint8
    assert images.shape == (360, 32, 32, 3)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(images[..., 0], images[..., 2])


def test_the_first_digits_for_a_quick_try_have_many_classes():
    source = data.load("digits", limit=40)
    assert (source.size("train"), source.size("test")) == (40, 40)
    assert len(set(source.split("train").tensors[1].numpy())) >= 8
