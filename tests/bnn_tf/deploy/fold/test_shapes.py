"""Slopes of PReLU, global pools, and maps before dense layers."""

import numpy as np
import pytest

import zoo
from bnn_tf._tensorflow import tf
from bnn_tf.deploy.fold import fold
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer

layers = tf.keras.layers


def assert_same(model, images):
    folded = fold(model)
    np.testing.assert_allclose(
        *(np.asarray(net(images, training=False)) for net in (model, folded)), rtol=1e-4, atol=1e-4
    )
    return folded


def test_equal_slopes_are_shared(network, images):
    model = network(layers.PReLU(name="prelu"))
    slopes = model.get_layer("prelu").alpha
    folded = fold(model)
    assert folded.get_layer("prelu").alpha.shape == (8, 8, 32)
    slopes.assign(np.broadcast_to(slopes[:1, :1], slopes.shape))
    folded = assert_same(model, images)
    assert folded.get_layer("prelu").alpha.shape == (1, 1, 32)


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pools_get_the_size_of_the_map(randomized, images, keepdims):
    image = tf.keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(keepdims=keepdims)(layers.Conv2D(8, 3)(image))
    model = randomized(tf.keras.Model(image, layers.Dense(4)(x)))
    folded = assert_same(model, images)
    assert folded.output_shape == model.output_shape
    names = [operator.name for operator in LceFile(to_flatbuffer(folded)).operators]
    assert "AVERAGE_POOL_2D" in names
    assert not {"MEAN", "SUM"} & set(names)


def test_global_pools_of_any_size_stay(randomized, images):
    image = tf.keras.Input((None, None, 3))
    model = tf.keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image)))
    assert_same(model, images)
    assert fold(model)(images[:, :5, :6]).shape == (16, 8)


@pytest.mark.parametrize("flatten", ["mean", "pixels"])
def test_classifiers_take_norms(randomized, images, flatten):
    image = tf.keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(8, 3)(image)))
    if flatten == "mean":
        x = layers.BatchNormalization()(layers.AveragePooling2D(6)(x))
    x = layers.Dense(4, use_bias=False)(layers.Dropout(0.5)(layers.Flatten()(x)))
    folded = assert_same(randomized(tf.keras.Model(image, x)), images)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in folded.layers)


def test_padding_convolutions_take_scales_only(network, images):
    def trunk(x):
        x = layers.BatchNormalization(name="scale", center=False)(layers.ReLU()(x))
        x = layers.Conv2D(8, 3, padding="same")(x)
        return layers.Conv2D(8, 3, padding="same")(layers.BatchNormalization(name="bn")(layers.ReLU()(x)))

    model = network(trunk)
    norm = model.get_layer("scale")
    norm.moving_mean.assign(0 * norm.moving_mean)
    names = {layer.name for layer in assert_same(model, images).layers}
    assert "scale" not in names
    assert "bn" in names


def test_the_head_of_cifar_resnets_is_one_layer(randomized, rng):
    model = randomized(zoo.CifarResNet20(method="ovsw", input_shape=(16, 16, 3)), seed=1)
    folded = fold(model)
    assert "head_bn" not in {layer.name for layer in folded.layers}
    images = rng.standard_normal((8, 16, 16, 3), np.float32)
    before, after = (np.asarray(net(images, training=False)) for net in (model, folded))
    assert np.median(np.abs(before - after).max(axis=1)) < 1e-5 * before.std()
