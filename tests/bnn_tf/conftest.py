"""Helpers for the tests of formulas and quantizers."""

import numpy as np
import pytest

from bnn_tf._tensorflow import tf


@pytest.fixture(scope="session")
def value_and_gradients():
    """`f(*inputs)` and the gradients of `sum(upstream · f)`, all as NumPy arrays."""

    def evaluate(function, *inputs, upstream):
        tensors = [tf.constant(x) for x in inputs]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
            loss = tf.reduce_sum(value * upstream)
        return value.numpy(), [g.numpy() for g in tape.gradient(loss, tensors)]

    return evaluate


@pytest.fixture(scope="session")
def assert_close():
    """Worst difference relative to the largest magnitude, as the reference data was verified."""

    def check(actual, expected, tolerance=1e-5):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-12)
        )

    return check
