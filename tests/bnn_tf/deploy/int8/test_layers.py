import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.int8 import FakeQuant, FakeQuantConv2D, FakeQuantDense, Range


def test_rounds_to_256_levels_of_which_one_is_zero():
    layer = FakeQuant(-1.28, 1.27)
    x = np.float32([-2, -1.284, -0.006, -0.004, 0, 0.0149, 0.0151, 1.26, 5])
    expected = [-1.28, -1.28, -0.01, 0, 0, 0.01, 0.02, 1.26, 1.27]
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    assert layer.step == pytest.approx(0.01)


def test_gradient_is_one_inside_the_range():
    layer = FakeQuant(-1.0, 1.0)
    x = tf.constant([-1.5, -0.5, 0.3, 1.5])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 0])


@pytest.mark.parametrize(
    "ends", [(-1.0, 1.0), (-0.37, 2.9), (0.0, 6.0), (-3.0, 0.0), (-1e-9, 1.0), (-7.3, 1e-4)]
)
def test_ranges_on_the_grid_hold_the_range_and_zero_exactly(ends):
    rounded = Range(*ends).on_grid()
    half = (ends[1] - ends[0]) / 510  # ends that are nearly 0 become 0
    assert rounded.minimum <= ends[0] + half
    assert rounded.maximum >= ends[1] - half
    assert (rounded.maximum - rounded.minimum) < 1.02 * (ends[1] - ends[0])
    layer = FakeQuant(rounded.minimum, rounded.maximum)
    near_zero = np.linspace(-0.49, 0.49, 11, dtype=np.float32) * np.float32(layer.step)
    np.testing.assert_array_equal(layer(near_zero), np.zeros(11))
    levels = np.unique(layer(np.linspace(*ends, 5000, dtype=np.float32)))
    np.testing.assert_array_equal(levels, np.round(levels / layer.step) * np.float32(layer.step))


def test_a_convolution_has_a_range_for_each_output_channel(rng):
    layer = FakeQuantConv2D(3, 1, use_bias=False)
    layer.build((None, 4, 4, 2))
    kernel = rng.normal(size=(1, 1, 2, 3)).astype(np.float32) * np.float32([0.01, 1, 100])
    layer.set_weights([kernel, np.abs(kernel).max(axis=(0, 1, 2))])
    rounded = layer(np.float32([[[[1, 0]]], [[[0, 1]]]])).numpy()[:, 0, 0]
    steps = np.abs(kernel).max(axis=(0, 1, 2)) / 127
    assert (np.abs(rounded - kernel[0, 0]) <= 0.501 * steps).all()
    np.testing.assert_allclose(rounded / steps, np.round(rounded / steps), atol=1e-3)


def test_a_dense_layer_has_one_range(rng):
    layer = FakeQuantDense(3, activation="relu")
    layer.build((None, 2))
    kernel, bias = rng.normal(size=(2, 3)).astype(np.float32), np.float32([1, 2, 3])
    layer.set_weights([kernel, bias, np.abs(kernel).max()])
    x = rng.normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(layer(x), np.maximum(x @ kernel + bias, 0), atol=0.05)
    assert layer.kernel_range.shape == ()


def test_configurations_round_trip():
    for layer in (FakeQuant(-1.0, 2.0), FakeQuantConv2D(3, 2), FakeQuantDense(4)):
        copy = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
        assert type(copy) is type(layer)
        assert copy.get_config() == layer.get_config()
