"""Anybody's network in a method's form, `bnn_tf.binarize`, and the way back, `real_valued`.

The layers are read as `bnn_tf.deploy` reads them; the network is built again around those that change.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bnn_tf import layers, methods
from bnn_tf._tensorflow import claims_one_bit, lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy import graph as graphs
from bnn_tf.deploy.graph import Call, Graph, Spec
from bnn_tf.errors import UsageError, UserError, some
from bnn_tf.model_files import opened
from bnn_tf.values import InNotebooks

ROLES = ("first", "last", "downsampling")
"""What stays real by default: the first and the last layer, 1×1 convolutions where the size shrinks."""


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What became of one layer.

    Args:
        name: The layer.
        binary: Whether its convolution has got a binary kernel.
        note: Why it stayed as it was, or what else was changed.

    Example:
        >>> LayerReport("logits", binary=False, note="no convolution").note
        'no convolution'
    """

    name: str
    binary: bool
    note: str = ""


@dataclasses.dataclass(frozen=True)
class BinarizeReport(InNotebooks):
    """What `binarize` changed, layer by layer.

    Args:
        method: The method.
        layers: Layers with kernels and all that were changed, in the network's order.

    Example:
        >>> net = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), *(tf.keras.layers.Conv2D(4, 3, name=name)
        ...                            for name in ("first", "second", "third"))])
        >>> binarize_report(binarize(net, "recu")).binary
        ('second',)
    """

    method: methods.Method
    layers: tuple[LayerReport, ...]

    @property
    def binary(self) -> tuple[str, ...]:
        """Names of the binary convolutions."""
        return tuple(layer.name for layer in self.layers if layer.binary)

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines = [
            f"{layer.name:{width}}  {'binary' if layer.binary else 'not binary'}"
            + (f": {layer.note}" if layer.note else "")
            for layer in self.layers
        ]
        return "\n".join([f"{len(self.binary)} binary convolutions, method {self.method}", *lines])


_reports: weakref.WeakKeyDictionary[Any, BinarizeReport] = weakref.WeakKeyDictionary()


def binarize_report(model: tf.keras.Model) -> BinarizeReport:
    """What `binarize` changed when it made this model.

    Raises:
        UserError: `binarize` did not make it in this process.

    Example:
        >>> net = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), *(tf.keras.layers.Conv2D(4, 3, name=name)
        ...                            for name in ("first", "second", "third"))])
        >>> [layer.name for layer in binarize_report(binarize(net, "bireal")).layers]
        ['first', 'second', 'third']
    """
    if model not in _reports:
        raise UserError(f"{model.name} was not made by bnn_tf.binarize in this process")
    return _reports[model]


def binarize(
    model: tf.keras.Model | str | os.PathLike[str],
    method: methods.Method | str | Mapping[str, Any],
    *,
    keep: Collection[str] | Callable[[tf.keras.layers.Layer], bool] = ROLES,
) -> tf.keras.Model:
    """A copy of a network with its inner convolutions in a method's form, and its weights taken over.

    Every ungrouped two-dimensional convolution that is not kept becomes the method's: binary inputs, binary
    kernel, the method's scale. Dense, depthwise, separable and transposed layers stay as they are. Two things
    change with a convolution, because its signs would otherwise mean nothing: activations that are never
    negative (ReLU, sigmoid, a clip from 0 on), where a binary convolution reads them, also behind pools, sums
    and whatever else leaves no value below 0, are replaced by the method's own (hard-tanh); and where no
    BatchNorm follows the convolution, one is inserted. `binarize_report(model)` lists everything. The result
    needs training; the old kernels are its latent weights. Of a frozen network the convolutions that change
    and the BatchNorms behind them are made trainable again.

    Args:
        model: A functional or built Sequential model of Keras' or Larq's layers, or the path of a saved one;
            it does not change.
        method: A method, its name, or its configuration.
        keep: What stays as it is: roles (`"first"`, `"last"`, `"downsampling"`; all three by default) and
            names of layers, or a predicate of a layer.

    Returns:
        A Keras model in float32.

    Raises:
        UsageError: there is no such method, role or layer.
        UserError: no convolution is left to binarize.
        ConversionError: the model is subclassed or not built.

    Example:
        >>> layers = tf.keras.layers
        >>> net = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.Conv2D(8, 3),
        ...                            layers.GlobalAveragePooling2D(), layers.Dense(2)])
        >>> print(binarize_report(binarize(net, "recu")))  # doctest: +ELLIPSIS
        1 binary convolutions, method ReCU(tau_min=0.85, tau_max=0.99)
        conv2d...   not binary: the first layer
        conv2d...   binary: BatchNorm inserted
        dense...    not binary: no convolution
    """
    method = methods.get(method)
    model = opened(model)
    graph = graphs.read(model)
    kept = _kept(graph, keep)
    with_kernels = dict.fromkeys(call.layer for call in graph.calls if _is_kernel_layer(call.layer))
    binary = [spec for spec in with_kernels if spec not in kept]
    if not binary:
        listed = some(f"{spec.name}: {reason}" for spec, reason in kept.items())
        raise UserError(
            f"{model.name} has no convolution to binarize ({listed or 'it has no layers with kernels'})"
        )
    rebuilt = _Rebuilding(graph, method, binary)
    result = graph.model_of(rebuilt.compute)
    reasons = {spec.name: reason for spec, reason in kept.items()}
    reports = [
        LayerReport(
            name,
            name in rebuilt.binary_kernels,
            "; ".join(filter(None, (reasons.get(name), *rebuilt.notes.get(name, ())))),
        )
        for name in dict.fromkeys(call.layer.name for call in graph.calls)
        if name in reasons or name in rebuilt.notes
    ]
    _reports[result] = BinarizeReport(method, tuple(reports))
    return result


