"""ReCU (ICCV 2021, https://arxiv.org/abs/2103.12369)."""

import dataclasses
import os
from typing import ClassVar

from bnn_tf import quantizers
from bnn_tf._tensorflow import tf
from bnn_tf.callbacks import TauSchedule
from bnn_tf.layers import OutputScale
from bnn_tf.methods.base import Method


@dataclasses.dataclass(frozen=True)
class ReCU(Method):
    """Rectified clamp unit on kernels, learned output scale, normalised activations in training.

    Args:
        tau_min: The clamp's quantile τ in the first epoch.
        tau_max: What τ approaches in the last.
    """

    tau_min: float = 0.85
    tau_max: float = 0.99
    name: ClassVar[str] = "recu"
    kernel_initializer: ClassVar[str] = "he_normal"

    def __post_init__(self) -> None:
        """Checks the quantiles; up to a half, the clamp's bound would be zero or below."""
        if not 0.5 < self.tau_min <= self.tau_max <= 1:
            raise ValueError(
                f"0.5 < tau_min <= tau_max <= 1 must hold, not tau_min={self.tau_min}, tau_max={self.tau_max}"
            )

    def input_quantizer(self) -> quantizers.ApproxSign:
        """The approximate sign with its gradient taken at the normalised input."""
        return quantizers.ApproxSign(normalize=True)

    def kernel_quantizer(self, kernel_size: int, name: str) -> quantizers.ReCU:
        """The clamp unit, starting at `tau_min`."""
        return quantizers.ReCU(tau=self.tau_min)

    def output_scale(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """The learned α."""
        return OutputScale(name=f"{conv.name}_scale")(x)

    def callbacks(
        self, epochs: int, log_dir: str | os.PathLike | None = None
    ) -> list[tf.keras.callbacks.Callback]:
        """The schedule of τ."""
        return [TauSchedule(epochs, self.tau_min, self.tau_max)]
