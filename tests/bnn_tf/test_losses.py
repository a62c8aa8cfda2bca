"""Smoothed cross-entropy on integer labels."""

import json

import numpy as np
import pytest

from bnn_tf import losses
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UsageError


@pytest.fixture
def logits(rng):
    return rng.normal(size=(20, 7)).astype("f") * 3


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(20,), (20, 1)])
def test_equals_keras_on_one_hot_labels(rng, logits, smoothing, shape):
    labels = rng.integers(0, 7, shape)
    expected = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)(
        tf.one_hot(labels.ravel(), 7), logits
    )
    np.testing.assert_allclose(losses.SmoothedCrossentropy(smoothing)(labels, logits), expected, rtol=1e-5)


def test_gradient(rng, logits):
    labels = rng.integers(0, 7, 20)
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = losses.SmoothedCrossentropy(0.1)(labels, x)
    target = 0.9 * np.eye(7)[labels] + 0.1 / 7
    np.testing.assert_allclose(tape.gradient(loss, x), (tf.nn.softmax(x) - target) / 20, rtol=1e-4, atol=1e-6)


def test_reduction_and_sample_weights(rng, logits):
    labels = rng.integers(0, 7, 20)
    each = losses.SmoothedCrossentropy(0.1, reduction="none")(labels, logits)
    assert each.shape == (20,)
    first = losses.SmoothedCrossentropy(0.1)(labels, logits, sample_weight=np.eye(20)[0])
    np.testing.assert_allclose(first, each[0] / 20, rtol=1e-5)


def test_serialises(rng, logits):
    loss = losses.SmoothedCrossentropy(0.2)
    config = json.loads(json.dumps(tf.keras.losses.serialize(loss)))
    restored = tf.keras.losses.deserialize(config)
    labels = rng.integers(0, 7, 20)
    assert isinstance(restored, losses.SmoothedCrossentropy)
    np.testing.assert_array_equal(restored(labels, logits), loss(labels, logits))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.0])
def test_nonsense_is_refused(value):
    with pytest.raises(UsageError, match=f"label_smoothing must be .* at least 0 and below 1, not {value}"):
        losses.SmoothedCrossentropy(value)