def _is_kernel_layer(spec: Spec) -> bool:
    return issubclass(spec.kind, facts.KERNEL_LAYERS)


def _obstacle(graph: Graph, spec: Spec) -> str | None:
    """Why a layer cannot be a binary convolution, if it cannot."""
    if issubclass(spec.kind, tf.keras.layers.DepthwiseConv2D):
        return "a depthwise convolution"
    if spec.kind not in facts.CONVOLUTIONS:
        return "another kind of convolution" if "kernel_size" in spec.config else "no convolution"
    if spec.config.get("groups", 1) != 1:
        return "its convolution has groups"
    if spec.config.get("data_format") == "channels_first":
        return "its channels come first"
    return "it is used more than once" if graph.is_shared(spec) else None


def _kept(graph: Graph, keep: Collection[str] | Callable[[tf.keras.layers.Layer], bool]) -> dict[Spec, str]:
    """The layers with kernels that stay as they are, with the reason."""
    keep = (keep,) if isinstance(keep, str) else keep
    if not callable(keep):
        names = {call.layer.name for call in graph.calls}
        for name in keep:
            if name not in ROLES and name not in names:
                raise UsageError(
                    f"keep names {name!r}, which is neither one of {', '.join(ROLES)} nor a layer "
                    f"({some(names)})"
                )
    calls = [call for call in graph.calls if _is_kernel_layer(call.layer)]
    kept: dict[Spec, str] = {}
    for call in calls:
        reason = _obstacle(graph, call.layer)
        if reason is None and callable(keep):
            reason = "kept on request" if keep(call.layer.origin) else None
        elif reason is None and not callable(keep):
            reason = _kept_role(graph, calls, call, keep)
        if reason is not None:
            kept[call.layer] = reason
    return kept


def _kept_role(graph: Graph, kernels: list[Call], call: Call, keep: Collection[str]) -> str | None:
    """Why one of the calls with `kernels` stays, if it does."""
    if call.layer.name in keep:
        return "kept on request"
    if "first" in keep and not any(one in kernels for one in graph.makers(call.inputs)):
        return "the first layer"
    if "last" in keep and call not in graph.makers(tensor for one in kernels for tensor in one.inputs):
        return "the last layer"
    if "downsampling" in keep and _is_downsampling(graph, call):
        return "a 1×1 convolution where the size shrinks"
    return None


def _strided(spec: Spec) -> bool:
    strides = spec.config.get("strides", 1)
    return max(strides if isinstance(strides, (tuple, list)) else (strides,)) > 1


def _is_downsampling(graph: Graph, call: Call) -> bool:
    """Whether a 1×1 convolution has a stride, or works on what a pool or depthwise layer with one gives."""
    if tuple(call.layer.config["kernel_size"]) != (1, 1):
        return False
    if _strided(call.layer):
        return True
    for before in graph.backwards(call.inputs[0]):
        known = facts.of(before)
        if known.mean or known.maximum or issubclass(before.layer.kind, tf.keras.layers.DepthwiseConv2D):
            return _strided(before.layer)
        if known.channels != "same":
            return False
    return False


def _replaced(spec: Spec) -> str:
    """What the report says of a layer whose activation is never negative."""
    activation = spec.config.get("activation", spec.kind)
    name = facts.function_of(spec).rpartition(".")[2] or getattr(activation, "__name__", str(activation))
    return f"{name.lower()} replaced by the method's activation: its signs are all +1"


def _thaw(spec: Spec) -> bool:
    """Makes a frozen layer trainable; returns whether it was frozen."""
    frozen = not spec.config.get("trainable", True)
    spec.config["trainable"] = True
    return frozen


