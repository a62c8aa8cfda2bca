"""Quantizers of the four methods for Larq's layers.

Each is a `larq.quantizers.Quantizer` with `precision = 1`: callable on a tensor, serialisable, usable
as `input_quantizer=` or `kernel_quantizer=`, by object or by its string alias. Importing this module
makes everything that a saved model of this package can name known to Keras.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import bnn_tf.layers
import bnn_tf.observe  # noqa: F401  (saved models name them all; loading must find them)
from bnn_tf import codebook, math
from bnn_tf._tensorflow import lq, tf
from bnn_tf.values import Count, Range, check


def _serializable(cls: type) -> type:
    """Makes a class known to Keras, also by its bare name: that is all that HDF5 files look for."""
    lq.utils.register_alias(cls.__name__)(cls)
    return tf.keras.utils.register_keras_serializable(package="bnn_tf")(cls)


@_serializable
class ApproxSign(lq.quantizers.ApproxSign):
    """Sign of activations with a triangular gradient (Bi-Real Net, eq. 7).

    Forward `sign(x)`; backward `dy · max(0, 2 - 2|x|)`. By default this is Larq's quantizer of the same
    name, to which the string `"approx_sign"` refers; in saved models the name stands for this class.

    Args:
        normalize: In training, take the gradient at `x/σ` instead of `x`, with σ each sample's
            deviation (unbiased variance over H, W, C, plus 1e-5) (ReCU). Evaluation does not change.
        stop_gradient: Treat σ as a constant (OvSW) instead of differentiating through it (ReCU).
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: an argument is neither true nor false.

    Example:
        >>> ApproxSign(normalize=True)(tf.constant([[-0.2, 0.0, 3.0]])).numpy()
        array([[-1.,  1.,  1.]], dtype=float32)
    """

    recognized_by_lce = True
    """Whether LCE's converter is known to take its values for binary; lint tries out other quantizers."""

    def __init__(self, normalize: bool = False, stop_gradient: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize = check("normalize", normalize, bool)
        self.stop_gradient = check("stop_gradient", stop_gradient, bool)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Signs of `inputs`, any shape with the batch first."""
        if not training:
            return super().call(inputs)
        if self.normalize:
            return math.normalized_approx_sign(inputs, self.stop_gradient)
        return math.approx_sign(inputs)

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "normalize": self.normalize, "stop_gradient": self.stop_gradient}


SIGNS = (ApproxSign, lq.quantizers.ApproxSign, lq.quantizers.SteSign)
"""Quantizers whose values are `math.sign` of their input, in training too; subclasses may do otherwise."""


class _KernelQuantizer(lq.quantizers.Quantizer):
    """A quantizer of kernels; subclasses say how in `binarize`.

    Where `scale` is `"learned"`, the result is multiplied by α, one trainable factor per output channel, in
    the variable `.learned_scale`. A convolution with `α·sign(W)` is α times that with `sign(W)`; the factor
    stands in the kernel because kernels are small: on the activations it would cost three more passes in
    every training step.

    Kernels narrower than float32, as a mixed-precision policy hands them over, are binarized in float32:
    half precision has neither the range nor the digits for variances and nearest patterns.
    """

    precision = 1
    elementwise = True
    """Whether each sign is that of the latent weight itself, and depends on no other."""
    needs_constraint = False
    """Its gradient is chosen so that no weight is lost without a constraint: Larq need not warn."""
    scale: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Not in the class: Keras' checkpoints would not know the attribute, only a name that differs.
        self.learned_scale: tf.Variable | None = None

    @property
    def bits_per_weight(self) -> float:
        """What a weight costs in storage, codebooks apart."""
        return 1.0

    def patterns(self) -> tf.Tensor | None:
        """The ±1 patterns `(count, 9)` of which 3×3 slices are made; `None` where all 512 are possible."""
        return None

    def build(self, input_shape: Any) -> None:
        """Creates α where it is asked for, uniform in [0, 1)."""
        if self.scale == "learned":
            start = tf.keras.initializers.RandomUniform(0.0, 1.0)
            self.learned_scale = self._add_state("scale", (input_shape[-1],), start)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""
        # A variable (Larq hands one over in `get_weights`) must not be read inside a custom gradient.
        kernel = tf.convert_to_tensor(inputs)
        binary = self.binarize(math.widen(kernel))
        if self.learned_scale is not None:
            binary = math.channel_scale(binary, self.learned_scale)
        return tf.cast(binary, kernel.dtype)

    def binarize(self, kernel: tf.Tensor) -> tf.Tensor:
        """The formula, for float32 or wider."""
        raise NotImplementedError

    def _add_state(self, name: str, shape: Any, start: Any, **options: Any) -> tf.Variable:
        """A variable named after this quantizer: HDF5 files need names that differ within a model."""
        return self.add_weight(
            f"{self.name}/{name}",
            shape=shape,
            initializer=start if callable(start) else tf.keras.initializers.Constant(start),
            experimental_autocast=False,
            **options,
        )


@lq.utils.register_alias("scaled_sign")
@_serializable
class ScaledSign(_KernelQuantizer):
    """Bi-Real Net's kernel: `Ŵ = s_o · sign(W)`, `s_o` the mean |W| per output channel.

    Gradient `dL/dW = dL/dŴ · 1[|W| ≤ clip_value]`: none through `s_o`, and not scaled by it (Larq's
    `MagnitudeAwareSign` is).

    Args:
        clip_value: Where the gradient ends; `None` passes all of it (the paper's multi-step training).
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: `clip_value` is no finite number above 0.

    Example:
        >>> ScaledSign()(tf.constant([[0.5], [-1.5]])).numpy()
        array([[ 1.],
               [-1.]], dtype=float32)
    """

    def __init__(self, clip_value: float | None = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip_value = check("clip_value", clip_value, Annotated[float, Range(above=0)] | None)

    def binarize(self, kernel: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""

        @tf.custom_gradient
        def scaled(signs: tf.Tensor) -> tf.Tensor:
            return math.magnitude(kernel) * signs, lambda upstream: upstream

        return scaled(math.clipped_sign(kernel, self.clip_value))

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "clip_value": self.clip_value}


@lq.utils.register_alias("recu")
@_serializable
class ReCU(_KernelQuantizer):
    """Sign of the standardised kernel after the rectified clamp unit (ReCU, ICCV 2021).

    Forward: standardise per output channel to deviation 2√2, clip to `±Q(τ)`, take the sign. Backward:
    identity through the sign, zero where the clamp is active, then through the standardisation.

    Args:
        tau: Start of the clamp's quantile `.tau`, a variable that `callbacks.TauSchedule` moves; above 0.5,
            where the clamp's bound is zero.
        scale: `None` for plain signs; `"learned"` multiplies by `.learned_scale`, the paper's output scale α
            (eq. 4): trainable, one per output channel, starting uniformly in [0, 1).
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: `tau` is not in (0.5, 1], or `scale` is something else.

    Example:
        >>> ReCU(tau=0.9)(tf.constant([[0.5], [-1.5], [0.1]])).numpy().ravel()
        array([ 1., -1.,  1.], dtype=float32)
    """

    elementwise = False

    def __init__(self, tau: float = 0.85, scale: str | None = None, **kwargs: Any) -> None:
        tau = check("tau", tau, Annotated[float, Range(above=0.5, most=1)])
        super().__init__(**kwargs)
        self.scale = check("scale", scale, Literal["learned"] | None)
        self._initial_tau = tau
        self.tau = self._add_state("tau", (), tau, trainable=False)

    def binarize(self, kernel: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""
        return math.recu_sign(kernel, self.tau)

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration; τ's and α's present values are weights, not part of it."""
        return {**super().get_config(), "tau": self._initial_tau, "scale": self.scale}


@lq.utils.register_alias("identity_sign")
@_serializable
class IdentitySign(_KernelQuantizer):
    """OvSW's kernel: `sign(W)` with the identity as gradient, times an optional scale.

    Args:
        scale: `None` for plain signs; `"standardized"` multiplies by γ_o, the mean |·| of the
            standardised kernel per output channel. No gradient flows through γ, and it scales the
            kernel's gradient as the product rule says. `"learned"` multiplies by `.learned_scale`,
            trainable, one per output channel, starting uniformly in [0, 1).
        **kwargs: Arguments of `tf.keras.layers.Layer`.

    Raises:
        UsageError: `scale` is something else.

    Example:
        >>> IdentitySign()(tf.constant([[0.5], [-1.5]])).numpy().ravel()
        array([ 1., -1.], dtype=float32)
    """

    def __init__(self, scale: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = check("scale", scale, Literal["standardized", "learned"] | None)

    def binarize(self, kernel: tf.Tensor) -> tf.Tensor:
        """Binarizes a kernel `(…, cout)`."""
        signs = math.identity_sign(kernel)
        if self.scale != "standardized":
            return signs
        return signs * tf.stop_gradient(math.magnitude(math.standardize(kernel)))

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration."""
        return {**super().get_config(), "scale": self.scale}


@lq.utils.register_alias("sub_bit")
@_serializable
class SubBit(_KernelQuantizer):
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
        UsageError: an argument is out of range.
        ValueError: the kernel to quantize is not 3×3.

    Example:
        >>> quantizer = SubBit(bits=2)
        >>> quantizer(tf.random.normal((3, 3, 4, 8))).shape
        TensorShape([3, 3, 4, 8])
        >>> quantizer.codebook.shape, round(quantizer.bits_per_weight, 2)
        (TensorShape([4, 9]), 0.22)
    """

    elementwise = False

    def __init__(self, bits: int = 5, seed: int = 0, interval: int = 25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bits = check("bits", bits, Annotated[int, Range(least=1, most=codebook.SLICE)])
        self.seed = check("seed", seed, Annotated[int, Range(least=0, below=2**63)])
        self.interval = check("interval", interval, Count)
        self.codebook = self.memory = self.step = None
        if bits < codebook.SLICE:
            self._create_codebook()

    @property
    def bits_per_weight(self) -> float:
        """A slice of nine weights costs `bits`."""
        return self.bits / codebook.SLICE

    def patterns(self) -> tf.Tensor | None:
        """The signs in force, `(2^bits, 9)`; `None` for 9 bits."""
        if self.codebook is None:
            return None
        return codebook.current_memory(tf.convert_to_tensor(self.codebook), self.memory)

    def _create_codebook(self) -> None:
        patterns = codebook.initial_patterns(self.bits, self.seed)
        self.step = self._add_state("step", (), 0, dtype=tf.int64, trainable=False)
        self.memory = self._add_state("memory", patterns.shape, patterns, trainable=False)
        self.codebook = self._add_state(
            "codebook",
            patterns.shape,
            patterns,
            constraint=codebook.Refinement(self.step, self.memory, self.seed, self.interval),
        )

    def take_patterns_of(self, kernel: tf.Variable) -> None:
        """Makes the patterns that most slices of a kernel have the codebook; with 9 bits there is none."""
        if self.codebook is not None:
            patterns = codebook.frequent_patterns(kernel.numpy(), self.bits)
            self.codebook.assign(patterns)
            self.memory.assign(patterns)

    def binarize(self, kernel: tf.Tensor) -> tf.Tensor:
        """Quantizes a kernel `(3, 3, cin, cout)`."""
        if tuple(kernel.shape[:2]) != (3, 3):
            raise ValueError(f"SubBit quantizes 3×3 kernels, not {tuple(kernel.shape)}; use ScaledSign")
        scale = tf.stop_gradient(math.magnitude(kernel))
        if self.codebook is None:
            return scale * math.clipped_sign(kernel, 1.0)
        latent = tf.convert_to_tensor(self.codebook)
        learn = (self.step + 1) % self.interval == 0
        return scale * codebook.quantize(kernel, latent, codebook.current_memory(latent, self.memory), learn)

    def get_config(self) -> dict[str, Any]:
        """The quantizer's configuration; the codebook's present state is in its weights."""
        return {**super().get_config(), "bits": self.bits, "seed": self.seed, "interval": self.interval}
