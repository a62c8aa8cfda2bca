"""The formulas of the four methods as pure functions of tensors.

Layout: activations NHWC, convolution kernels HWIO `(kh, kw, cin, cout)`. "Per output channel" means
over all axes of a kernel but the last. `sign(0) = +1`, as in Larq.

TensorFlow runs elementwise operations one by one, and each reads and writes whole activations. Chains of
them that a training step needs are therefore `one_pass` functions, which XLA compiles into one loop each.
Convolutions stay TensorFlow's: on the CPU, XLA's are several times slower.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from bnn_tf._tensorflow import lq, tf

EPSILON = 1e-5  # added to every variance under a root

sign = lq.math.sign


SMALLEST_COMPILED = 4096
"""Elements of an operand, a batch of unknown size not counted, from which compiling pays."""


def one_pass(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of tensors, compiled by XLA where `compiles` says so of its first operand.

    Results agree to float rounding. For training steps only: graphs that are converted or saved for
    inference are to hold nothing that only XLA runs.

    Example:
        >>> one_pass(lambda x: 2 * tf.nn.relu(x))(tf.constant([-1.0, 3.0])).numpy()
        array([0., 6.], dtype=float32)
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*operands: Any) -> Any:
        return (compiled if compiles(operands[0]) else function)(*operands)

    return call


def compiles(x: tf.Tensor) -> bool:
    """Whether `one_pass` functions of `x` are compiled: in a graph, on the CPU, where x is large enough.

    Eagerly every new shape would be compiled; accelerators have kernels of their own, which were not
    compared; and of a small operand XLA takes longer to compile and start the loop than it saves.

    Example:
        >>> compiles(tf.zeros((64, 32, 32, 16)))  # not in a graph
        False
    """
    if tf.executing_eagerly() or x.shape.rank is None:
        return False
    large = math.prod(size or 1 for size in x.shape) >= SMALLEST_COMPILED
    return large and all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def widen(x: tf.Tensor) -> tf.Tensor:
    """`x` in float32 where its type is narrower, else as it is.

    Example:
        >>> widen(tf.constant([1.5], tf.bfloat16)).dtype
        tf.float32
    """
    return tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x


def channel_axes(kernel: tf.Tensor) -> list[int]:
    """The axes over which "per output channel" reduces: all but the last.

    Example:
        >>> channel_axes(tf.zeros((3, 3, 4, 8)))
        [0, 1, 2]
    """
    return list(range(len(kernel.shape) - 1))


def magnitude(kernel: tf.Tensor) -> tf.Tensor:
    """Mean absolute value per output channel, shape `(1, …, 1, cout)`.

    Example:
        >>> magnitude(tf.constant([[1.0, -4.0], [-3.0, 2.0]])).numpy()
        array([[2., 3.]], dtype=float32)
    """
    return tf.reduce_mean(tf.abs(kernel), axis=channel_axes(kernel), keepdims=True)


def channel_norm(kernel: tf.Tensor) -> tf.Tensor:
    """L2 norm per output channel, shape `(1, …, 1, cout)`.

    Example:
        >>> channel_norm(tf.constant([[3.0, 0.0], [-4.0, 1.0]])).numpy()
        array([[5., 1.]], dtype=float32)
    """
    norms = tf.sqrt(channel_sums(tf.square(kernel)))
    return tf.reshape(norms, [1] * (len(kernel.shape) - 1) + [kernel.shape[-1]])


def gradient_ratio(gradient: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`max(‖G‖, 1e-6) / max(‖W‖, 1e-3)` per output channel, shape `(1, …, 1, cout)` (OvSW).

    Example:
        >>> gradient_ratio(tf.constant([[0.1], [0.0]]), tf.constant([[3.0], [4.0]])).numpy()
        array([[0.02]], dtype=float32)
    """
    return tf.maximum(channel_norm(gradient), 1e-6) / tf.maximum(channel_norm(kernel), 1e-3)


def unbiased_variance(x: tf.Tensor, axis: list[int]) -> tf.Tensor:
    """Variance over `axis` with the divisor n - 1 (Bessel's correction); dimensions are kept.

    Example:
        >>> unbiased_variance(tf.constant([1.0, 2.0, 3.0]), [0]).numpy()
        array([1.], dtype=float32)
    """
    shape = tf.shape(x)
    n = tf.cast(tf.reduce_prod(tf.gather(shape, axis)), x.dtype)
    return tf.math.reduce_variance(x, axis=axis, keepdims=True) * (n / (n - 1))


