"""Methods as values: how a convolution is binarized, and what its training does about it.

A `Method` is a frozen dataclass. Its fields are hyper-parameters; its other public attributes are hooks,
which networks and training call. Architectures only call `binary_conv` and `clip`, so that every network
takes every method, also one that another package registers:

    @bnn_tf.methods.register
    @dataclasses.dataclass(frozen=True)
    class Plain(bnn_tf.methods.Method):
        name: ClassVar[str] = "plain"

        def input_quantizer(self):
            return larq.quantizers.SteSign()

        def kernel_quantizer(self, kernel_size, name):
            return larq.quantizers.SteSign()

This module does not import TensorFlow before a hook is called.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import zlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from bnn_tf import values
from bnn_tf._tensorflow import lazy, lq, tf
from bnn_tf.errors import Elsewhere, UserError, unknown
from bnn_tf.registry import Registry
from bnn_tf.values import Count, NotNegative, Range, Seed, Share, Value

if TYPE_CHECKING:
    import numpy as np

    from bnn_tf import callbacks, layers, math, observe, optimizers, quantizers, transforms
else:
    callbacks, layers, math, observe, optimizers, quantizers, transforms = (
        lazy(f"bnn_tf.{name}")
        for name in ("callbacks", "layers", "math", "observe", "optimizers", "quantizers", "transforms")
    )

log = logging.getLogger(__name__)

_ELSEWHERE = Elsewhere(
    synonyms={
        "binary": "bireal",
        "binarynet": "bireal",
        "bnn": "bireal",
        "float": "real",
        "float32": "real",
        "fp32": "real",
        "fullprecision": "real",
        "realvalued": "real",
        "sign": "bireal",
        "snn": "subbit",
        "ste": "bireal",
        "xnor": "bireal",
        "xnornet": "bireal",
    },
    relatives={
        "adabin": "recu",
        "binaryconnect": "bireal",
        "bwn": "bireal",
        "dorefa": "bireal",
        "dorefanet": "bireal",
        "irnet": "recu",
        "rbnn": "recu",
        "reactnet": "bireal",
        "realtobinary": "bireal",
    },
    listed_by="bnn-tf recipes",
)

METHODS: Registry[type[Method]] = Registry("method", "bnn_tf.methods", elsewhere=_ELSEWHERE)
"""All methods by name; installed packages add theirs through the entry point `bnn_tf.methods`."""

M = TypeVar("M", bound="type[Method]")


def register(cls: M) -> M:
    """A class decorator that makes a method known by its `name`.

    A class without a `name` gets its own name in snake case, and a class that is no dataclass yet becomes a
    frozen one.

    Raises:
        ValueError: there is another method of this name.

    Example:
        >>> @register
        ... class Vanilla(BiReal): ...
        >>> get("vanilla")
        Vanilla(clip_value=1.0, scaled=True, start='uniform')
    """
    if "name" not in cls.__dict__:
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    if "__dataclass_params__" not in cls.__dict__:
        cls = dataclasses.dataclass(frozen=True)(cls)  # type: ignore[assignment]
    METHODS.register(cls.name)(cls)
    return cls


def get(method: Method | str | Mapping[str, Any], **options: Any) -> Method:
    """The method that an object, a name with options, or a `get_config` dictionary stands for.

    Args:
        method: A method, the name of one, `package.module:Class`, or `{"name": …, field: …}`.
        **options: Hyper-parameters to set.

    Raises:
        UsageError: the name or an option is unknown, or a value does not fit.
        UserError: `package.module:Class` cannot be imported or is no method.

    Example:
        >>> get("subbit", bits=4)
        SubBit(bits=4, seed=0, interval=25, codebook='random')
    """
    return values.resolve(Method, method, **options)


@dataclasses.dataclass(frozen=True)
class Initializers:
    """How the weights of a network start: names that `initializer` knows.

    Args:
        stem: Real convolutions at the network's start.
        binary: Kernels of binary convolutions.
        shortcut: Real 1×1 convolutions on shortcuts.
        classifier: The dense layer's kernel.
        bias: The dense layer's bias.

    Example:
        >>> OvSW().initializers.stem
        'pytorch'
    """

    stem: Any = "he_normal"
    binary: Any = "glorot_normal"
    shortcut: Any = "he_normal"
    classifier: Any = "glorot_uniform"
    bias: Any = "zeros"


_VARIANCE_SCALING: dict[str, tuple[float, str, str]] = {
    "pytorch": (1 / 3, "fan_in", "uniform"),
    "kaiming_normal": (2.0, "fan_in", "untruncated_normal"),
    "kaiming_normal_fan_out": (2.0, "fan_out", "untruncated_normal"),
}


def initializer(name: Any, fan_in: int | None = None) -> tf.keras.initializers.Initializer:
    """A new Keras initializer.

    Args:
        name: `"pytorch"` (uniform in ±1/√fan_in, PyTorch's default for convolutions and dense layers),
            `"kaiming_normal"` (normal with deviation √(2/fan_in), not truncated as Keras' `"he_normal"` is),
            `"kaiming_normal_fan_out"` (√(2/fan_out)), `"tiny_uniform"` (uniform in [0, 0.001)),
            `"normal_0.01"` (normal with deviation 0.01), or whatever Keras' `initializers.get` takes.
        fan_in: For `"pytorch"` of a bias: the inputs of its layer, which the bias does not show.

    Example:
        >>> initializer("pytorch", fan_in=64).maxval
        0.125
    """
    if name == "pytorch" and fan_in is not None:
        return tf.keras.initializers.RandomUniform(-(fan_in**-0.5), fan_in**-0.5)
    if name == "tiny_uniform":
        return tf.keras.initializers.RandomUniform(0.0, 0.001)
    if name == "normal_0.01":
        return tf.keras.initializers.RandomNormal(0.0, 0.01)
    if isinstance(name, str) and name in _VARIANCE_SCALING:
        return tf.keras.initializers.VarianceScaling(*_VARIANCE_SCALING[name])
    return tf.keras.initializers.get(name)


@dataclasses.dataclass(frozen=True)
class Method(Value):
    """A training method as a value: its fields are its hyper-parameters.

    Subclasses say which quantizers a binary convolution has, which transforms the gradients pass and which
    callbacks training needs. They are frozen dataclasses, and equal if their fields are.

    Attributes:
        name: The name under which the method is registered.
        diagnostics: What is worth watching in its training: names of `observe.FIGURES` and
            `observe.STEP_FIGURES`, `"tau"`, `"codebook"`, `"histogram"`, and of what its own callbacks log.
        initializers: How the weights of its networks start.

    Raises:
        TypeError: a subclass has a field with the name of a hook.
        UsageError: a value does not fit its field.

    Example:
        >>> ReCU(tau_min=0.9)
        ReCU(tau_min=0.9, tau_max=0.99)
    """

    kind: ClassVar[str] = "method"
    registry: ClassVar[Registry[type[Method]]] = METHODS
    name: ClassVar[str]
    diagnostics: ClassVar[tuple[str, ...]] = (
        "epoch_flips", "sign_entropy", "pattern_entropy", "histogram",
    )  # fmt: skip
    initializers: ClassVar[Initializers] = Initializers()

    def __post_init__(self) -> None:
        """Checks the name, then the fields."""
        cls = type(self)
        if not isinstance(getattr(cls, "name", None), str):
            raise UserError(
                f"the method {cls.__name__} has no name: give its class one, such as "
                f'name: ClassVar[str] = "{cls.__name__.lower()}"'
            )
        super().__post_init__()

    def activation(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """What comes before the convolution and is no quantizer; nothing by default."""
        return x

    def clip(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """What bounds the activations in networks that do that between their layers; hard-tanh by default."""
        return layers.HardTanh(name=name)(x)

    def input_quantizer(self) -> lq.quantizers.Quantizer | None:
        """A new quantizer of activations, or None for real ones."""
        raise NotImplementedError

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer | None:
        """A new quantizer for the kernel of the layer called `name`, or None for a real one."""
        raise NotImplementedError

    def after_conv(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """What follows the output `x` of `conv`, which is built, before BatchNorm; nothing by default."""
        return x

    def binary_conv(
        self,
        x: tf.Tensor,
        filters: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        pad_values: float = 0.0,
        activate: bool = True,
        kernel_initializer: Any = None,
        name: str,
    ) -> tf.Tensor:
        """The method's convolution without bias, `same` padding: NHWC to NHWC.

        Args:
            x: Activations `(n, h, w, c)`, not yet binarized.
            filters: Output channels.
            kernel_size: Height and width of the kernel.
            strides: Stride in both directions.
            pad_values: What `same` pads the binarized activations with: 0 (the papers), or 1, which
                Larq Compute Engine runs faster.
            activate: Whether `activation` comes first; not where the network's `clip` has done it.
            kernel_initializer: Start of the kernel where it is not the method's; see `initializer`.
            name: Name of the layer that holds the kernel; weights move between runs by it.
        """
        conv = lq.layers.QuantConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            pad_values=pad_values,
            use_bias=False,
            input_quantizer=self.input_quantizer(),
            kernel_quantizer=self.kernel_quantizer(kernel_size, name),
            kernel_initializer=initializer(kernel_initializer or self.initializers.binary),
            name=name,
        )
        if type(conv.input_quantizer) in quantizers.SIGNS:
            layers.recompute_signs(conv)
        if activate:
            x = self.activation(x, f"{name}_activation")
        return self.after_conv(conv(x), conv)

    def transforms(self) -> tuple[transforms.Transform, ...]:
        """New gradient transforms of the method, in order."""
        return ()

    def optimizer(
        self,
        name: str = "sgd",
        *,
        weight_decay: float = 0.0,
        decay_only: str | None = None,
        **options: Any,
    ) -> tf.keras.optimizers.legacy.Optimizer:
        """An optimizer that applies the method's transforms, then coupled weight decay.

        Args:
            name: `"sgd"` or `"adam"`.
            weight_decay: λ of `transforms.WeightDecay`.
            decay_only: Which variables decay; see `transforms.WeightDecay`.
            **options: `learning_rate`, and `momentum` or whatever else the optimizer takes.

        Raises:
            UsageError: there is no such optimizer.
        """
        if name not in optimizers.OPTIMIZERS:
            raise unknown("optimizer", name, optimizers.OPTIMIZERS)
        chain = self.transforms()
        if weight_decay:
            chain = (*chain, transforms.WeightDecay(weight_decay, only=decay_only))
        return optimizers.OPTIMIZERS[name](transforms=chain, **options)

    def callbacks(
        self, epochs: int, log_dir: str | os.PathLike | None = None
    ) -> list[tf.keras.callbacks.Callback]:
        """New callbacks that `model.fit(epochs=epochs)` needs for the method; none by default.

        Args:
            epochs: Length of the training, for what moves from its start to its end.
            log_dir: Folder of TensorBoard's logs, for what the method measures.
        """
        return []

    @classmethod
    def recognizes(cls, arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any] | None:
        """The options that a PyTorch checkpoint shows; `None`, the default, where it is not of this method.

        Args:
            arrays: The state dict: `layer1.0.conv1.weight`, ….
            model: Name of the architecture that it is said to be of.
        """
        return None

    def on_weights_taken(self, network: tf.keras.Model, missing: Collection[str]) -> None:
        """Called when a new network has taken the weights of another one; does nothing by default.

        Args:
            network: The network.
            missing: Its variables for which the other network had nothing, as `layer/variable`.
        """


def _stored(arrays: Mapping[str, np.ndarray], *fields: str) -> list[np.ndarray]:
    """The arrays of a state dict whose names end in one of the fields."""
    return [array for name, array in arrays.items() if name.rpartition(".")[2] in fields]


@register
@dataclasses.dataclass(frozen=True)
class BiReal(Method):
    """Bi-Real Net (ECCV 2018): approximate sign for activations, `s_o · sign(W)` for kernels.

    `s_o` is the mean |W| per output channel, without gradient; `dL/dW = dL/dŴ · 1[|W| ≤ clip_value]`.

    Args:
        clip_value: The kernel's gradient passes where |W| is at most this; `None` passes all of it, as
            the paper's own multi-step training does.
        scaled: Whether kernels carry `s_o`; where not, BatchNorm has to absorb it, as in the last step of
            the multi-step training.
        start: How binary kernels start: `"uniform"` in [0, 0.001) as in the authors' code, where weights flip
            within a step at Adam's 1e-3, or `"glorot_normal"`, where that takes 15 to 40 steps. `VGGSmall`
            has its own start, whatever the method.

    References:
        [Bi-Real Net](https://arxiv.org/abs/1808.00278)

    Example:
        >>> BiReal().kernel_quantizer(3, "conv").clip_value
        1.0
    """

    clip_value: Annotated[float, Range(above=0)] | None = 1.0
    scaled: bool = True
    start: Literal["uniform", "glorot_normal"] = "uniform"
    name: ClassVar[str] = "bireal"

    @property
    def initializers(self) -> Initializers:  # type: ignore[override]
        """PyTorch's defaults, and the start of the kernels that was asked for."""
        kernels = "tiny_uniform" if self.start == "uniform" else self.start
        return Initializers("pytorch", kernels, "pytorch", "pytorch", "pytorch")

    def input_quantizer(self) -> lq.quantizers.Quantizer:
        """The approximate sign."""
        return quantizers.ApproxSign()

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The sign, scaled by the mean magnitude unless that is switched off."""
        if self.scaled:
            return quantizers.ScaledSign(clip_value=self.clip_value)
        if self.clip_value is None:
            return quantizers.IdentitySign()
        return lq.quantizers.SteSign(clip_value=self.clip_value)

    @classmethod
    def recognizes(cls, arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any] | None:
        """By the flat kernels of the authors' convolutions; their networks have no other method's marks."""
        plain = model.startswith("bireal") and not _stored(arrays, "alpha", "patterns")
        return {} if plain or _stored(arrays, "weights") else None


@register
@dataclasses.dataclass(frozen=True)
class ReCU(Method):
    """ReCU (ICCV 2021): rectified clamp unit on kernels, learned output scale, normalised activations.

    Kernels are standardised per output channel, clipped at the quantile `Q(τ)` and reduced to signs, so that
    weights far from zero come back within reach. τ rises from epoch to epoch, which a callback does.

    Args:
        tau_min: The clamp's quantile τ in the first epoch; above 0.5, where the clamp's bound is zero.
        tau_max: What τ approaches in the last.

    References:
        [ReCU](https://arxiv.org/abs/2103.12369)

    Example:
        >>> [type(callback).__name__ for callback in ReCU().callbacks(epochs=10)]
        ['TauSchedule']
    """

    tau_min: Annotated[float, Range(above=0.5, most=1)] = 0.85
    tau_max: Annotated[float, Range(above=0.5, most=1)] = 0.99
    name: ClassVar[str] = "recu"
    diagnostics: ClassVar[tuple[str, ...]] = (
        "tau", "dead_share", "quantization_error",
        "epoch_flips", "sign_entropy", "pattern_entropy", "histogram",
    )  # fmt: skip
    initializers: ClassVar[Initializers] = Initializers(
        "kaiming_normal", "kaiming_normal", "kaiming_normal", "pytorch", "pytorch"
    )

    def __post_init__(self) -> None:
        """Checks the order of the quantiles."""
        super().__post_init__()
        self.require(
            self.tau_min <= self.tau_max,
            f"tau_min must be at most tau_max, not {self.tau_min:g} and {self.tau_max:g}",
        )

    def input_quantizer(self) -> lq.quantizers.Quantizer:
        """The approximate sign with its gradient taken at the normalised input."""
        return quantizers.ApproxSign(normalize=True)

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The clamp unit, starting at `tau_min`, and the learned α."""
        return quantizers.ReCU(tau=self.tau_min, scale="learned")

    def callbacks(
        self, epochs: int, log_dir: str | os.PathLike | None = None
    ) -> list[tf.keras.callbacks.Callback]:
        """The schedule of τ."""
        return [callbacks.TauSchedule(epochs, self.tau_min, self.tau_max)]

    @classmethod
    def recognizes(cls, arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any] | None:
        """By the learned α."""
        return {} if _stored(arrays, "alpha") else None


@register
@dataclasses.dataclass(frozen=True)
class SubBit(Method):
    """Sub-bit networks, SNN (ICCV 2021): each 3×3 slice is one of a layer's `2^bits` learned patterns.

    Kernels of other sizes stay at one bit per weight.

    Args:
        bits: Bits per slice of nine weights: 4, 5, 6 (0.44, 0.56, 0.67 bit per weight), 9 for a plain
            binary network.
        seed: Seed of the codebooks; each layer derives its own from its name.
        interval: Training steps between two that train the codebooks; 25 in the paper. A pattern starts at
            ±1 and moves by a few learning rates each time, so that short trainings need a smaller one for
            a codebook to change at all.
        codebook: What the codebooks start with: `"random"` patterns, as in the paper, or the `"frequent"`
            ones of the kernels where a network starts from the weights of another one.

    References:
        [SNN](https://arxiv.org/abs/2110.09195)

    Example:
        >>> SubBit(bits=4).kernel_quantizer(3, "conv").codebook.shape
        TensorShape([16, 9])
    """

    bits: Annotated[int, Range(least=1, most=9)] = 5
    seed: Seed = 0
    interval: Count = 25
    codebook: Literal["random", "frequent"] = "random"
    name: ClassVar[str] = "subbit"
    diagnostics: ClassVar[tuple[str, ...]] = (
        "codebook", "epoch_flips", "pattern_entropy", "sign_entropy", "histogram",
    )  # fmt: skip

    initializers: ClassVar[Initializers] = Initializers(
        "pytorch", "tiny_uniform", "pytorch", "pytorch", "pytorch"
    )

    def input_quantizer(self) -> lq.quantizers.Quantizer:
        """The approximate sign."""
        return quantizers.ApproxSign()

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The codebook for 3×3 kernels, plain scaled signs for others."""
        if kernel_size == 3:
            seed = layer_seed(self.seed, name)
            return quantizers.SubBit(bits=self.bits, seed=seed, interval=self.interval)
        log.info("%s: a %d×%d kernel has no codebook and stays at 1 bit", name, kernel_size, kernel_size)
        return quantizers.ScaledSign()

    @classmethod
    def recognizes(cls, arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any] | None:
        """By the codebooks, whose size says the bits."""
        patterns = _stored(arrays, "patterns")
        return {"bits": len(patterns[0]).bit_length() - 1} if patterns else None

    def on_weights_taken(self, network: tf.keras.Model, missing: Collection[str]) -> None:
        """Chooses frequent patterns where the other network had no codebook."""
        if self.codebook == "frequent":
            for layer in network.layers:
                quantizer = getattr(layer, "kernel_quantizer", None)
                if isinstance(quantizer, quantizers.SubBit) and f"{layer.name}/codebook" in missing:
                    quantizer.take_patterns_of(getattr(layer.kernel, "latent_variable", layer.kernel))


def layer_seed(seed: int, name: str) -> int:
    """A seed of its own for the layer called `name`, the same in every process.

    Example:
        >>> layer_seed(0, "a") != layer_seed(0, "b")
        True
    """
    return zlib.crc32(f"{seed}/{name}".encode())


@register
@dataclasses.dataclass(frozen=True)
class OvSW(Method):
    """OvSW, overcoming silent weights (ECCV 2024): gradient scaling and decay of weights that never flip.

    Adaptive gradient scaling raises the gradient of an output channel to at least δ times its weights' norm;
    silence-aware decay adds `λ_s · W` to the gradient of weights whose sign has long stayed the same.

    Args:
        delta: δ of adaptive gradient scaling; 0 or `None` switches it off.
        silence_decay: λ_s of silence-aware decay; 0 or `None` switches it off.
        silence_momentum: Decay of the flip trackers.
        silence_threshold: Trackers below it mark silent weights.
        silence_initial: Start of the trackers.
        scale: Output scale: `"standardized"` (analytical, no gradient) or `"learned"` (from mean |W|).
        telemetry: Measure flips, silent weights and scaled channels in every step.

    References:
        [OvSW](https://arxiv.org/abs/2407.05257)

    Example:
        >>> [type(transform).__name__ for transform in OvSW(telemetry=False).transforms()]
        ['AdaptiveGradientScale', 'SilenceDecay']
    """

    delta: NotNegative | None = 0.04
    silence_decay: NotNegative | None = 9e-4
    silence_momentum: Share = 0.999
    silence_threshold: NotNegative = 1e-4
    silence_initial: Annotated[float, Range(least=0, most=1)] = 0.0
    scale: Literal["standardized", "learned"] = "standardized"
    telemetry: bool = True
    name: ClassVar[str] = "ovsw"
    diagnostics: ClassVar[tuple[str, ...]] = (
        "flip_ratio", "silent_share", "scaled_share", "gradient_ratio",
        "epoch_flips", "sign_entropy", "pattern_entropy", "histogram",
    )  # fmt: skip
    initializers: ClassVar[Initializers] = Initializers(
        "pytorch", "kaiming_normal", "pytorch", "pytorch", "pytorch"
    )

    def input_quantizer(self) -> lq.quantizers.Quantizer:
        """The approximate sign at the normalised input, the deviation taken as constant."""
        return quantizers.ApproxSign(normalize=True, stop_gradient=True)

    def kernel_quantizer(self, kernel_size: int, name: str) -> lq.quantizers.Quantizer:
        """The sign with the identity gradient, and the scale."""
        return quantizers.IdentitySign(scale=self.scale)

    def after_conv(self, x: tf.Tensor, conv: tf.keras.layers.Layer) -> tf.Tensor:
        """No layer; the learned scale, part of the kernel, starts at the mean |W| of each channel."""
        if self.scale == "learned":
            latent = transforms.latent_value(conv.kernel)
            conv.kernel_quantizer.learned_scale.assign(tf.reshape(math.magnitude(latent), (-1,)))
        return x

    def transforms(self) -> tuple[transforms.Transform, ...]:
        """Telemetry, gradient scaling, then silence-aware decay on its result."""
        chain: list[transforms.Transform] = []
        if self.telemetry:
            chain.append(
                observe.KernelTelemetry(self.delta or 0.0, self.silence_momentum, self.silence_threshold)
            )
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
        return [observe.TelemetryLog(log_dir)] if self.telemetry else []

    @classmethod
    def recognizes(cls, arrays: Mapping[str, np.ndarray], model: str) -> dict[str, Any] | None:
        """By the learned scale; the analytical one leaves no mark in the authors' networks."""
        if _stored(arrays, "scaling_factor"):
            return {"scale": "learned"}
        marked = _stored(arrays, "alpha", "patterns", "weights")
        own = model.startswith(("cifar_", "resnet", "vgg_")) and not marked
        return {"scale": "standardized"} if own else None


@register
@dataclasses.dataclass(frozen=True)
class Real(Method):
    """Real weights, and in place of the sign one of four activations.

    `relu`, `leaky_clip` and `clip` are the first three steps of Bi-Real Net's own training; `sign`
    (binary activations, real weights) is the first step of SNN's and of ReCU's two-stage training.

    The activation stands before each convolution, or, in networks that have a hard-tanh after their sums
    (CIFAR's, ReCU's and OvSW's), in its place; `sign` leaves the hard-tanh where it is.

    Args:
        activation_name: The activation.
        start: How weights start. `"keras"`: Keras' he_normal and glorot. `"pytorch"`: PyTorch's default
            everywhere, as in the networks of Bi-Real Net and SNN. `"kaiming_normal"`: as in ReCU's, normal
            convolutions and PyTorch's classifier. The papers' recipes take what their binary phase has; of
            the inner kernels, which are real here, no paper says more.

    Example:
        >>> Real("clip").kernel_quantizer(3, "conv") is None
        True
        >>> Real("sign", start="pytorch").initializers.stem
        'pytorch'
    """

    activation_name: Literal["relu", "leaky_clip", "clip", "sign"] = "relu"
    start: Literal["keras", "pytorch", "kaiming_normal"] = "keras"
    name: ClassVar[str] = "real"
    diagnostics: ClassVar[tuple[str, ...]] = ()

    @property
    def initializers(self) -> Initializers:  # type: ignore[override]
        """Those that `start` names."""
        if self.start == "keras":
            return Initializers()
        return Initializers(self.start, self.start, self.start, "pytorch", "pytorch")

    def activation(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The real-valued activation."""
        kinds = {
            "relu": tf.keras.layers.ReLU,
            "leaky_clip": layers.LeakyClip,
            "clip": layers.HardTanh,
        }
        layer = kinds.get(self.activation_name)
        return layer(name=name)(x) if layer else x

    def clip(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """The real-valued activation; hard-tanh before a sign."""
        return super().clip(x, name) if self.activation_name == "sign" else self.activation(x, name)

    def input_quantizer(self) -> lq.quantizers.Quantizer | None:
        """The approximate sign where that is the activation."""
        return quantizers.ApproxSign() if self.activation_name == "sign" else None

    def kernel_quantizer(self, kernel_size: int, name: str) -> None:
        """None: the kernel stays real."""
