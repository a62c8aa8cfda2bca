"""Small networks for the tests of deployment."""

import numpy as np
import pytest

import bnn_tf.quantizers  # noqa: F401  (registers the methods' quantizers)
from bnn_tf._tensorflow import lq, tf
from bnn_tf.layers import LearnableBias


def binary_conv(name, filters=32, **settings):
    defaults = {
        "kernel_size": 3,
        "padding": "same",
        "pad_values": 1.0,
        "use_bias": False,
        "input_quantizer": "approx_sign",
        "kernel_quantizer": "magnitude_aware_sign",
        "kernel_constraint": "weight_clip",
    }
    return lq.layers.QuantConv2D(filters, name=name, **{**defaults, **settings})


def randomize(model, seed=0):
    """Gives every weight a value as of a trained network, so that no two channels are alike."""
    rng = np.random.default_rng(seed)
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in layer.get_weights()])
            if layer.scale:
                layer.gamma.assign(layer.gamma * rng.choice([-1.0, 1.0], layer.gamma.shape))
            layer.moving_mean.assign(rng.normal(0, 3, layer.moving_mean.shape))
        elif isinstance(layer, tf.keras.layers.Layer) and hasattr(layer, "kernel"):
            layer.kernel.assign(rng.normal(0, 0.1, layer.kernel.shape))
            if getattr(layer, "bias", None) is not None:
                layer.bias.assign(rng.normal(0, 1, layer.bias.shape))
        elif isinstance(layer, LearnableBias):
            layer.bias.assign(rng.normal(0, 1, layer.bias.shape))
        elif isinstance(layer, tf.keras.layers.PReLU):
            layer.alpha.assign(rng.uniform(0.1, 0.4, layer.alpha.shape))
    return model


@pytest.fixture
def conv():
    """`conv(name, filters=32, **settings)`: a binary 3x3 convolution."""
    return binary_conv


@pytest.fixture
def network(rng):
    """`network(trunk)`: stem, `trunk(x)`, pooling and classifier, with the weights of a trained net."""

    def build(trunk, size=8, channels=32, classes=10):
        image = x = tf.keras.Input((size, size, 3))
        x = tf.keras.layers.Conv2D(channels, 3, padding="same", name="stem")(x)
        x = trunk(x)
        x = tf.keras.layers.GlobalAveragePooling2D()(x)
        return randomize(tf.keras.Model(image, tf.keras.layers.Dense(classes, name="logits")(x)))

    return build


@pytest.fixture
def residual(conv):
    """A trunk of two binary convolutions with shortcuts; the second one strided."""

    def trunk(x):
        y = tf.keras.layers.BatchNormalization(name="bn1")(conv("conv1")(x))
        x = tf.keras.layers.add([x, y])
        y = tf.keras.layers.BatchNormalization(name="bn2")(conv("conv2", strides=2, pad_values=0.0)(x))
        return tf.keras.layers.add([tf.keras.layers.AveragePooling2D()(x), y])

    return trunk


@pytest.fixture
def images(rng):
    return rng.standard_normal((16, 8, 8, 3), np.float32)


@pytest.fixture
def randomized():
    """`randomized(model, seed=0)`: the model with random weights, as of a trained network."""
    return randomize
