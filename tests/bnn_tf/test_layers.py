"""The small layers: values by hand, gradients, configuration, mixed precision."""

import numpy as np
import pytest

from bnn_tf import layers
from bnn_tf._tensorflow import lq, tf

LAYERS = {
    "output_scale": layers.OutputScale,
    "output_scale_ones": lambda: layers.OutputScale("ones"),
    "learnable_bias": layers.LearnableBias,
    "hard_tanh": layers.HardTanh,
    "leaky_clip": layers.LeakyClip,
    "leaky_clip_steep": lambda: layers.LeakyClip(slope=0.25),
    "flip": layers.Flip,
    "channel_pad": lambda: layers.ChannelPad(1, 2),
}
X = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], np.float32).reshape(1, 7, 1, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_round_trip(name):
    layer = LAYERS[name]()
    again = tf.keras.utils.deserialize_keras_object(tf.keras.utils.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_known_before_any_data(name):
    inputs = tf.keras.Input((None, None, 4))
    channels = 7 if name == "channel_pad" else 4
    assert LAYERS[name]()(inputs).shape.as_list() == [None, None, None, channels]


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision(name):
    layer = type(LAYERS[name]()).from_config({**LAYERS[name]().get_config(), "dtype": "mixed_float16"})
    with tf.GradientTape() as tape:
        y = layer(tf.constant(X))
        loss = tf.reduce_sum(tf.cast(y, tf.float32))
    assert y.dtype == tf.float16
    assert all(g.dtype == tf.float32 for g in tape.gradient(loss, layer.weights))


def test_output_scale(value_and_gradients):
    layer = layers.OutputScale()
    layer.build((None, 4, 4, 500))
    alpha = layer.scale.numpy()
    assert alpha.shape == (500,)
    assert 0 <= alpha.min() < 0.05 < 0.95 < alpha.max() < 1

    layer = layers.OutputScale(tf.keras.initializers.Constant([2.0, -3.0]))
    x = np.ones((1, 2, 2, 2), np.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
    np.testing.assert_array_equal(y, x * [2, -3])
    np.testing.assert_array_equal(tape.gradient(y, layer.scale), [4, 4])


def test_output_scale_starts_differently_in_every_layer():
    first, second = layers.OutputScale(), layers.OutputScale()
    for layer in (first, second):
        layer.build((None, 8))
    assert not np.array_equal(first.scale, second.scale)


def test_learnable_bias():
    layer = layers.LearnableBias()
    np.testing.assert_array_equal(layer(X), X)
    layer.bias.assign([0.25])
    with tf.GradientTape() as tape:
        y = layer(X)
    np.testing.assert_array_equal(y, X + 0.25)
    np.testing.assert_array_equal(tape.gradient(y, layer.bias), [7])


@pytest.mark.parametrize(
    ("layer", "values", "slopes"),
    [
        (layers.HardTanh(), [-1, -1, -0.5, 0, 0.5, 1, 1], [0, 0, 1, 1, 1, 0, 0]),
        (layers.LeakyClip(), [-1.2, -1, -0.5, 0, 0.5, 1, 1.2], [0.1, 1, 1, 1, 1, 1, 0.1]),
        (layers.LeakyClip(0.5), [-2, -1, -0.5, 0, 0.5, 1, 2], [0.5, 1, 1, 1, 1, 1, 0.5]),
    ],
)
def test_clips(layer, values, slopes, value_and_gradients):
    value, (gradient,) = value_and_gradients(layer, X, upstream=np.float32(1))
    np.testing.assert_allclose(value.ravel(), values, rtol=1e-6)
    np.testing.assert_allclose(gradient.ravel(), slopes, rtol=1e-6)


def test_channel_pad(rng):
    x = rng.normal(size=(2, 3, 3, 4)).astype(np.float32)
    y = layers.ChannelPad(2, 1)(x).numpy()
    assert y.shape == (2, 3, 3, 7)
    np.testing.assert_array_equal(y[..., 2:6], x)
    np.testing.assert_array_equal(y[..., [0, 1, 6]], np.zeros((2, 3, 3, 3)))


def test_flip(rng):
    x = rng.normal(size=(2, 3, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(layers.Flip()(x), x[:, ::-1, ::-1])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_larqs_summary_and_saving_take_them_all(tmp_path, rng):
    model = tf.keras.Sequential([tf.keras.Input((5, 5, 2)), *(make() for make in LAYERS.values())])
    lq.models.summary(model, print_fn=(lines := []).append)
    assert "channel_pad" in "".join(lines)
    x = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    for name in ("model.keras", "model.h5", "saved_model"):
        model.save(tmp_path / name, **({"save_format": "tf"} if name == "saved_model" else {}))
        again = tf.keras.models.load_model(tmp_path / name)
        np.testing.assert_array_equal(again(x), model(x))
