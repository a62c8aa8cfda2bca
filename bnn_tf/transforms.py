"""Gradient transforms: functions from `(gradient, variable)` pairs to such pairs.

They compose by order and have the signature of the legacy Keras optimizers' `gradient_transformers`.
`bnn_tf.optimizers` applies them to gradients that are aggregated over replicas and unscaled. Binary
kernels are recognised by Larq's `precision == 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from bnn_tf import codebook, math
from bnn_tf._tensorflow import claims_one_bit, tf
from bnn_tf.errors import unknown
from bnn_tf.values import NotNegative, Positive, Range, Share, check

Pairs = list[tuple[tf.Tensor, tf.Variable]]


def is_binary_kernel(variable: tf.Variable) -> bool:
    """Whether the variable holds the latent weights of a binary layer.

    Example:
        >>> conv = lq.layers.QuantConv2D(4, 3, kernel_quantizer=bnn_tf.quantizers.IdentitySign())
        >>> conv.build((None, 8, 8, 2))
        >>> is_binary_kernel(conv.kernel), is_binary_kernel(conv.bias)
        (True, False)
    """
    return claims_one_bit(variable)


def is_kernel(variable: tf.Variable) -> bool:
    """Whether the variable is a kernel, binary or real: neither a vector nor a codebook.

    Example:
        >>> is_kernel(tf.Variable(tf.zeros((3, 3, 2, 4)))), is_kernel(tf.Variable(tf.zeros(4)))
        (True, False)
    """
    shape = tuple(variable.shape)
    slopes = len(shape) == 3 and shape[:2] == (1, 1)  # a PReLU's, one per channel
    return len(shape) >= 2 and not slopes and not codebook.is_codebook(variable)


def _place(variable: tf.Variable) -> tuple[str, str]:
    """The layer's name and the variable's own name in it."""
    layer, _, name = variable.name.removesuffix(":0").rpartition("/")
    return layer, name


def _convolutions(variables: list[tf.Variable]) -> list[bool]:
    """Convolution kernels, codebooks, and biases other than dense layers' (SNN)."""
    dense = {_place(v)[0] for v in variables if is_kernel(v) and len(v.shape) == 2}

    def selected(variable: tf.Variable) -> bool:
        layer, name = _place(variable)
        bias = name == "bias" and layer not in dense
        return bias or len(variable.shape) == 4 or codebook.is_codebook(variable)

    return [selected(variable) for variable in variables]


def _main_path(variables: list[tf.Variable]) -> list[bool]:
    """Kernels, output scales and biases, but no real kernel on a shortcut, nothing of BatchNorm (ReCU)."""

    def selected(variable: tf.Variable) -> bool:
        layer, name = _place(variable)
        aside = "shortcut" in layer and not is_binary_kernel(variable)
        return not aside and (is_kernel(variable) or name in ("scale", "bias"))

    return [selected(variable) for variable in variables]


def _each(predicate: Callable[[tf.Variable], bool]) -> Callable[[list[tf.Variable]], list[bool]]:
    return lambda variables: [predicate(variable) for variable in variables]


DECAYS: dict[str | None, Callable[[list[tf.Variable]], list[bool]]] = {
    None: _each(lambda variable: True),
    "kernels": _each(is_kernel),
    "binary": _each(is_binary_kernel),
    "convolutions": _convolutions,
    "main_path": _main_path,
}
"""Which of a network's variables decay, by the name that `WeightDecay` and recipes take."""


def latent_value(variable: tf.Variable) -> tf.Tensor:
    """The variable's own value, for a `QuantizedVariable` the latent weights.

    Example:
        >>> conv = lq.layers.QuantConv2D(4, 3, kernel_quantizer=bnn_tf.quantizers.IdentitySign())
        >>> conv.build((None, 8, 8, 2))
        >>> latent_value(conv.kernel).shape
        TensorShape([3, 3, 2, 4])
    """
    return tf.convert_to_tensor(getattr(variable, "latent_variable", variable))


TRANSFORMS: dict[str, type[Transform]] = {}
"""All transforms by the name of their class, as configurations of optimizers have it."""


