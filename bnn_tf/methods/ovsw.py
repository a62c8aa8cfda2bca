"""OvSW, overcoming silent weights (ECCV 2024, https://arxiv.org/abs/2407.05257)."""

import dataclasses
import os
from typing import ClassVar

from bnn_tf import math, quantizers, transforms
from bnn_tf._tensorflow import tf
from bnn_tf.layers import OutputScale
from bnn_tf.methods.base import Method
from bnn_tf.telemetry import KernelTelemetry, TelemetryLog


@dataclasses.dataclass(frozen=True)
class OvSW(Method):
    """Adaptive gradient scaling and silence-aware decay of binary kernels.

    Args:
        delta: δ of adaptive gradient scaling; 0 or `None` switches it off.
        silence_decay: λ_s of silence-aware decay; 0 or `None` switches it off.
        silence_momentum: Decay of the flip trackers.
        silence_threshold: Trackers below it mark silent weights.
        silence_initial: Start of the trackers.
        scale: Output scale: `"standardized"` (analytical, no gradient) or `"learned"` (from mean |W|).
        telemetry: Measure flips, silent weights and scaled channels in every step.
    """

    delta: float | None = 0.04
    silence_decay: float | None = 9e-4
    silence_momentum: float = 0.999
    silence_threshold: float = 1e-4
    silence_initial: float = 0.0
    scale: str = "standardized"
    telemetry: bool = True
    name: ClassVar[str] = "ovsw"
    kernel_initializer: ClassVar[str] = "he_normal"

    def __post_init__(self) -> None:
        """Checks the kind of scale."""
        if self.scale not in ("standardized", "learned"):
            raise ValueError(f"scale must be standardized or learned, not {self.scale!r}")

    def input_quantizer(self) -> quantizers.ApproxSign:
        """The approximate sign at the normalised input, the deviation taken as constant."""
        return quantizers.ApproxSign(normalize=True, stop_gradient=True)

    def kernel_quantizer(self, kernel_size: int, name: str) -> quantizers.IdentitySign:
        """The sign with the identity gradient, and the analytical scale where asked for."""
        return quantizers.IdentitySign(scale="standardized" if self.scale == "standardized" else None)

    def output_scale(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """The learned scale, starting at the mean |W| of each output channel."""
        if self.scale != "learned":
            return x
        layer = OutputScale(name=f"{conv.name}_scale")
        y = layer(x)
        latent = transforms.latent_value(conv.kernel)
        layer.scale.assign(tf.reshape(math.magnitude(latent), (-1,)))
        return y

    def transforms(self) -> tuple[transforms.Transform, ...]:
        """Telemetry, gradient scaling, then silence-aware decay on its result."""
        chain: list[transforms.Transform] = []
        if self.telemetry:
            telemetry = KernelTelemetry(self.delta or 0.0, self.silence_momentum, self.silence_threshold)
            chain.append(telemetry)
        if self.delta:
            chain.append(transforms.AdaptiveGradientScale(self.delta))
        if self.silence_decay:
            chain.append(
                transforms.SilenceDecay(
                    self.silence_decay, self.silence_momentum, self.silence_threshold, self.silence_initial
                )
            )
        return tuple(chain)

    def callbacks(
        self, epochs: int, log_dir: str | os.PathLike | None = None
    ) -> list[tf.keras.callbacks.Callback]:
        """The telemetry's means in each epoch's logs."""
        return [TelemetryLog(log_dir)] if self.telemetry else []
