"""The formulas against independent NumPy ones in float64, and against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnn_tf import math
from bnn_tf._tensorflow import tf


def numpy_standardize(kernel):
    axes = tuple(range(kernel.ndim - 1))
    centered = kernel - kernel.mean(axes, keepdims=True)
    return centered / np.sqrt(kernel.var(axes, ddof=1, keepdims=True) + 1e-5)


def finite_differences(function, x, step=1e-6):
    """Gradient of the scalar `function` at `x`, central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[index] = step
        gradient[index] = (function(x + shift) - function(x - shift)) / (2 * step)
    return gradient


@pytest.fixture
def kernel(rng):
    return rng.normal(0.02, 0.1, (3, 3, 4, 5))


def test_sign_of_zero_is_plus_one():
    np.testing.assert_array_equal(math.sign(tf.constant([-2.0, -1e-30, -0.0, 0.0, 3.0])), [-1, -1, 1, 1, 1])


def test_magnitude_and_norm_per_output_channel(kernel):
    np.testing.assert_allclose(math.magnitude(kernel), np.abs(kernel).mean((0, 1, 2), keepdims=True))
    np.testing.assert_allclose(
        math.channel_norm(kernel), np.sqrt((kernel**2).sum((0, 1, 2), keepdims=True)), rtol=1e-12
    )


def test_channels_of_a_dense_kernel_are_its_columns(rng):
    kernel = rng.normal(size=(7, 3))
    np.testing.assert_allclose(math.magnitude(kernel)[0], np.abs(kernel).mean(0))


def test_variance_is_unbiased(kernel):
    np.testing.assert_allclose(
        math.unbiased_variance(tf.constant(kernel), [0, 2]), kernel.var((0, 2), ddof=1, keepdims=True)
    )


def test_standardize_value_and_gradient(kernel, rng, value_and_gradients):
    upstream = rng.normal(size=kernel.shape)
    value, (gradient,) = value_and_gradients(math.standardize, kernel, upstream=upstream)
    np.testing.assert_allclose(value, numpy_standardize(kernel), rtol=1e-10)
    expected = finite_differences(lambda w: (numpy_standardize(w) * upstream).sum(), kernel)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tau", [0.6, 0.85, 0.99])
def test_recu_clamp_value_and_gradient(tau, kernel, rng, value_and_gradients):
    upstream = rng.normal(size=kernel.shape)
    standardized = numpy_standardize(kernel) * 2 * np.sqrt(2)
    bound = -np.abs(standardized).mean() * np.log(2 - 2 * tau)  # a constant for the gradient

    value, (gradient,) = value_and_gradients(lambda w: math.recu_clamp(w, tau), kernel, upstream=upstream)

    np.testing.assert_allclose(value, np.clip(standardized, -bound, bound), rtol=1e-6)
    expected = finite_differences(
        lambda w: (np.clip(numpy_standardize(w) * 2 * np.sqrt(2), -bound, bound) * upstream).sum(), kernel
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(3, 3, 8, 64), (7, 3), (1, 1, 16, 2)])
@pytest.mark.parametrize("tau", [0.6, 0.85, 0.99, 1.0])
def test_recu_sign_is_the_sign_of_the_clamp(tau, shape, compiled, rng, value_and_gradients):
    """Value and gradient are those of the formula, step by step, where XLA compiles and where it does not."""
    kernel, upstream = rng.normal(0.02, 0.1, shape), rng.normal(size=shape)

    def steps(w):
        return math.identity_sign(math.recu_clamp(w, tau))

    def at_once(w):
        return math.recu_sign(w, tau)

    function = tf.function(at_once, autograph=False) if compiled else at_once
    value, (gradient,) = value_and_gradients(function, kernel, upstream=upstream)
    expected, (expected_gradient,) = value_and_gradients(steps, kernel, upstream=upstream)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-9)


