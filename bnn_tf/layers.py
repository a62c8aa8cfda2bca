"""Layers that the methods' networks need beside Larq's and Keras'.

In training they compute what they compute in inference, in fewer passes over the activations and with
gradients of their own; the graphs that are converted or saved for inference hold plain operations.
"""

import types
from typing import Annotated, Any

from bnn_tf import math
from bnn_tf._tensorflow import keras_calls, lq, tf, util_port
from bnn_tf.values import NotNegative, Range, check

_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")


@_serializable
class OutputScale(tf.keras.layers.Layer):
    """Learned scale per channel: `y = α_o · x`.

    Behind a binary convolution, `quantizers.ReCU(scale="learned")` does the same in fewer passes over the
    activations; the layer is for everything else. It is folded, together with a BatchNorm that follows, into
    a convolution before it.

    Args:
        initializer: Start of α, shape `(channels,)`; uniform in [0, 1) by default.
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Example:
        >>> OutputScale("ones")(tf.constant([[1.0, -2.0]])).numpy()
        array([[ 1., -2.]], dtype=float32)
    """

    def __init__(self, initializer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if initializer is None:
            initializer = tf.keras.initializers.RandomUniform(0.0, 1.0)
        self.initializer = tf.keras.initializers.get(initializer)

    def build(self, input_shape: Any) -> None:
        """Creates α with one element per channel."""
        self.scale = self.add_weight(
            "scale", shape=(input_shape[-1],), initializer=self.initializer, experimental_autocast=False
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Multiplies each channel by its scale."""
        return (
            math.channel_scale(inputs, self.scale) if training else inputs * tf.cast(self.scale, inputs.dtype)
        )

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "initializer": tf.keras.initializers.serialize(self.initializer)}


@_serializable
class LearnableBias(tf.keras.layers.Layer):
    """Learned shift per channel: `y = x + b_c`, `b` starting at 0 (ReActNet's generalised activations).

    Example:
        >>> LearnableBias()(tf.constant([[1.0, -2.0]])).numpy()
        array([[ 1., -2.]], dtype=float32)
    """

    def build(self, input_shape: Any) -> None:
        """Creates b with one element per channel."""
        self.bias = self.add_weight(
            "bias", shape=(input_shape[-1],), initializer="zeros", experimental_autocast=False
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Adds each channel's bias."""
        return (
            math.channel_shift(inputs, self.bias) if training else inputs + tf.cast(self.bias, inputs.dtype)
        )


@_serializable
class HardTanh(tf.keras.layers.Layer):
    """`min(max(x, -1), 1)`; gradient in training 1 inside the open interval (-1, 1), 0 at ±1 and beyond.

    Example:
        >>> HardTanh()(tf.constant([-3.0, 0.5, 3.0])).numpy()
        array([-1. ,  0.5,  1. ], dtype=float32)
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Clips to [-1, 1]."""
        return math.hard_tanh(inputs) if training else tf.clip_by_value(inputs, -1.0, 1.0)


@_serializable
class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Keras' layer, in training steps by `math.batch_norm` where the CPU has no faster kernel.

    TensorFlow's own CPU kernel takes three times as long, and no kernel of oneDNN computes narrower types on
    every processor. Everything else is Keras': arguments, variables, inference, training in float32 with
    oneDNN, on accelerators, eagerly, or with settings that TensorFlow's fused operation does not take either
    (`renorm`, `synchronized`, another axis). Running averages take the unbiased variance, as Keras' fused
    path does.

    Example:
        >>> norm = BatchNormalization(epsilon=0.0)
        >>> norm(tf.constant([[[[1.0]], [[3.0]]]]), training=True).numpy().ravel()
        array([-1.,  1.], dtype=float32)
    """

    def call(self, inputs: tf.Tensor, training: Any = None, mask: Any = None) -> tf.Tensor:
        """Normalises, in training by the batch's statistics, otherwise by the running averages."""
        trains = training is True and self.trainable and self.center and self.scale and mask is None
        fast = self.compute_dtype == "float32" and util_port.IsMklEnabled()
        if fast or not (trains and self.fused and self._data_format == "NHWC" and math.compiles(inputs)):
            return super().call(inputs, training=training, mask=mask)
        inputs = tf.cast(inputs, self.compute_dtype)
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        outputs, mean, variance = math.batch_norm(inputs, gamma, beta, self.epsilon)
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        unbiased = variance * (count / tf.maximum(count - 1, 1))
        # A replica may get none of a small batch's images, and has nothing to average then.
        share = tf.where(count > 0, 1 - self.momentum, 0.0)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            average.assign_sub((average - value) * share)
        return outputs


def recompute_signs(conv: tf.keras.layers.Layer) -> None:
    """Makes training steps compute the signs that `conv` convolves a second time instead of keeping them.

    The gradient of the kernel needs the quantized input, one bit for each of its floats. What the signs were
    taken of is kept in any case, for the quantizer's gradient, so that the backward pass can take them again:
    a sixth less memory, and one per cent more time at most. First-order gradients are the same bit for bit.

    It changes this object only, in nothing that is saved or converted: inference, eager training, and copies
    from its configuration run Larq's own code. Where XLA compiles the whole step (`--jit`), it decides itself
    what to keep.

    Args:
        conv: A `larq.layers.QuantConv2D` without bias and activation, in one group, whose input quantizer is
            one of `quantizers.SIGNS`.

    Example:
        >>> conv = lq.layers.QuantConv2D(8, 3, use_bias=False, input_quantizer="approx_sign")
        >>> recompute_signs(conv)
        >>> tf.function(conv)(tf.ones((1, 4, 4, 2)), training=True).shape
        TensorShape([1, 2, 2, 8])
    """
    conv.call = types.MethodType(_convolve_signs, conv)


def _convolve_signs(self: Any, inputs: tf.Tensor) -> tf.Tensor:
    """The call of a layer that `recompute_signs` was told of."""
    # Eagerly the convolution would run a second time too; in graphs TensorFlow leaves that out, because
    # nothing uses its result.
    if keras_calls.call_context().training is not True or tf.executing_eagerly():
        return type(self).call(self, inputs)

    def convolve(signs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self._is_native_padding:
            return self.convolution_op(signs, kernel)
        padded = tf.pad(signs, self._get_padding_same(signs), constant_values=self.pad_values)
        with lq.utils.patch_object(self, "padding", "valid"):  # as Larq itself does
            return self.convolution_op(padded, kernel)

    @tf.custom_gradient
    def call(inputs: tf.Tensor, signs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tuple[None, tf.Tensor, tf.Tensor]:
            # Without the dependency they would be merged with those of the forward pass.
            with tf.control_dependencies([upstream]):
                again = math.signs(inputs)
            with tf.GradientTape() as tape:
                tape.watch((again, kernel))
                outputs = convolve(again, kernel)
            return (None, *tape.gradient(outputs, (again, kernel), upstream))

        return convolve(signs, kernel), gradient

    signs = self.input_quantizer(inputs)
    with lq.context.quantized_scope(True):
        kernel = tf.convert_to_tensor(self.kernel)
    return call(inputs, signs, kernel)


@_serializable
class LeakyClip(tf.keras.layers.Layer):
    """Identity inside [-1, 1], `slope` outside (Bi-Real Net's first softened sign).

    Args:
        slope: Slope outside, at least 0.
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: the slope is negative or no number.

    Example:
        >>> LeakyClip(0.5)(tf.constant([-3.0, 0.5, 3.0])).numpy()
        array([-2. ,  0.5,  2. ], dtype=float32)
    """

    def __init__(self, slope: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = check("slope", slope, NotNegative)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Clips with a leak."""
        return math.leaky_clip(inputs, self.slope)

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "slope": self.slope}


@_serializable
class Flip(tf.keras.layers.Layer):
    """The map turned by 180°: rows and columns of `(n, h, w, c)` in reverse order.

    With every kernel turned as well, a network computes what it did before, except for the padding of
    strided layers: TensorFlow's `same` pads even sizes at the bottom and right, PyTorch's `padding` at the
    top and left. Behind a `Flip`, a network with turned kernels is the PyTorch network exactly.

    Example:
        >>> Flip()(tf.constant([[[[1.0], [2.0]], [[3.0], [4.0]]]])).numpy().ravel()
        array([4., 3., 2., 1.], dtype=float32)
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Reverses both spatial axes."""
        return tf.reverse(inputs, axis=[1, 2])


@_serializable
class ChannelPad(tf.keras.layers.Layer):
    """Zero channels on both sides: `(…, c)` becomes `(…, before + c + after)`.

    The parameter-free shortcut of the CIFAR networks.

    Args:
        before: Channels of zeros in front.
        after: Channels of zeros behind.
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: a number is negative or no whole number.

    Example:
        >>> ChannelPad(1, 2)(tf.constant([[5.0]])).numpy()
        array([[0., 5., 0., 0.]], dtype=float32)
    """

    def __init__(self, before: int, after: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before = check("before", before, Annotated[int, Range(least=0)])
        self.after = check("after", after, Annotated[int, Range(least=0)])

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pads the last axis."""
        return tf.pad(inputs, [[0, 0]] * (len(inputs.shape) - 1) + [[self.before, self.after]])

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "before": self.before, "after": self.after}


@_serializable
class BlurInitializer(tf.keras.initializers.Initializer):
    """The binomial filter `[1, 2, 1]ᵀ[1, 2, 1] / 16` for 3×3 depthwise kernels `(3, 3, c, 1)` (BlurPool).

    Example:
        >>> BlurInitializer()((3, 3, 1, 1)).numpy().sum()
        1.0
    """

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        """The kernel of a shape."""
        row = tf.constant([1.0, 2.0, 1.0], dtype or tf.float32)
        kernel = row[:, None, None, None] * row[None, :, None, None] / 16
        return tf.broadcast_to(kernel, shape)