class _Rebuilding:
    """Makes the layers of the network again, with some convolutions in a method's form."""

    def __init__(self, graph: Graph, method: methods.Method, binary: list[Spec]) -> None:
        self.graph, self.method, self.binary = graph, method, binary
        self.notes: dict[str, list[str]] = {}
        self.binary_kernels: set[str] = set()
        takes_signs = facts.is_active(method.input_quantizer())
        # The layers with activations whose signs would all be +1 where a binary convolution takes them.
        self._rectifiers = [
            rectifier.layer
            for call in graph.calls
            if takes_signs and call.layer in binary
            for rectifier in facts.rectifiers(graph, call.inputs[0])
        ]
        self._layers: dict[Spec, Any] = {}
        self._uses: collections.Counter[str] = collections.Counter()

    def compute(self, call: Call, inputs: list[Any]) -> Any:
        spec = call.layer
        if spec in self.binary:
            return self._convolution(call, inputs[0])
        replaced = spec in self._rectifiers
        if replaced:
            self.notes[spec.name] = [_replaced(spec)]
            if not _is_kernel_layer(spec):
                self._uses[spec.name] += 1
                use = self._uses[spec.name]
                return self.method.clip(inputs[0], spec.name if use == 1 else f"{spec.name}_use{use}")
            spec.config["activation"] = "linear"
        if spec not in self._layers:
            self._layers[spec] = spec.build()
        results = call.apply(self._layers[spec], inputs)
        spec.assign(self._layers[spec])
        return self.method.clip(results, f"{spec.name}_clip") if replaced else results

    def _convolution(self, call: Call, x: Any) -> Any:
        spec, name = call.layer, call.layer.name
        notes = self.notes[name] = []
        norm = facts.norm_behind(self.graph, call.outputs[0])
        if _thaw(spec):
            notes.append("trainable again")
        if norm is not None and _thaw(norm.layer):
            self.notes[norm.layer.name] = ["trainable again, because its input has changed"]
        conv = self._binary_layer(spec)
        if claims_one_bit(conv.kernel_quantizer):
            self.binary_kernels.add(name)
        else:
            notes.append("the method leaves its kernel real")
        x = self.method.activation(x, f"{name}_activation")
        y = conv(x)
        conv.kernel.assign(spec.weights["kernel"])
        if conv.use_bias:
            conv.bias.assign(spec.weights["bias"])
        y = self.method.after_conv(y, conv)
        if norm is None:
            y = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn")(y)
            notes.append("BatchNorm inserted")
        if spec in self._rectifiers:
            notes.append(_replaced(spec))
            y = self.method.clip(y, f"{name}_clip")
        elif facts.has_activation(spec):
            y = tf.keras.layers.Activation(spec.config["activation"], name=f"{name}_function")(y)
        return y

    def _binary_layer(self, spec: Spec) -> Any:
        size = tuple(spec.config["kernel_size"])
        config = {
            **spec.config,
            "activation": None,
            "input_quantizer": self.method.input_quantizer(),
            "kernel_quantizer": self.method.kernel_quantizer(size[0] if size[0] == size[1] else 1, spec.name),
            "kernel_constraint": None,
        }
        return lq.layers.QuantConv2D(**config)


def real_valued(model: tf.keras.Model) -> tf.keras.Model:
    """The architecture with real weights and activations: every Larq layer becomes Keras' own.

    Its kernels are the latent ones, so that it shows what a real network of this form costs, not how
    accurate a trained one would be.

    Raises:
        ConversionError: the model is subclassed or not built.

    Example:
        >>> conv = lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", input_shape=(6, 6, 4))
        >>> type(real_valued(tf.keras.Sequential([conv])).layers[-1]).__name__
        'Conv2D'
    """
    return graphs.read(graphs.in_float32(model), _real).build()


def _real(layer: tf.keras.layers.Layer) -> Spec:
    spec = graphs.copy_of(layer)
    if facts.is_quantizer(spec):
        passing = {"name": spec.name, "activation": "linear", "dtype": "float32"}
        return Spec(tf.keras.layers.Activation, passing)
    if not hasattr(layer, "input_quantizer"):
        return spec
    of_larq = (*graphs.QUANTIZERS, "pad_values", "metrics")
    config: dict[str, Any] = {key: value for key, value in spec.config.items() if key not in of_larq}
    # A constraint or regularizer of Larq's means nothing to an inference.
    config |= dict.fromkeys(key for key in config if key.endswith(("constraint", "regularizer")))
    own = {path: weight for path, weight in spec.weights.items() if not path.startswith(graphs.QUANTIZERS)}
    keras = next(base for base in spec.kind.__mro__ if "keras" in base.__module__.split(".")[0])
    return Spec(keras, config, own)
