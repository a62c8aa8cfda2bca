"""Keras layers that compute with 8-bit numbers in floating point, as the converted file will.

Each holds TensorFlow's fake-quant operations, from which the converter takes the ranges of the int8
tensors. Their gradient is that of the identity inside the range and 0 outside, so networks of these
layers can be trained.
"""

from typing import Any

import numpy as np

from bnn_tf._tensorflow import tf

_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")


@_serializable
class FakeQuant(tf.keras.layers.Layer):
    """Rounds to the 256 levels of an int8 tensor: `y = s · (clip(round(x / s) + z, -128, 127) - z)`.

    Scale s and zero point z follow from the range; 0 is always a level.

    Args:
        minimum: Lower end of the range, at most 0.
        maximum: Upper end, at least 0.
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    def __init__(self, minimum: float, maximum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    @property
    def step(self) -> float:
        """Distance s of two levels."""
        return (self.maximum - self.minimum) / 255

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Rounds to the levels."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.minimum, self.maximum)

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration."""
        return {**super().get_config(), "minimum": self.minimum, "maximum": self.maximum}


class _FakeQuantKernel:
    """A layer whose kernel is rounded to 255 levels, symmetric around 0."""

    kernel: tf.Variable

    def build(self, input_shape: Any) -> None:
        """Creates the weights; `kernel_range` is the largest magnitude of the kernel."""
        super().build(input_shape)  # type: ignore[misc]
        shape = self.range_of(self.kernel).shape
        self.kernel_range = self.add_weight(  # type: ignore[attr-defined]
            "kernel_range", shape=shape, initializer="ones", trainable=False
        )

    @classmethod
    def range_of(cls, kernel: tf.Tensor | np.ndarray) -> tf.Tensor:
        """Largest magnitude of a kernel, above 0."""
        return tf.maximum(tf.reduce_max(tf.abs(kernel)), 1e-6)


@_serializable
class FakeQuantConv2D(_FakeQuantKernel, tf.keras.layers.Conv2D):
    """A convolution with an int8 kernel; each output channel has a range of its own."""

    @classmethod
    def range_of(cls, kernel: tf.Tensor | np.ndarray) -> tf.Tensor:
        """Largest magnitude of each output channel, above 0."""
        return tf.maximum(tf.reduce_max(tf.abs(kernel), axis=[0, 1, 2]), 1e-6)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves with the rounded kernel."""
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -self.kernel_range, self.kernel_range, narrow_range=True
        )
        return super().convolution_op(inputs, rounded)


@_serializable
class FakeQuantDense(_FakeQuantKernel, tf.keras.layers.Dense):
    """A dense layer with an int8 kernel, which has one range.

    Ranges per output would make the file of a classifier 5 % larger, and the converter takes them for
    convolutions only.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`(n, features)` becomes `(n, units)`."""
        rounded = tf.quantization.fake_quant_with_min_max_vars(
            self.kernel, -self.kernel_range, self.kernel_range, narrow_range=True
        )
        outputs = tf.matmul(inputs, rounded)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)