def test_second_derivative_of_recu_sign(rng):
    """Derivatives of the gradient run through the mean and the deviation, as those of the steps do."""
    kernel, upstream, direction = (tf.constant(rng.normal(size=(3, 3, 2, 4))) for _ in range(3))
    results = []
    for function in (lambda w: math.recu_sign(w, 0.8), lambda w: math.identity_sign(math.recu_clamp(w, 0.8))):
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as inner:
                inner.watch(kernel)
                loss = tf.reduce_sum(function(kernel) * upstream)
            product = tf.reduce_sum(inner.gradient(loss, kernel) * direction)
        results.append(outer.gradient(product, kernel).numpy())
    np.testing.assert_allclose(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tau", [85, 93, 99])
def test_recu_clamp_of_the_authors(golden, assert_close, tau):
    a = golden("recu_kernel")
    kernel, value = tf.constant(a[f"tau{tau}_w"]), float(a[f"tau{tau}_tau"])
    standardized = math.recu_standardize(kernel)
    bound = math.recu_bound(standardized, value)
    assert_close(bound, a[f"tau{tau}_Q_tau"])
    assert_close(math.recu_clamp(kernel, value), a[f"tau{tau}_w2"])
    clamped = np.abs(standardized) > bound.numpy()
    assert clamped.mean() == pytest.approx(float(a[f"tau{tau}_clamped_fraction"]))


def test_tau_one_clamps_nothing(kernel):
    np.testing.assert_array_equal(
        math.recu_clamp(tf.constant(kernel), 1.0), math.recu_standardize(tf.constant(kernel))
    )


def test_gradients_of_the_signs(value_and_gradients):
    x = np.array([-2.0, -1.0, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0], np.float32)
    upstream = np.array([1.0, 2.0, 4.0, 8.0, -1.0, -2.0, -4.0, -8.0], np.float32)
    for sign, expected in [
        (math.identity_sign, upstream),
        (lambda v: math.clipped_sign(v, None), upstream),
        (lambda v: math.clipped_sign(v, 1.0), [0, 2, 4, 8, -1, -2, -4, 0]),
        (lambda v: math.clipped_sign(v, 0.25), [0, 0, 4, 8, -1, 0, 0, 0]),
        (math.approx_sign, [0, 0, 6, 16, -1.5, -2, 0, 0]),
    ]:
        value, (gradient,) = value_and_gradients(sign, x, upstream=upstream)
        np.testing.assert_array_equal(value, [-1, -1, -1, 1, 1, 1, 1, 1])
        np.testing.assert_array_equal(gradient, expected)


def numpy_triangle_integral(z):
    """A function with the derivative `max(0, 2 - 2|z|)`; what approx_sign pretends to be."""
    inside = np.clip(z, -1, 1)
    return 2 * inside - inside * np.abs(inside)


@pytest.mark.parametrize("stop_gradient", [False, True])
def test_normalized_approx_sign_is_the_gradient_through_the_deviation(
    stop_gradient, rng, value_and_gradients
):
    x = rng.normal(0.3, 1.5, (3, 4, 3, 2))
    upstream = rng.normal(size=x.shape)

    def deviation(v):
        return np.sqrt(v.var((1, 2, 3), ddof=1, keepdims=True) + 1e-5)

    def pretended(v):
        return (upstream * numpy_triangle_integral(v / deviation(x if stop_gradient else v))).sum()

    value, (gradient,) = value_and_gradients(
        lambda v: math.normalized_approx_sign(v, stop_gradient), x, upstream=upstream
    )
    np.testing.assert_array_equal(value, np.sign(x))
    np.testing.assert_allclose(gradient, finite_differences(pretended, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop_gradient", [False, True])
@pytest.mark.parametrize("shape", [(3, 40, 30, 2), (5, 1007)])
def test_normalized_approx_sign_in_a_graph_computes_the_same(
    shape, stop_gradient, rng, value_and_gradients, assert_close
):
    """There it is compiled."""
    assert np.prod(shape) >= math.SMALLEST_COMPILED
    x, upstream = rng.normal(3, 1.5, (2, *shape)).astype(np.float32)
    formula = tf.function(lambda v: math.normalized_approx_sign(v, stop_gradient))
    actual = value_and_gradients(formula, x, upstream=upstream)
    expected = value_and_gradients(
        lambda v: math.normalized_approx_sign(v, stop_gradient), x, upstream=upstream
    )
    np.testing.assert_array_equal(actual[0], expected[0])
    assert_close(actual[1][0], expected[1][0])


def test_signs_in_a_graph_keep_what_is_no_number():
    """A training whose loss is no number any more must show it."""
    signs = tf.function(math.approx_sign)(tf.constant([-0.0, 0.0, -2.0, np.nan]))
    np.testing.assert_array_equal(signs, [1, 1, -1, np.nan])


def test_statistics_of_a_sample_far_from_zero(rng, value_and_gradients):
    x, upstream = rng.normal(1000, 1, (2, 3, 8, 8, 4))
    single, wide = (
        value_and_gradients(
            lambda v: math.normalized_approx_sign(v, False), x.astype(kind), upstream=upstream.astype(kind)
        )[1][0]
        for kind in (np.float32, np.float64)
    )
    np.testing.assert_allclose(single, wide, rtol=1e-3, atol=1e-5)


def test_normalized_approx_sign_treats_samples_apart(rng, value_and_gradients):
    x, upstream = rng.normal(size=(2, 2, 5, 5, 3)).astype(np.float32)
    for stop_gradient in (False, True):
        together = value_and_gradients(
            lambda v, s=stop_gradient: math.normalized_approx_sign(v, s), x, upstream=upstream
        )[1][0]
        alone = value_and_gradients(
            lambda v, s=stop_gradient: math.normalized_approx_sign(v, s), x[:1], upstream=upstream[:1]
        )[1][0]
        np.testing.assert_allclose(together[:1], alone, rtol=1e-5, atol=1e-6)


def test_normalized_approx_sign_of_a_constant_sample_is_finite(value_and_gradients):
    x = np.zeros((1, 4, 4, 2), np.float32)
    _, (gradient,) = value_and_gradients(
        lambda v: math.normalized_approx_sign(v, False), x, upstream=np.ones_like(x)
    )
    assert np.isfinite(gradient).all()


def test_normalized_approx_sign_in_half_precision_uses_wide_statistics(rng, value_and_gradients):
    x = rng.normal(0, 300, (2, 8, 8, 4)).astype(np.float16)  # the squares overflow half precision
    upstream = np.ones_like(x)
    _, (half,) = value_and_gradients(lambda v: math.normalized_approx_sign(v, False), x, upstream=upstream)
    _, (single,) = value_and_gradients(
        lambda v: math.normalized_approx_sign(v, False),
        x.astype(np.float32),
        upstream=upstream.astype(np.float32),
    )
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, single, rtol=2e-3, atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(arrays(np.float32, (6,), elements=st.floats(-4, 4, width=32, allow_subnormal=False)))
def test_clips(x):
    np.testing.assert_array_equal(math.hard_tanh(x), np.minimum(np.maximum(x, -1), 1))
    expected = np.where(np.abs(x) <= 1, x, np.sign(x) + 0.1 * (x - np.sign(x)))
    np.testing.assert_allclose(math.leaky_clip(tf.constant(x)), expected, rtol=1e-5, atol=1e-6)


def test_gradients_of_the_clips(value_and_gradients):
    x, upstream = np.array([-3.0, -1.0, -0.5, 0.5, 1.0, 3.0]), np.ones(6)
    _, (hard,) = value_and_gradients(math.hard_tanh, x, upstream=upstream)
    _, (leaky,) = value_and_gradients(math.leaky_clip, x, upstream=upstream)
    np.testing.assert_array_equal(hard, [0, 0, 1, 1, 0, 0])  # PyTorch's: the open interval
    np.testing.assert_allclose(leaky, [0.1, 1, 1, 1, 1, 0.1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "sign",
    [
        math.approx_sign,
        lambda y: math.normalized_approx_sign(y, True),
        lambda y: math.normalized_approx_sign(y, False),
        lambda y: math.clipped_sign(y, 1.0),
    ],
    ids=["approx", "constant deviation", "deviation", "clipped"],
)
@pytest.mark.parametrize("consumers", ["both", "signs", "shortcut"])
def test_clipped_activations_and_their_signs_have_the_sum_of_the_gradients(sign, consumers, precision, rng):
    """The compiled loop that computes both, against what each has alone, step by step."""
    x = tf.cast(rng.normal(0, 1.5, (3, 16, 16, 32)), precision)
    parts = {"both": (3, 1), "signs": (0, 1), "shortcut": (3, 0)}[consumers]
    weights = tf.cast(rng.normal(size=x.shape), precision)

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = math.hard_tanh(x)
            terms = [share * term for share, term in zip(parts, (y, sign(y)), strict=True) if share]
            value = weights * tf.add_n(terms)
        return tape.gradient(value, [x, y])

    of_input, of_clipped = tf.function(gradients)(x)
    y = math.hard_tanh(x)
    with tf.GradientTape() as tape:
        tape.watch(y)
        signs = sign(y)
    (alone,) = tape.gradient(signs, [y], weights)
    expected = parts[0] * weights + parts[1] * alone
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if precision == "float32" else {"rtol": 0.02, "atol": 0.02}
    as_float = [np.asarray(tf.cast(v, tf.float32)) for v in (of_input, of_clipped, expected, y)]
    np.testing.assert_allclose(as_float[1], as_float[2], **tolerance)
    np.testing.assert_allclose(as_float[0], np.where(np.abs(as_float[3]) < 1, as_float[2], 0), **tolerance)


def test_a_gradient_of_signs_that_reaches_a_clip_twice_counts_twice(rng):
    x = tf.constant(rng.normal(0, 0.5, (3, 16, 16, 32)), tf.float32)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = math.hard_tanh(x)
            value = math.approx_sign(y + y) + 3 * y
        return tape.gradient(value, x)

    np.testing.assert_allclose(tf.function(gradient)(x), gradient(x), rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 32, 32, 4), (256, 16), (0, 8, 8, 3), (2, 0, 8, 3)])
def test_channel_sums_round_little_and_take_no_images(shape, rng):
    x = rng.normal(3, 1, shape).astype(np.float32)
    exact = x.astype(float).sum(tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(tf.function(math.channel_sums)(x), exact, rtol=1e-6)
    half = math.channel_sums(tf.cast(x, tf.float16))
    assert half.dtype == tf.float32