def standardize(kernel: tf.Tensor) -> tf.Tensor:
    """`W0 / sqrt(var(W0) + 1e-5)` with `W0 = W - mean(W)`, per output channel, variance unbiased.

    Gradients flow through the mean and the variance.

    Example:
        >>> standardize(tf.constant([[1.0], [2.0], [3.0]])).numpy().round(2)
        array([[-1.],
               [ 0.],
               [ 1.]], dtype=float32)
    """
    axis = channel_axes(kernel)
    centered = kernel - tf.reduce_mean(kernel, axis=axis, keepdims=True)
    return centered / tf.sqrt(unbiased_variance(centered, axis) + EPSILON)


def recu_standardize(kernel: tf.Tensor) -> tf.Tensor:
    """Standardised kernel with deviation 2√2, on which ReCU's clamp works (ReCU, steps 1 and 2).

    Example:
        >>> recu_standardize(tf.constant([[1.0], [2.0], [3.0]])).numpy().round(2).ravel()
        array([-2.83,  0.  ,  2.83], dtype=float32)
    """
    return standardize(kernel) * (2 * math.sqrt(2))


def recu_bound(standardized: tf.Tensor, tau: tf.Tensor | float) -> tf.Tensor:
    """The quantile `Q(τ) = -E · ln(2 - 2τ)` of a Laplace distribution, `E` the mean |W| of the layer.

    No gradient. `τ = 1` gives infinity, i.e. no clamp.

    Example:
        >>> recu_bound(tf.constant([1.0, -1.0]), tau=0.85).numpy().round(3)
        1.204
    """
    mean = tf.reduce_mean(tf.abs(standardized))
    return tf.stop_gradient(-mean * tf.math.log(2 - 2 * tf.cast(tau, mean.dtype)))


def recu_clamp(kernel: tf.Tensor, tau: tf.Tensor | float) -> tf.Tensor:
    """The rectified clamp unit: the standardised kernel clipped to `±Q(τ)` (ReCU, steps 1 to 4).

    Example:
        >>> recu_clamp(tf.constant([[1.0], [2.0], [30.0]]), tau=0.75).numpy().round(2).ravel()
        array([-1.51, -1.51,  1.51], dtype=float32)
    """
    standardized = recu_standardize(kernel)
    bound = recu_bound(standardized, tau)
    return tf.clip_by_value(standardized, -bound, bound)


