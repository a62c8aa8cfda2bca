import dataclasses
import json

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError


def test_it_survives_json():
    pre = data.Preprocessing(
        "random_resized_crop", (64, 48), *data.NORMALIZATIONS["imagenet"], 0.1, (0.2, 0.9), 80
    )
    stored = json.loads(json.dumps(dataclasses.asdict(pre)))
    assert data.Preprocessing(**stored) == pre
    assert hash(data.Preprocessing(**stored)) == hash(pre)


def test_normalize_is_the_same_in_numpy_and_tensorflow(rng):
    images = rng.integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    mean, std = data.NORMALIZATIONS["cifar"]
    pre = data.Preprocessing(mean=mean, std=std)
    inputs = pre.normalize(images)
    assert inputs.dtype == np.float32
    assert inputs == pytest.approx((images / 255 - mean) / std, abs=1e-6)
    assert np.array_equal(inputs, pre.normalize(tf.constant(images)))


def test_unit_reaches_from_minus_one_to_one():
    ends = data.Preprocessing().normalize(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    assert ends == pytest.approx(np.array([[-1] * 3, [1] * 3]), abs=1e-6)


def test_the_short_side_before_the_crop():
    assert data.Preprocessing(image_size=(224, 224)).short_side == 256
    assert data.Preprocessing(image_size=(224, 224), resize=240).short_side == 240


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augmentation", "flip"),
        ("image_size", (0, 32)),
        ("image_size", (32, 32, 3)),
        ("mean", (0.5,)),
        ("std", (0.5, 0.0, 0.5)),
        ("lighting", -0.1),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.9, 0.5)),
        ("resize", 31),
    ],
)
def test_impossible_values_are_refused_by_name(field, value):
    with pytest.raises(UsageError, match=f"preprocessing: {field}"):
        data.Preprocessing(**{field: value})
