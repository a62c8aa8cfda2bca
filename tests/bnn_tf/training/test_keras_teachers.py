import numpy as np
import pytest
import tensorflow as tf

from bnn_tf import data
from bnn_tf.errors import UsageError
from bnn_tf.training import start
from zoo import recipes


@pytest.fixture(scope="module")
def recipe():
    return recipes.override(recipes.find("recu", "resnet18", "imagenet2012"), "size", [32, 32])


def test_keras_teacher_sees_its_own_preprocessing(recipe, rng):
    teacher = start.keras_application("MobileNetV2", recipe, weights=None)
    pixels = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    images = data.Images(normalization="imagenet")
    original = tf.keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(
        teacher(images.normalize(pixels)), teacher.get_layer(index=-1)(original), rtol=1e-4, atol=1e-7
    )
    assert teacher.output_shape == (None, 1000)


def test_unknown_keras_teacher_names_the_nearest(recipe):
    with pytest.raises(UsageError, match="ResNet50"):
        start.keras_application("ResNet51", recipe)