class Transform(tf.Module):
    """A gradient transform whose state, if any, is created once for a list of variables.

    Optimizers are saved with the names of their transforms' classes. Of several subclasses of one name the
    last one counts, as in a notebook where a cell runs again; this package's names are taken.

    Raises:
        ValueError: a subclass has the name of one of this package's.

    Example:
        >>> class Halve(Transform):
        ...     def __call__(self, pairs):
        ...         return [(gradient / 2, variable) for gradient, variable in pairs]
        ...     def get_config(self):
        ...         return {}
        >>> optimizer = bnn_tf.optimizers.SGD(0.1, transforms=[Halve()])
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Makes the class known by its name."""
        super().__init_subclass__(**options)
        known = TRANSFORMS.get(cls.__name__, cls)
        if known.__module__.startswith("bnn_tf.") and known.__module__ != cls.__module__:
            raise ValueError(f"there is a transform called {cls.__name__!r} already")
        TRANSFORMS[cls.__name__] = cls

    def build(self, variables: list[tf.Variable]) -> None:
        """Creates the state for these variables; the optimizer calls it before its first update."""

    def __call__(self, pairs: Iterable[tuple[tf.Tensor, tf.Variable]]) -> Pairs:
        """Returns the transformed pairs, in the same order."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, plain values."""
        raise NotImplementedError


def serialize(transform: Transform) -> dict[str, Any]:
    """The transform as plain values, for an optimizer's configuration.

    Example:
        >>> serialize(AdaptiveGradientScale(0.04))
        {'class_name': 'AdaptiveGradientScale', 'config': {'delta': 0.04}}
    """
    return {"class_name": type(transform).__name__, "config": transform.get_config()}


def deserialize(config: Transform | dict[str, Any]) -> Transform:
    """The transform that `serialize` described; a transform is returned as it is.

    Raises:
        ValueError: the configuration names no transform.

    Example:
        >>> deserialize(serialize(AdaptiveGradientScale(0.04))).delta
        0.04
    """
    if isinstance(config, Transform):
        return config
    name = config["class_name"]
    if name not in TRANSFORMS:
        raise ValueError(f"no transform is called {name!r}; there are {sorted(TRANSFORMS)}")
    return TRANSFORMS[name](**config["config"])


@math.one_pass
def _decay(gradient: tf.Tensor, latent: tf.Tensor, rate: float) -> tf.Tensor:
    return gradient + tf.cast(rate, gradient.dtype) * tf.cast(latent, gradient.dtype)


