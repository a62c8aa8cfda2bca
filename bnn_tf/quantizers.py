"""Quantizers of the four methods for Larq's layers.

Each is a `larq.quantizers.Quantizer` with `precision = 1`: callable on a tensor, serialisable, usable
as `input_quantizer=` or `kernel_quantizer=`, by object or by its string alias. Importing this module
makes everything that a saved model of this package can name known to Keras.
"""

from typing import Any

import bnn_tf.layers
import bnn_tf.optimizers  # noqa: F401  (saved models name them; loading must find them)
from bnn_tf import codebook, math
from bnn_tf._tensorflow import lq, tf

_serializable = tf.keras.utils.register_keras_serializable(package="bnn_tf")


@_serializable
class ApproxSign(lq.quantizers.Quantizer):
    """Sign of activations with a triangular gradient (Bi-Real Net, eq. 7).

    Forward `sign(x)`; backward `dy · max(0, 2 - 2|x|)`. The string `"approx_sign"` is Larq's quantizer
    of the same name, which equals this one's default.

    Args:
        normalize: In training, take the gradient at `x/σ` instead of `x`, with σ each sample's
            deviation (unbiased variance over H, W, C, plus 1e-5) (ReCU). Evaluation does not change.
        stop_gradient: Treat σ as a constant (OvSW) instead of differentiating through it (ReCU).
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    precision = 1

    def __init__(self, normalize: bool = False, stop_gradient: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize, self.stop_gradient = normalize, stop_gradient

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Signs of `inputs`, any shape with the batch first."""
        if self.normalize and training:
            return math.normalized_approx_sign(inputs, self.stop_gradient)
        return math.approx_sign(inputs)

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "normalize": self.normalize, "stop_gradient": self.stop_gradient}


@lq.utils.register_alias("scaled_sign")
@_serializable
class ScaledSign(lq.quantizers.Quantizer):
    """Bi-Real Net's kernel: `Ŵ = s_o · sign(W)`, `s_o` the mean |W| per output channel.

    Gradient `dL/dW = dL/dŴ · 1[|W| ≤ clip_value]`: none through `s_o`, and not scaled by it (Larq's
    `MagnitudeAwareSign` is).

    Args:
        clip_value: Where the gradient ends; `None` passes all of it (the paper's multi-step training).
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    precision = 1

    def __init__(self, clip_value: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip_value = clip_value

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""

        @tf.custom_gradient
        def scaled(signs: tf.Tensor) -> tf.Tensor:
            return math.magnitude(inputs) * signs, lambda upstream: upstream

        return scaled(math.clipped_sign(inputs, self.clip_value))

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "clip_value": self.clip_value}


@lq.utils.register_alias("recu")
@_serializable
class ReCU(lq.quantizers.Quantizer):
    """Sign of the standardised kernel after the rectified clamp unit (ReCU, ICCV 2021).

    Forward: standardise per output channel to deviation 2√2, clip to `±Q(τ)`, take the sign. Backward:
    identity through the sign, zero where the clamp is active, then through the standardisation.

    Args:
        tau: Start of the clamp's quantile `.tau`, a variable that `callbacks.TauSchedule` moves.
        **kwargs: Arguments of `tf.keras.layers.Layer`.
    """

    precision = 1

    def __init__(self, tau: float = 0.85, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._initial_tau = tau
        self.tau = self.add_weight(
            "tau", shape=(), initializer=tf.keras.initializers.Constant(tau), trainable=False
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""
        return math.identity_sign(math.recu_clamp(inputs, self.tau))

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration; τ's present value is a weight, not part of it."""
        return {**super().get_config(), "tau": self._initial_tau}


@lq.utils.register_alias("identity_sign")
@_serializable
class IdentitySign(lq.quantizers.Quantizer):
    """OvSW's kernel: `sign(W)` with the identity as gradient, times an optional analytical scale.

    Args:
        scale: `None` for plain signs; `"standardized"` multiplies by γ_o, the mean |·| of the
            standardised kernel per output channel. No gradient flows through γ, and it scales the
            kernel's gradient as the product rule says.
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        ValueError: `scale` is something else.
    """

    precision = 1

    def __init__(self, scale: str | None = None, **kwargs: Any) -> None:
        if scale not in (None, "standardized"):
            raise ValueError(f'scale must be None or "standardized", not {scale!r}')
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""
        signs = math.identity_sign(inputs)
        if self.scale is None:
            return signs
        return signs * tf.stop_gradient(math.magnitude(math.standardize(inputs)))

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "scale": self.scale}


@lq.utils.register_alias("sub_bit")
@_serializable
class SubBit(lq.quantizers.Quantizer):
    """Kernel of which every 3×3 slice is one of `2^bits` learned patterns (SNN, ICCV 2021).

    Forward `Ŵ = s_o · pattern`, the pattern nearest to the slice, `s_o` the mean |W| per output channel
    without gradient. Backward: to W `s_o · dL/dŴ · 1[|W| ≤ 1]`; to the latent patterns, on every
    `interval`-th update, the sum of `s_o · dL/dŴ` over the slices that chose each; otherwise zero.

    `.codebook` are the latent patterns and `.memory` the signs in force, both `(2^bits, 9)`;
    `.step` counts updates. They are refined after each update, see `codebook.Refinement`.
    With `bits=9` every pattern is available, the slice's own signs are the nearest, and there is no
    codebook (`.codebook` and `.memory` are `None`).

    Args:
        bits: Bits per 3×3 slice, 1 to 9.
        seed: Seed of the initial codebook and of replacements.
        interval: Updates between two that train the codebook.
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        ValueError: `bits` is out of range, or the kernel to quantize is not 3×3.
    """

    precision = 1

    def __init__(self, bits: int = 5, seed: int = 0, interval: int = 25, **kwargs: Any) -> None:
        if not 1 <= bits <= codebook.SLICE:
            raise ValueError(f"bits must be between 1 and {codebook.SLICE}, not {bits}")
        super().__init__(**kwargs)
        self.bits, self.seed, self.interval = bits, seed, interval
        self.codebook = self.memory = self.step = None
        if bits < codebook.SLICE:
            self._create_codebook()

    def _create_codebook(self) -> None:
        patterns = codebook.initial_patterns(self.bits, self.seed)
        start = tf.keras.initializers.Constant(patterns)
        self.step = self.add_weight("step", shape=(), dtype=tf.int64, initializer="zeros", trainable=False)
        self.memory = self.add_weight("memory", shape=patterns.shape, initializer=start, trainable=False)
        self.codebook = self.add_weight(
            "codebook",
            shape=patterns.shape,
            initializer=start,
            constraint=codebook.Refinement(self.step, self.memory, self.seed, self.interval),
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Quantizes a kernel `(3, 3, cin, cout)`."""
        if tuple(inputs.shape[:2]) != (3, 3):
            raise ValueError(f"SubBit quantizes 3×3 kernels, not {tuple(inputs.shape)}; use ScaledSign")
        scale = tf.stop_gradient(math.magnitude(inputs))
        if self.codebook is None:
            return scale * math.clipped_sign(inputs, 1.0)
        latent = tf.convert_to_tensor(self.codebook)
        learn = (self.step + 1) % self.interval == 0
        return scale * codebook.quantize(inputs, latent, codebook.current_memory(latent, self.memory), learn)

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration; the codebook's present state is in its weights."""
        return {**super().get_config(), "bits": self.bits, "seed": self.seed, "interval": self.interval}
