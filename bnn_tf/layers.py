"""Layers that the methods' networks need beside Larq's and Keras'."""

from typing import Any

from bnn_tf import math
from bnn_tf._tensorflow import tf

_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")


@_serializable
class OutputScale(tf.keras.layers.Layer):
    """Learned scale per channel: `y = α_o · x`.

    After a binary convolution it replaces the analytical scale of the kernel (ReCU, eq. 4). Larq Compute
    Engine folds it, together with the BatchNorm that follows, into the convolution.

    Args:
        initializer: Start of α, shape `(channels,)`; uniform in [0, 1) by default.
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    def __init__(self, initializer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if initializer is None:
            initializer = tf.keras.initializers.RandomUniform(0.0, 1.0)
        self.initializer = tf.keras.initializers.get(initializer)

    def build(self, input_shape: Any) -> None:
        """Creates α with one element per channel."""
        self.scale = self.add_weight("scale", shape=(input_shape[-1],), initializer=self.initializer)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiplies each channel by its scale."""
        return inputs * self.scale

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "initializer": tf.keras.initializers.serialize(self.initializer)}


@_serializable
class LearnableBias(tf.keras.layers.Layer):
    """Learned shift per channel: `y = x + b_c`, `b` starting at 0 (ReActNet's generalised activations)."""

    def build(self, input_shape: Any) -> None:
        """Creates b with one element per channel."""
        self.bias = self.add_weight("bias", shape=(input_shape[-1],), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Adds each channel's bias."""
        return inputs + self.bias


@_serializable
class HardTanh(tf.keras.layers.Layer):
    """`max(min(x, 1), -1)`; gradient 1 inside the open interval (-1, 1), 0 at ±1 and beyond."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Clips to [-1, 1]."""
        return math.hard_tanh(inputs)


@_serializable
class LeakyClip(tf.keras.layers.Layer):
    """Identity inside [-1, 1], slope 0.1 outside (Bi-Real Net's first softened sign)."""

    def __init__(self, slope: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slope = slope

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
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Reverses both spatial axes."""
        return tf.reverse(inputs, axis=[1, 2])


@_serializable
class ChannelPad(tf.keras.layers.Layer):
    """Zero channels on both sides: `(…, c)` becomes `(…, before + c + after)`.

    The parameter-free shortcut of the CIFAR networks.
    """

    def __init__(self, before: int, after: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pads the last axis."""
        return tf.pad(inputs, [[0, 0]] * (len(inputs.shape) - 1) + [[self.before, self.after]])

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "before": self.before, "after": self.after}