class WeightDecay(Transform):
    """Coupled L2 decay: `g ← g + λ·W`, as PyTorch's `weight_decay` (not Keras' decoupled one).

    Args:
        rate: λ, per step.
        only: Which variables:

            - `None`: all.
            - `"kernels"`: kernels of convolutions and dense layers, no vectors.
            - `"binary"`: binary kernels.
            - `"convolutions"`: kernels of convolutions, the latent patterns of codebooks, and biases except
              those of dense layers: SNN's set.
            - `"main_path"`: all kernels except real ones of layers called `…shortcut…`, output scales, and
              biases, nothing of BatchNorm: ReCU's set on ImageNet.
            - a predicate of the variable, which `get_config` cannot save.

    Raises:
        UsageError: `rate` is no finite number of at least 0, or `only` is something else.

    Example:
        >>> kernel = tf.Variable([[2.0]], name="dense/kernel")
        >>> [(gradient, _)] = WeightDecay(0.1)([(tf.constant([[1.0]]), kernel)])
        >>> gradient.numpy()
        array([[1.2]], dtype=float32)
    """

    def __init__(self, rate: float, only: str | Callable[[tf.Variable], bool] | None = None) -> None:
        super().__init__()
        if not callable(only) and only not in DECAYS:
            raise unknown("selection of variables for weight decay", str(only), map(str, DECAYS))
        self.rate, self.only = check("rate", rate, NotNegative), only

    def __call__(self, pairs: Iterable[tuple[tf.Tensor, tf.Variable]]) -> Pairs:
        """Adds the decay to the gradients of the selected variables."""
        pairs = list(pairs)
        select = _each(self.only) if callable(self.only) else DECAYS[self.only]
        return [
            (_decay(g, latent_value(v), self.rate) if selected else g, v)
            for (g, v), selected in zip(pairs, select([v for _, v in pairs]), strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments.

        Raises:
            ValueError: `only` is a predicate.
        """
        if callable(self.only):
            raise ValueError("WeightDecay with a predicate cannot be saved; use only='kernels' or None")
        return {"rate": self.rate, "only": self.only}


def adaptive_gradient_scale(gradient: tf.Tensor, kernel: tf.Tensor, delta: float) -> tf.Tensor:
    """OvSW's AGS: raises gradients that are small against their weights (OvSW, eq. 9).

    Per output channel with gradient norm `g_o = max(‖G‖, 1e-6)` and weight norm `w_o = max(‖W‖, 1e-3)`:
    where `g_o / w_o < δ` the gradient is multiplied by `δ · w_o / g_o`.

    Example:
        >>> gradient, kernel = tf.constant([[0.01]]), tf.constant([[1.0]])
        >>> adaptive_gradient_scale(gradient, kernel, delta=0.04).numpy()
        array([[0.04]], dtype=float32)
    """
    ratio = math.gradient_ratio(gradient, kernel)
    return gradient * tf.where(ratio < delta, delta / ratio, tf.ones_like(ratio))


class AdaptiveGradientScale(Transform):
    """`adaptive_gradient_scale` on the gradients of binary kernels.

    Args:
        delta: δ, the least ratio of gradient norm to weight norm.

    Raises:
        UsageError: `delta` is no finite number above 0.

    Example:
        >>> AdaptiveGradientScale(0.04).get_config()
        {'delta': 0.04}
    """

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = check("delta", delta, Positive)

    def __call__(self, pairs: Iterable[tuple[tf.Tensor, tf.Variable]]) -> Pairs:
        """Scales the gradients of binary kernels."""
        return [
            (adaptive_gradient_scale(g, latent_value(v), self.delta) if is_binary_kernel(v) else g, v)
            for g, v in pairs
        ]

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"delta": self.delta}


@math.one_pass
def _track(
    latent: tf.Tensor, previous: tf.Tensor, tracker: tf.Tensor, momentum: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """1 where a weight flipped (else 0), the average that counts it, and the present signs."""
    signs = math.sign(latent)
    flipped = tf.cast(signs != previous, tracker.dtype)
    return flipped, momentum * tracker + (1 - momentum) * flipped, signs


class FlipTracker(tf.Module):
    """Remembers the signs of binary kernels and averages how often each weight's sign changes.

    Per weight `t ← m·t + (1-m)·[sign(W) changed since the last step]`.

    Args:
        momentum: m.
        initial: Start of t.
        name: Part of the variables' names; several trackers in one optimizer need different ones.

    Example:
        >>> conv = lq.layers.QuantConv2D(4, 3, kernel_quantizer=bnn_tf.quantizers.IdentitySign())
        >>> conv.build((None, 8, 8, 2))
        >>> tracker = FlipTracker(momentum=0.9)
        >>> tracker.build([conv.kernel])
        >>> flipped, average = tracker.step(conv.kernel)
        >>> float(tf.reduce_sum(flipped))
        0.0
    """

    def __init__(self, momentum: float, initial: float = 0.0, name: str = "flips") -> None:
        super().__init__(name=name)
        self.momentum = check("momentum", momentum, Annotated[float, Range(least=0, most=1)])
        self.initial = check("initial", initial, Annotated[float, Range(least=0, most=1)])
        self._keys: dict[Any, int] = {}
        self._trackers: list[tf.Variable] = []
        self._signs: list[tf.Variable] = []

    def build(self, variables: Iterable[tf.Variable]) -> None:
        """Creates the state of the binary kernels among the variables."""
        for variable in variables:
            if is_binary_kernel(variable) and variable_key(variable) not in self._keys:
                self._keys[variable_key(variable)] = len(self._trackers)
                with tf.init_scope():
                    start = tf.fill(variable.shape, tf.cast(self.initial, tf.float32))
                    signs = math.sign(latent_value(variable))
                    self._trackers.append(state_beside(variable, f"{self.name}/average", start))
                    self._signs.append(state_beside(variable, f"{self.name}/sign", signs))

    def __getitem__(self, variable: tf.Variable) -> tf.Variable:
        """The variable's t, of its shape.

        Raises:
            KeyError: no step has seen the variable, or it is no binary kernel.
        """
        if variable_key(variable) not in self._keys:
            raise KeyError(f"{variable.name} has no tracker: no binary kernel, or not seen by a step yet")
        return self._trackers[self._keys[variable_key(variable)]]

    def step(self, variable: tf.Variable) -> tuple[tf.Tensor, tf.Tensor]:
        """Moves the variable's t on; returns 1 where a weight flipped (else 0), and t."""
        tracker, previous = self[variable], self._signs[self._keys[variable_key(variable)]]
        previous_signs, average = (tf.convert_to_tensor(v) for v in (previous, tracker))
        flipped, moved, signs = _track(latent_value(variable), previous_signs, average, self.momentum)
        tracker.assign(moved)
        previous.assign(signs)
        return flipped, moved


@math.one_pass
def _decay_silent(
    gradient: tf.Tensor, latent: tf.Tensor, tracker: tf.Tensor, threshold: float, decay: float
) -> tf.Tensor:
    silent = tf.cast(tracker < threshold, gradient.dtype)
    return gradient + decay * silent * latent


class SilenceDecay(Transform):
    """OvSW's SAD: pulls weights that never flip towards zero, where they can (OvSW, eqs. 10–12).

    Per weight a tracker `t` (see `FlipTracker`); where `t < threshold` the weight is silent and its
    gradient gets `+ λ_s · W`.

    Args:
        decay: λ_s.
        momentum: m, so that one flip protects a weight for a while.
        threshold: Below it a weight counts as silent.
        initial: Start of the trackers; 1 gives every weight time before it counts as silent.

    Raises:
        UsageError: a value is not finite, is negative, or is no share.

    Example:
        >>> SilenceDecay(9e-4).get_config()["threshold"]
        0.0001
    """

    def __init__(
        self, decay: float, momentum: float = 0.999, threshold: float = 1e-4, initial: float = 0.0
    ) -> None:
        super().__init__()
        self.decay = check("decay", decay, NotNegative)
        self.momentum = check("momentum", momentum, Share)
        self.threshold = check("threshold", threshold, NotNegative)
        self.initial = check("initial", initial, Annotated[float, Range(least=0, most=1)])
        self._flips = FlipTracker(momentum, initial, name="silence_decay")

    def build(self, variables: list[tf.Variable]) -> None:
        """Creates trackers and remembered signs of the binary kernels among the variables."""
        self._flips.build(variables)

    def tracker(self, variable: tf.Variable) -> tf.Variable:
        """The variable's flip tracker, of its shape.

        Raises:
            KeyError: no step has seen the variable, or it is no binary kernel.
        """
        return self._flips[variable]

    def __call__(self, pairs: Iterable[tuple[tf.Tensor, tf.Variable]]) -> Pairs:
        """Moves the trackers on and decays silent weights."""
        pairs = list(pairs)
        self.build([variable for _, variable in pairs])
        return [(self._decayed(g, v) if is_binary_kernel(v) else g, v) for g, v in pairs]

    def _decayed(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        _, tracker = self._flips.step(variable)
        return _decay_silent(gradient, latent_value(variable), tracker, self.threshold, self.decay)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "decay": self.decay,
            "momentum": self.momentum,
            "threshold": self.threshold,
            "initial": self.initial,
        }


def state_beside(variable: tf.Variable, name: str, start: tf.Tensor) -> tf.Variable:
    """A variable beside `variable`; HDF5 files need names that differ within an optimizer.

    Example:
        >>> kernel = tf.Variable([1.0], name="kernel")
        >>> state_beside(kernel, "average", tf.zeros(1)).name
        'kernel/average:0'
    """
    with tf.distribute.get_strategy().extended.colocate_vars_with(
        getattr(variable, "latent_variable", variable)
    ):
        return tf.Variable(
            start,
            trainable=False,
            name=f"{variable.name.removesuffix(':0')}/{name}",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def variable_key(variable: tf.Variable) -> Any:
    """A dictionary key for the variable, the same for all of its replicas.

    Example:
        >>> kernel = tf.Variable([1.0])
        >>> variable_key(kernel) == variable_key(kernel)
        True
    """
    container = getattr(variable, "_distributed_container", None)
    primary = container() if container is not None else None
    return (primary if primary is not None else variable).ref()
