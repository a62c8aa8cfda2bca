"""Folding of networks made at random: shared layers, several readers, outputs in the middle."""

import numpy as np
import pytest

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.fold import fold
from bnn_tf.layers import ChannelPad, HardTanh, LeakyClip, LearnableBias, OutputScale

layers = tf.keras.layers


def sign_conv(rng, channels):
    return lq.layers.QuantConv2D(
        channels,
        int(rng.choice([1, 3])),
        padding=str(rng.choice(["same", "valid"])),
        pad_values=float(rng.choice([0.0, 1.0])),
        use_bias=bool(rng.integers(2)),
        activation=str(rng.choice(["linear", "relu", "tanh"], p=[0.8, 0.1, 0.1])),
        input_quantizer="ste_sign",
        kernel_quantizer=rng.choice(["ste_sign", "magnitude_aware_sign"]),
    )


def real_conv(rng, channels):
    return layers.Conv2D(
        channels,
        int(rng.choice([1, 3])),
        padding=str(rng.choice(["same", "valid"])),
        use_bias=bool(rng.integers(2)),
        activation=str(rng.choice(["linear", "relu"], p=[0.8, 0.2])),
    )


def norm(*_):
    return layers.BatchNormalization()


def bias(*_):
    return LearnableBias()


MAKERS = [
    sign_conv, sign_conv, sign_conv, real_conv, norm, norm, norm, norm, bias, bias, bias,
    lambda rng, c: OutputScale(tf.keras.initializers.RandomUniform(-1, 1, seed=int(rng.integers(99)))),
    lambda rng, c: layers.PReLU(shared_axes=[1, 2]),
    lambda rng, c: HardTanh(),
    lambda rng, c: LeakyClip(),
    lambda rng, c: layers.ReLU(),
    lambda rng, c: layers.Activation("tanh"),
    lambda rng, c: layers.MaxPooling2D(2, strides=1, padding=str(rng.choice(["same", "valid"]))),
    lambda rng, c: layers.AveragePooling2D(2, strides=1, padding=str(rng.choice(["same", "valid"]))),
    lambda rng, c: ChannelPad(1, 2),
    lambda rng, c: layers.Dropout(0.5),
    lambda rng, c: layers.ZeroPadding2D(1),
    lambda rng, c: lq.quantizers.SteSign(),
]  # fmt: skip


def random_network(rng):
    """Grows a network from its last tensors mostly, so that it gets deep."""
    image = tf.keras.Input((7, 7, 3))
    tensors, shared = [layers.Conv2D(8, 3, padding="same")(image)], []
    for _ in range(14):
        x = tensors[-1 - min(int(rng.geometric(0.7)) - 1, len(tensors) - 1)]
        twins = [t for t in tensors if t.shape == x.shape and t is not x]
        fitting = [layer for layer, shape in shared if shape == x.shape]
        if twins and rng.random() < 0.35:
            other = twins[int(rng.integers(len(twins)))]
            y = x + other if rng.random() < 0.3 else layers.Add()([x, other])
        elif fitting and rng.random() < 0.25:
            y = fitting[int(rng.integers(len(fitting)))](x)
        else:
            layer = MAKERS[int(rng.integers(len(MAKERS)))](rng, x.shape[-1])
            shared.append((layer, x.shape))
            y = layer(x)
        if min(y.shape[1:3]) >= 3:
            tensors.append(y)
    pool = layers.GlobalAveragePooling2D() if rng.integers(2) else layers.Flatten()
    outputs = [layers.Dense(5)(pool(tensors[-1]))]
    if rng.random() < 0.3:
        outputs.append(tensors[int(rng.integers(len(tensors)))])
    return tf.keras.Model(image, outputs)


def randomize(model, rng):
    """Random weights; some scales are negative, some 0."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.gamma.shape
            signs = rng.choice([1, -1, 0], channels, p=[0.7, 0.2, 0.1])
            layer.gamma.assign(signs * rng.uniform(0.5, 2, channels))
            layer.beta.assign(rng.normal(0, 1, channels))
            layer.moving_mean.assign(rng.normal(0, 1, channels))
            layer.moving_variance.assign(rng.uniform(0.5, 2, channels))
        elif isinstance(layer, layers.PReLU):
            layer.alpha.assign(rng.uniform(-0.1, 0.4, layer.alpha.shape))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 1, layer.bias.shape))


@pytest.mark.sample(8)
@pytest.mark.parametrize("seed", range(40))
def test_outputs_stay_the_same(seed):
    rng = np.random.default_rng(seed)
    tf.random.set_seed(seed)
    model = random_network(rng)
    randomize(model, rng)
    images = rng.standard_normal((24, 7, 7, 3), np.float32)
    expected = [np.asarray(y) for y in tf.nest.flatten(model(images, training=False))]
    results = [np.asarray(y) for y in tf.nest.flatten(fold(model)(images, training=False))]
    for before, after in zip(expected, results, strict=True):
        size = np.abs(before).max() + 1e-6
        moved = np.abs(before - after).reshape(len(images), -1).max(axis=1) / size
        # rounding may flip a sign of an image, an error flips signs of all
        assert np.median(moved) < 1e-5
        assert np.mean(moved > 1e-4) <= 0.1