def recu_sign(kernel: tf.Tensor, tau: tf.Tensor | float) -> tf.Tensor:
    """`identity_sign(recu_clamp(kernel, tau))`, computed in half the time of a training step.

    The clamped kernel has the sign of `W0 = W - mean(W)`. With `σ = sqrt(var(W0) + 1e-5)`, the standardised
    kernel `Z = 2√2 · W0/σ`, `d = dy · 1[|Z| ≤ Q(τ)]`, and n weights per output channel the gradient is

        dW = 2√2/σ · (d - mean(d) - W0 · sum(d·W0) / ((n-1)·σ²))

    Example:
        >>> kernel = tf.constant([[1.0], [2.0], [30.0]])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(kernel)
        ...     y = recu_sign(kernel, tau=0.75)
        >>> y.numpy().ravel()
        array([-1., -1.,  1.], dtype=float32)
    """
    quantile = -tf.math.log(2 - 2 * tf.cast(tau, kernel.dtype))

    def channel_mean(kernel: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(kernel, axis=channel_axes(kernel), keepdims=True)

    @tf.custom_gradient
    def call(kernel: tf.Tensor) -> tf.Tensor:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            mean = channel_mean(kernel)  # in a graph that of the forward pass; again for second derivatives
            count = tf.cast(tf.size(kernel) // kernel.shape[-1], kernel.dtype)

            def sums(x: tf.Tensor) -> tf.Tensor:
                return tf.reshape(_column_sums(tf.reshape(x, (-1, kernel.shape[-1]))), tf.shape(mean))

            magnitudes, squares = _centered_moments(kernel, mean)
            variance = sums(squares) / (count - 1) + EPSILON
            factor = 2 * math.sqrt(2) * tf.math.rsqrt(variance)
            bound = quantile * tf.reduce_mean(sums(magnitudes) / count * factor)
            passed, product = _clamped_gradient(kernel, mean, bound / factor, upstream)
            slope = sums(product) / ((count - 1) * variance)
            return _standardized_gradient(kernel, mean, factor, passed, sums(passed) / count, slope)

        return sign(kernel - channel_mean(kernel)), gradient

    return call(kernel)


@one_pass
def _centered_moments(kernel: tf.Tensor, mean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    centered = kernel - mean
    return tf.abs(centered), tf.square(centered)


@one_pass
def _clamped_gradient(
    kernel: tf.Tensor, mean: tf.Tensor, bound: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    centered = kernel - mean
    passed = tf.where(tf.abs(centered) <= bound, upstream, tf.zeros_like(upstream))
    return passed, passed * centered


@one_pass
def _standardized_gradient(
    kernel: tf.Tensor,
    mean: tf.Tensor,
    factor: tf.Tensor,
    passed: tf.Tensor,
    mean_passed: tf.Tensor,
    slope: tf.Tensor,
) -> tf.Tensor:
    return factor * (passed - mean_passed - (kernel - mean) * slope)


@tf.custom_gradient
def identity_sign(x: tf.Tensor) -> tf.Tensor:
    """`sign(x)` whose gradient is the identity.

    Example:
        >>> x = tf.constant([-2.0, 0.0, 0.5])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = identity_sign(x)
        >>> y.numpy(), tape.gradient(y, x).numpy()
        (array([-1.,  1.,  1.], dtype=float32), array([1., 1., 1.], dtype=float32))
    """
    return sign(x), lambda upstream: upstream


def clipped_sign(x: tf.Tensor, clip_value: float | None) -> tf.Tensor:
    """`sign(x)` with gradient `dy · 1[|x| ≤ clip_value]`; `None` passes everything.

    Example:
        >>> x = tf.constant([-2.0, 0.0, 0.5])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = clipped_sign(x, clip_value=1.0)
        >>> tape.gradient(y, x).numpy()
        array([0., 1., 1.], dtype=float32)
    """
    if clip_value is None:
        return identity_sign(x)

    @tf.custom_gradient
    def call(x: tf.Tensor) -> tf.Tensor:
        return sign(x), lambda upstream: tf.where(tf.abs(x) <= clip_value, upstream, tf.zeros_like(upstream))

    return call(x)


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(2 - 2 * tf.abs(x))


@one_pass
def signs(x: tf.Tensor) -> tf.Tensor:
    """`sign(x)` for training steps, without gradient.

    Example:
        >>> signs(tf.constant([-2.0, 0.0])).numpy()
        array([-1.,  1.], dtype=float32)
    """
    return sign(x)


def _triangle_gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return upstream * _triangle(x)


def _sign_with_gradient(x: tf.Tensor, formula: Callable[..., tf.Tensor], *statistics: tf.Tensor) -> tf.Tensor:
    """`sign(x)` with the gradient `formula(x, dy, *statistics)`.

    The result of the formula keeps its operands, so that `hard_tanh` can compute it together with its own
    gradient.
    """

    @tf.custom_gradient
    def call(x: tf.Tensor) -> tf.Tensor:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            operands = (x, upstream, *statistics)
            result = _compiled(formula)(*operands)
            if not tf.executing_eagerly():
                result.sign_gradient = formula, operands
            return result

        return signs(x), gradient

    return call(x)


@functools.cache
def _compiled(formula: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return one_pass(formula)


def approx_sign(x: tf.Tensor) -> tf.Tensor:
    """`sign(x)` with gradient `dy · max(0, 2 - 2|x|)` (Bi-Real Net, eq. 7).

    Example:
        >>> x = tf.constant([-2.0, -0.25, 0.0])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = approx_sign(x)
        >>> tape.gradient(y, x).numpy()
        array([0. , 1.5, 2. ], dtype=float32)
    """
    return _sign_with_gradient(x, _triangle_gradient)


def normalized_approx_sign(x: tf.Tensor, stop_gradient: bool) -> tf.Tensor:
    """`approx_sign(x / σ)`, σ the deviation of each sample, without computing the quotient forwards.

    `σ = sqrt(var(x) + 1e-5)`, variance unbiased over all axes but the first. Because σ > 0 the forward
    pass is `sign(x)` alone; with `z = x/σ` and `dz = dy · max(0, 2 - 2|z|)` the gradient is

        dx = dz/σ                                          (`stop_gradient`: OvSW)
        dx = dz/σ - (x - mean(x)) · sum(dz·x) / ((n-1)·σ³)   (through the deviation: ReCU)

    Statistics are computed in float32 for narrower types.

    Example:
        >>> x = tf.constant([[-20.0, 0.0, 20.0]])  # deviation 20
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = normalized_approx_sign(x, stop_gradient=True)
        >>> tape.gradient(y, x).numpy().round(3)
        array([[0. , 0.1, 0. ]], dtype=float32)
    """
    wide = widen(x)
    axis = range(1, len(x.shape))
    rest = tf.cast(tf.reduce_prod(tf.shape(x)[1:]) - 1, wide.dtype)
    mean = tf.reduce_mean(wide, axis, keepdims=True)
    # Both sums are single passes over x, which is in the cache still. Where the mean is so large that their
    # difference rounds, no element is near 0 in units of σ, and the gradient is 0 whatever σ is.
    squares = tf.square(tf.math.reduce_euclidean_norm(wide, axis, keepdims=True))
    variance = tf.nn.relu(squares - (rest + 1) * tf.square(mean)) / rest + EPSILON
    if stop_gradient:
        return _sign_with_gradient(x, _constant_deviation_gradient, tf.math.rsqrt(variance))
    return _sign_with_gradient(x, _deviation_gradient, mean, variance, rest)


def _constant_deviation_gradient(x: tf.Tensor, upstream: tf.Tensor, inverse: tf.Tensor) -> tf.Tensor:
    wide = widen(x)
    return tf.cast(tf.cast(upstream, wide.dtype) * _triangle(wide * inverse) * inverse, x.dtype)


def _deviation_gradient(
    x: tf.Tensor, upstream: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, rest: tf.Tensor
) -> tf.Tensor:
    wide = widen(x)
    inverse = tf.math.rsqrt(variance)
    dz = tf.cast(upstream, wide.dtype) * _triangle(wide * inverse)
    axis = range(1, len(x.shape))
    slope = tf.reduce_sum(dz * wide, axis=axis, keepdims=True) * inverse / (variance * rest)
    return tf.cast(dz * inverse - (wide - mean) * slope, x.dtype)


@tf.custom_gradient
def hard_tanh(x: tf.Tensor) -> tf.Tensor:
    """`min(max(x, -1), 1)`; gradient 1 inside the open interval (-1, 1), 0 at ±1 and beyond, as PyTorch's.

    `tf.clip_by_value`, which inference uses, passes the gradient at exactly ±1.

    Where the result goes into a shortcut and into a sign, its gradient is the sum of both; the sign's
    gradient, the sum and this one are one loop over the activations then, in place of three.

    Example:
        >>> x = tf.constant([-3.0, 0.5, 1.0])
        >>> with tf.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = hard_tanh(x)
        >>> y.numpy(), tape.gradient(y, x).numpy()
        (array([-1. ,  0.5,  1. ], dtype=float32), array([0., 1., 0.], dtype=float32))
    """
    # Not `one_pass`: TensorFlow's own operations write over their input, which is in the cache.
    y = tf.clip_by_value(x, -1.0, 1.0)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        if tf.executing_eagerly():
            return _inside(y, upstream)
        summands = list(upstream.op.inputs) if upstream.op.type == "AddN" else [upstream]
        place = next((n for n, summand in enumerate(summands) if hasattr(summand, "sign_gradient")), None)
        if place is None:
            return _inside(y, upstream)
        formula, operands = summands.pop(place).sign_gradient  # of y + y it is there twice
        return _inside_with_signs(formula, len(summands))(y, *summands, *operands)

    return y, gradient


@one_pass
def _inside(y: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.abs(y) < 1, upstream, tf.zeros_like(upstream))


@functools.cache
def _inside_with_signs(formula: Callable[..., tf.Tensor], others: int) -> Callable[..., tf.Tensor]:
    @one_pass
    def gradient(y: tf.Tensor, *operands: tf.Tensor) -> tf.Tensor:
        upstream = tf.add_n([*operands[:others], formula(*operands[others:])])
        return tf.where(tf.abs(y) < 1, upstream, tf.zeros_like(upstream))

    return gradient


def leaky_clip(x: tf.Tensor, slope: float = 0.1) -> tf.Tensor:
    """Identity inside [-1, 1], `±1 + slope·(x ∓ 1)` outside; the gradient is 1 inside, `slope` outside.

    Example:
        >>> leaky_clip(tf.constant([-3.0, 0.5, 2.0])).numpy()
        array([-1.2,  0.5,  1.1], dtype=float32)
    """
    return (1 - slope) * tf.clip_by_value(x, -1.0, 1.0) + slope * x


def channel_sums(x: tf.Tensor) -> tf.Tensor:
    """Sums over all axes but the last, shape `(channels,)`, in float32 for narrower types.

    Products with rows of ones run at the speed of memory, several times that of `tf.reduce_sum`. The first
    adds up the images, the second their places: two short chains of additions round less than a long one.

    Example:
        >>> channel_sums(tf.ones((2, 4, 4, 3))).numpy()
        array([32., 32., 32.], dtype=float32)
    """
    shape = tf.shape(x)
    of_images = tf.reshape(widen(x), (shape[0], tf.reduce_prod(shape[1:])))
    of_places = tf.reshape(_column_sums(of_images), (-1, x.shape[-1]))
    return _column_sums(of_places)[0]


def _column_sums(matrix: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matmul(tf.ones((1, tf.shape(matrix)[0]), matrix.dtype), matrix)


def channel_scale(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """`α_c · x` for training steps, `α` of shape `(channels,)`; its gradient is summed in α's own type.

    Example:
        >>> channel_scale(tf.ones((1, 1, 1, 2)), tf.constant([0.5, 2.0])).numpy().ravel()
        array([0.5, 2. ], dtype=float32)
    """

    @tf.custom_gradient
    def call(x: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_x, product = _scale_gradients(x, scale, upstream)
            return to_x, tf.cast(channel_sums(product), scale.dtype)

        return x * tf.cast(scale, x.dtype), gradient

    return call(x, tf.convert_to_tensor(scale))


@one_pass
def _scale_gradients(x: tf.Tensor, scale: tf.Tensor, upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return upstream * tf.cast(scale, upstream.dtype), widen(upstream) * widen(x)


def channel_shift(x: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """`x + b_c` for training steps, `b` of shape `(channels,)`; its gradient is summed in b's own type.

    Example:
        >>> channel_shift(tf.ones((1, 1, 1, 2)), tf.constant([0.5, -1.0])).numpy().ravel()
        array([1.5, 0. ], dtype=float32)
    """

    @tf.custom_gradient
    def call(x: tf.Tensor, shift: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream, tf.cast(channel_sums(upstream), shift.dtype)

        return x + tf.cast(shift, x.dtype), gradient

    return call(x, tf.convert_to_tensor(shift))


def batch_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """BatchNorm of a training step: `γ·(x - mean)/sqrt(var + ε) + β` per channel, mean and var of the batch.

    Each pass over the activations is one loop, and the sums are matrix products: on the CPU a third of
    the time of TensorFlow's fused operation, and closer to the exact result.

    Returns:
        The normalised activations in x's type; mean and biased variance, `(channels,)`, without gradient.

    Example:
        >>> x = tf.reshape(tf.constant([1.0, 3.0]), (2, 1, 1, 1))
        >>> y, mean, variance = batch_norm(x, tf.ones(1), tf.zeros(1), epsilon=1e-3)
        >>> y.numpy().round(2).ravel(), mean.numpy(), variance.numpy()
        (array([-1.,  1.], dtype=float32), array([2.], dtype=float32), array([1.], dtype=float32))
    """
    count = tf.cast(tf.maximum(tf.size(x) // x.shape[-1], 1), gamma.dtype)
    mean = tf.stop_gradient(channel_sums(x) / count)
    variance = tf.stop_gradient(channel_sums(_squared_distances(x, mean)) / count)
    inverse = tf.math.rsqrt(variance + epsilon)

    @tf.custom_gradient
    def call(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Any]:
        factor = gamma * inverse

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            to_beta = channel_sums(upstream)
            to_gamma = channel_sums(_centered_products(x, mean, upstream)) * inverse
            slope = to_gamma * inverse / count
            return (
                _normalization_gradient(x, mean, upstream, factor, to_beta / count, slope),
                to_gamma,
                to_beta,
            )

        return _normalize(x, mean, factor, beta), gradient

    return call(x, gamma, beta), mean, variance


@one_pass
def _squared_distances(x: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    return tf.square(widen(x) - mean)


@one_pass
def _normalize(x: tf.Tensor, mean: tf.Tensor, factor: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    return tf.cast((widen(x) - mean) * factor + beta, x.dtype)


@one_pass
def _centered_products(x: tf.Tensor, mean: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return widen(upstream) * (widen(x) - mean)


@one_pass
def _normalization_gradient(
    x: tf.Tensor, mean: tf.Tensor, upstream: tf.Tensor, factor: tf.Tensor, shift: tf.Tensor, slope: tf.Tensor
) -> tf.Tensor:
    return tf.cast(factor * (widen(upstream) - shift - (widen(x) - mean) * slope), x.dtype)
