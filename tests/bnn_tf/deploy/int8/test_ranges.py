import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import graph, int8


@pytest.fixture
def doubled():
    """The graph of `2 · image`, and its two tensors."""
    image = tf.keras.Input((4, 4, 1))
    net = graph.read(tf.keras.Model(image, tf.keras.layers.Rescaling(2.0)(image)))
    return net, [net.inputs[0], net.outputs[0]]


def test_minmax_takes_all_values(doubled, rng):
    net, tensors = doubled
    images = rng.normal(0, 1, (40, 4, 4, 1)).astype(np.float32)
    images[35, 1, 2] = 9
    ranges = int8.ranges(net, tensors, [images])
    assert ranges[tensors[0]].maximum == pytest.approx(9, rel=0.02)
    assert ranges[tensors[0]].minimum == pytest.approx(images.min(), rel=0.02)
    assert ranges[tensors[1]].maximum == pytest.approx(2 * ranges[tensors[0]].maximum, rel=1e-3)


def test_zero_lies_within_the_range(doubled):
    net, tensors = doubled
    ranges = int8.ranges(net, tensors, [np.full((3, 4, 4, 1), 5, np.float32)])
    assert ranges[tensors[0]].minimum == 0
    assert ranges[tensors[0]].maximum == pytest.approx(5, rel=1e-3)


def test_a_tensor_of_zeros_has_a_range(doubled):
    net, tensors = doubled
    ranges = int8.ranges(net, tensors[:1], [np.zeros((3, 4, 4, 1), np.float32)])
    assert ranges[tensors[0]].maximum > ranges[tensors[0]].minimum
