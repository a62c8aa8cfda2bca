"""Real-valued stand-ins for binary layers, from which multi-step training starts."""

import dataclasses
from typing import ClassVar

from bnn_tf import layers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.methods.base import Method
from bnn_tf.quantizers import ApproxSign

_ACTIVATIONS = {
    "relu": tf.keras.layers.ReLU,
    "leaky_clip": layers.LeakyClip,
    "clip": layers.HardTanh,
}


@dataclasses.dataclass(frozen=True)
class Real(Method):
    """Real weights, and in place of the sign one of four activations.

    `relu`, `leaky_clip` and `clip` are the first three steps of Bi-Real Net's own training; `sign`
    (binary activations, real weights) is the first step of SNN's and of ReCU's two-stage training.

    The activation stands before each convolution, or, in networks that have a hard-tanh after their sums
    (CIFAR's, ReCU's and OvSW's), in its place; `sign` leaves the hard-tanh where it is.
    """

    activation_name: str = "relu"
    name: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        """Checks the activation's name."""
        if self.activation_name not in (*_ACTIVATIONS, "sign"):
            raise ValueError(
                f"activation_name must be relu, leaky_clip, clip or sign, not {self.activation_name!r}"
            )

    def activation(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The real-valued activation."""
        layer = _ACTIVATIONS.get(self.activation_name)
        return layer(name=name)(x) if layer else x

    def clip(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The real-valued activation; hard-tanh before a sign."""
        return super().clip(x, name) if self.activation_name == "sign" else self.activation(x, name)

    def input_quantizer(self) -> lq.quantizers.Quantizer | None:
        """The approximate sign where that is the activation."""
        return ApproxSign() if self.activation_name == "sign" else None

    def kernel_quantizer(self, kernel_size: int, name: str) -> None:
        """None: the kernel stays real."""
