"""The formulas of the four methods as pure functions of tensors.

Layout: activations NHWC, convolution kernels HWIO `(kh, kw, cin, cout)`. "Per output channel" means
over all axes of a kernel but the last. `sign(0) = +1`, as in Larq.
"""

import math

from bnn_tf._tensorflow import lq, tf

EPSILON = 1e-5  # added to every variance under a root

sign = lq.math.sign


def widen(x: tf.Tensor) -> tf.Tensor:
    """`x` in float32 where its type is narrower, else as it is."""
    return tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x


def channel_axes(kernel: tf.Tensor) -> list[int]:
    """The axes over which "per output channel" reduces: all but the last."""
    return list(range(len(kernel.shape) - 1))


def magnitude(kernel: tf.Tensor) -> tf.Tensor:
    """Mean absolute value per output channel, shape `(1, …, 1, cout)`."""
    return tf.reduce_mean(tf.abs(kernel), axis=channel_axes(kernel), keepdims=True)


def channel_norm(kernel: tf.Tensor) -> tf.Tensor:
    """L2 norm per output channel, shape `(1, …, 1, cout)`."""
    return tf.sqrt(tf.reduce_sum(tf.square(kernel), axis=channel_axes(kernel), keepdims=True))


def gradient_ratio(gradient: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`max(‖G‖, 1e-6) / max(‖W‖, 1e-3)` per output channel, shape `(1, …, 1, cout)` (OvSW)."""
    return tf.maximum(channel_norm(gradient), 1e-6) / tf.maximum(channel_norm(kernel), 1e-3)


def unbiased_variance(x: tf.Tensor, axis: list[int]) -> tf.Tensor:
    """Variance over `axis` with the divisor n - 1 (Bessel's correction); dimensions are kept."""
    shape = tf.shape(x)
    n = tf.cast(tf.reduce_prod(tf.gather(shape, axis)), x.dtype)
    return tf.math.reduce_variance(x, axis=axis, keepdims=True) * (n / (n - 1))


def standardize(kernel: tf.Tensor) -> tf.Tensor:
    """`W0 / sqrt(var(W0) + 1e-5)` with `W0 = W - mean(W)`, per output channel, variance unbiased.

    Gradients flow through the mean and the variance.
    """
    axis = channel_axes(kernel)
    centered = kernel - tf.reduce_mean(kernel, axis=axis, keepdims=True)
    return centered / tf.sqrt(unbiased_variance(centered, axis) + EPSILON)


def recu_standardize(kernel: tf.Tensor) -> tf.Tensor:
    """Standardised kernel with deviation 2√2, on which ReCU's clamp works (ReCU, steps 1 and 2)."""
    return standardize(kernel) * (2 * math.sqrt(2))


def recu_bound(standardized: tf.Tensor, tau: tf.Tensor | float) -> tf.Tensor:
    """The quantile `Q(τ) = -E · ln(2 - 2τ)` of a Laplace distribution, `E` the mean |W| of the layer.

    No gradient. `τ = 1` gives infinity, i.e. no clamp.
    """
    mean = tf.reduce_mean(tf.abs(standardized))
    return tf.stop_gradient(-mean * tf.math.log(2 - 2 * tf.cast(tau, mean.dtype)))


def recu_clamp(kernel: tf.Tensor, tau: tf.Tensor | float) -> tf.Tensor:
    """The rectified clamp unit: the standardised kernel clipped to `±Q(τ)` (ReCU, steps 1 to 4)."""
    standardized = recu_standardize(kernel)
    bound = recu_bound(standardized, tau)
    return tf.clip_by_value(standardized, -bound, bound)


@tf.custom_gradient
def identity_sign(x: tf.Tensor) -> tf.Tensor:
    """`sign(x)` whose gradient is the identity."""
    return sign(x), lambda upstream: upstream


def clipped_sign(x: tf.Tensor, clip_value: float | None) -> tf.Tensor:
    """`sign(x)` with gradient `dy · 1[|x| ≤ clip_value]`; `None` passes everything."""
    if clip_value is None:
        return identity_sign(x)

    @tf.custom_gradient
    def call(x: tf.Tensor) -> tf.Tensor:
        return sign(x), lambda upstream: tf.where(tf.abs(x) <= clip_value, upstream, tf.zeros_like(upstream))

    return call(x)


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(2 - 2 * tf.abs(x))


@tf.custom_gradient
def approx_sign(x: tf.Tensor) -> tf.Tensor:
    """`sign(x)` with gradient `dy · max(0, 2 - 2|x|)` (Bi-Real Net, eq. 7)."""
    return sign(x), lambda upstream: upstream * _triangle(x)


def normalized_approx_sign(x: tf.Tensor, stop_gradient: bool) -> tf.Tensor:
    """`approx_sign(x / σ)`, σ the deviation of each sample, without computing the quotient forwards.

    `σ = sqrt(var(x) + 1e-5)`, variance unbiased over all axes but the first. Because σ > 0 the forward
    pass is `sign(x)` alone; with `z = x/σ` and `dz = dy · max(0, 2 - 2|z|)` the gradient is

        dx = dz/σ                                          (`stop_gradient`: OvSW)
        dx = dz/σ - (x - mean(x)) · sum(dz·x) / ((n-1)·σ³)   (through the deviation: ReCU)

    Statistics are computed in float32 for narrower types.
    """

    @tf.custom_gradient
    def call(x: tf.Tensor) -> tf.Tensor:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            wide = widen(x)
            axis = list(range(1, len(wide.shape)))
            variance = unbiased_variance(wide, axis) + EPSILON
            inverse = tf.math.rsqrt(variance)
            dz = tf.cast(upstream, wide.dtype) * _triangle(wide * inverse)
            dx = dz * inverse
            if not stop_gradient:
                n = tf.cast(tf.reduce_prod(tf.shape(wide)[1:]), wide.dtype)
                slope = tf.reduce_sum(dz * wide, axis=axis, keepdims=True) * inverse / (variance * (n - 1))
                dx -= (wide - tf.reduce_mean(wide, axis=axis, keepdims=True)) * slope
            return tf.cast(dx, x.dtype)

        return sign(x), gradient

    return call(x)


def hard_tanh(x: tf.Tensor) -> tf.Tensor:
    """`max(min(x, 1), -1)`; gradient 1 inside the open interval (-1, 1), 0 at ±1 and beyond, as PyTorch's.

    `tf.clip_by_value` passes the gradient at exactly ±1. Where both operands are equal, TensorFlow gives the
    gradient of a minimum or maximum to the first one: here the constant.
    """
    return tf.maximum(-1.0, tf.minimum(1.0, x))


def leaky_clip(x: tf.Tensor, slope: float = 0.1) -> tf.Tensor:
    """Identity inside [-1, 1], `±1 + slope·(x ∓ 1)` outside; the gradient is 1 inside, `slope` outside."""
    return (1 - slope) * tf.clip_by_value(x, -1.0, 1.0) + slope * x
