"""What will go wrong, or slow, on Larq Compute Engine, said before any training.

Each rule is a function from a network to findings, registered under a name. `lint` applies all of them, and
`convert` refuses what they call an error. The rules on what stays float, fails to run or is computed wrongly
were measured with larq-compute-engine 0.16 by converting small networks; those on what is slow are LCE's
optimization guide's, checked on converted networks.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import KERNELS, lq, tf
from bnn_tf.deploy import facts, trials
from bnn_tf.deploy.fold import affine_of, folded
from bnn_tf.deploy.graph import (
    SIZE,
    Call,
    Graph,
    Spec,
    Tensor,
    frozen,
    is_functional,
    low_precision,
    origin_of,
    read_frozen,
)
from bnn_tf.errors import some
from bnn_tf.model_files import opened
from bnn_tf.registry import Registry
from bnn_tf.values import InNotebooks

_layers = tf.keras.layers


class Severity(str, enum.Enum):
    """How bad a finding is.

    `ERROR`: the layer stays float although it is quantized, or the file fails to run or computes something
    else. `WARNING`: it converts and is right, but costs time or memory. `INFO`: there is nothing to do.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rule says about a layer.

    Attributes:
        code: Short stable name of the rule, e.g. `"strided-padding"`.
        severity: How bad it is.
        layer: Name of the layer, with those of the models it is nested in; the model's name where it
            concerns the whole model.
        reason: What will happen.
        remedy: What to do about it.
    """

    code: str
    severity: Severity
    layer: str
    reason: str
    remedy: str

    def to_dict(self) -> dict[str, str]:
        """The finding with plain values, for JSON."""
        return {**dataclasses.asdict(self), "severity": self.severity.value}

    def __str__(self) -> str:
        return f"{self.severity.value} {self.code}: {self.layer}: {self.reason}. {self.remedy}."


@dataclasses.dataclass(frozen=True)
class LintReport(InNotebooks):
    """All findings on a model, the worst first.

    Attributes:
        model: The model's name.
        findings: The findings, in the order of the layers within each severity.
    """

    model: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What would break."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What would be slow or large."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)

    @property
    def infos(self) -> tuple[Finding, ...]:
        """What is worth knowing."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.INFO)

    def to_dict(self) -> dict[str, Any]:
        """The report with plain values, for JSON."""
        return {
            "model": self.model,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "infos": len(self.infos),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        alike: dict[tuple[Severity, str, str, str], list[str]] = {}
        for finding in self.findings:
            key = (finding.severity, finding.code, finding.reason, finding.remedy)
            alike.setdefault(key, []).append(finding.layer)
        lines = [
            f"{severity.value} {code}: {some(layers, 4)}\n    {reason}\n    → {remedy}"
            for (severity, code, reason, remedy), layers in alike.items()
        ]
        counts = [(self.errors, "error"), (self.warnings, "warning"), (self.infos, "note")]
        total = ", ".join(f"{len(all_)} {name}{'s' * (len(all_) != 1)}" for all_, name in counts)
        return "\n".join([*lines, f"{self.model}: {total}"])


# The network that rules look at -----------------------------------------------------------------------

_CHANNELS = 32
_FEW = 8  # an input that takes no more values than these is quantized


@dataclasses.dataclass(frozen=True, eq=False)
class Quantized:
    """One use of a layer that may quantize its input or its kernel.

    Attributes:
        name: Its name.
        layer: The live layer.
        call: The call in the graph; that of the outer layer where the layer stands inside another one.
    """

    name: str
    layer: tf.keras.layers.Layer
    call: Call

    @property
    def is_nested(self) -> bool:
        """Whether it stands inside another layer, so that its neighbours cannot be seen."""
        return self.layer is not self.call.layer.origin

    @functools.cached_property
    def spec(self) -> Spec:
        """Its record with its kernel as it is convolved with; folding may have made another layer of it."""
        return frozen(self.layer) if self.is_nested else self.call.layer

    @property
    def is_convolution(self) -> bool:
        """Whether it is of the one kind that LCE has a binary operator for."""
        return issubclass(self.spec.kind, lq.layers.QuantConv2D)

    @property
    def input_quantizer(self) -> Any:
        """What quantizes its input, or None."""
        own = getattr(self.layer, "input_quantizer", None)
        quantizer = own if facts.is_active(own) else self.spec.config.get("input_quantizer")  # of folding
        return quantizer if facts.is_active(quantizer) else None

    @functools.cached_property
    def quantizes_kernel(self) -> bool:
        """Whether its kernel is quantized; also that of a frozen model, whose filters are ±s."""
        if any(facts.is_active(getattr(self.layer, key, None)) for key in KERNELS):
            return True
        return self.is_convolution and facts.filter_scales(self.layer.kernel.numpy()) is not None

    @property
    def pads_zeros(self) -> bool:
        """Whether it pads its map with zeros itself."""
        return facts.pads(self.spec) and self.spec.config.get("pad_values", 0.0) == 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A graph of frozen layers, with what several rules ask about it.

    Attributes:
        model: The Keras model.
        graph: Its graph; some rules are also given the folded one.
    """

    model: tf.keras.Model
    graph: Graph

    @functools.cached_property
    def quantized(self) -> tuple[Quantized, ...]:
        """All layers that may quantize, in order of the calls."""
        return tuple(
            Quantized(name, layer, call)
            for call in self.graph.calls
            for name, layer in facts.parts(call.layer.name, call.layer.origin)
            if hasattr(layer, "input_quantizer")
        )

    @functools.cached_property
    def binary(self) -> tuple[Quantized, ...]:
        """Those that quantize their kernel and read quantized values, and so are meant to run on bits.

        It does not matter whether the layer quantizes its input itself or another one does before.
        """
        return tuple(
            layer
            for layer in self.quantized
            if layer.quantizes_kernel and (layer.input_quantizer is not None or layer in self._origins)
        )

    @functools.cached_property
    def convolutions(self) -> tuple[Quantized, ...]:
        """The binary ones that LCE has an operator for and whose neighbours are known."""
        return tuple(layer for layer in self.binary if layer.is_convolution and not layer.is_nested)

    def activations(self, layer: Quantized) -> tf.keras.Model:
        """A model of what quantizes the layer's input, wherever that stands; a `KeyError` if nothing does."""
        if layer.input_quantizer is None:
            return self._origins[layer][0]
        image = tf.keras.Input(_input_shape(layer))
        activation = _layers.Activation(layer.input_quantizer, dtype="float32")
        activation.quantizer = layer.input_quantizer  # so that its weights belong to the model
        return tf.keras.Model(image, activation(image), name="activations")

    def values(self, layer: Quantized) -> set[float] | None:
        """The values of the layer's input, up to one more than a few; None where nothing quantizes it."""
        if layer.input_quantizer is not None:
            return _values(layer.input_quantizer, [_input_shape(layer)])
        return self._origins[layer][1] if layer in self._origins else None

    def paddings(self, layer: Quantized) -> Iterator[Call]:
        """The calls before a layer that pad its map by hand, or change nothing."""
        for call in self.graph.backwards(layer.call.inputs[0]):
            if not facts.of(call).no_op and facts.padding_of(call) is None:
                return
            yield call

    @functools.cached_property
    def _origins(self) -> dict[Quantized, tuple[tf.keras.Model, set[float]]]:
        """For layers without a quantizer of their input that reads few values: what makes them, and they."""
        origins = {}
        for layer in self.quantized:
            if layer.input_quantizer is None and layer.quantizes_kernel and not layer.is_nested:
                *_, start = layer.call.inputs[0], *(call.inputs[0] for call in self.paddings(layer))
                model = origin_of(self.graph, start)
                if model is None:
                    continue
                shapes = [tensor.shape[1:] for tensor in model.inputs]
                taken = _values(functools.partial(model, training=False), shapes)
                if len(taken) <= _FEW:
                    origins[layer] = model, taken
        return origins


def _extents(config: dict[str, Any]) -> list[int]:
    """Height and width of a kernel with the gaps of its dilation."""
    sizes = zip(config["kernel_size"], config["dilation_rate"], strict=True)
    return [(size - 1) * dilation + 1 for size, dilation in sizes]


def _input_shape(layer: Quantized) -> tuple[int, ...]:
    """The shape of an example for a layer that takes signs, of a small size."""
    axes = layer.layer.input_spec.axes if layer.layer.input_spec else None
    rank = 2 if layer.is_convolution else len(getattr(layer.layer, "kernel_size", ()))
    return (*[SIZE] * rank, (axes or {}).get(-1, _CHANNELS))


def _values(function: Callable[[Any], Any], shapes: Sequence[tuple[int, ...]]) -> set[float]:
    """The values that a function gives for normal noise, up to one more than a few."""
    rng = np.random.default_rng(0)
    noise = [tf.constant(2 * rng.standard_normal((2, *shape), np.float32)) for shape in shapes]
    outputs = np.asarray(function(noise if len(noise) > 1 else noise[0]), np.float64)
    return set(np.unique(outputs)[: _FEW + 1].tolist())


# The rules ------------------------------------------------------------------------------------------------

Rule = Callable[[Network], Iterator[Finding]]
RULES: Registry[Rule] = Registry("lint rule", entry_points="bnn_tf.lint_rules")
_after_folding: set[str] = set()

_STAYS_FLOAT = "it stays a float operator with 32-bit weights"
_WORD = 32  # channels in a bit-packed element
_IN, _OUT = 32, 8  # channels that the kernels take at a time
_BLOCK = 128  # weights of a filter that the kernels take at a time
_WASTE = 0.2  # share of them that may be padding
_FOLDED_AWAY = "Nothing to do: folding removes it (conversion without folding would keep it)"
_LARQS_SIGNS = (lq.quantizers.ApproxSign, lq.quantizers.SteSign, lq.quantizers.SwishSign)
_OWN_OPERATOR = (_layers.PReLU, _layers.LeakyReLU, _layers.ELU)
_GLOBAL_POOLS = (_layers.GlobalAveragePooling2D, _layers.GlobalMaxPooling2D)


def rule(name: str, *, after_folding: bool = False) -> Callable[[Rule], Rule]:
    """A decorator that registers a rule: a function from a `Network` to findings.

    Args:
        name: The rule's name; its findings usually have it as their code.
        after_folding: Whether folding may remove what the rule finds. It is then also applied to the folded
            network, and what is no longer there becomes information.

    Example:
        >>> @rule("no-wide-kernels")
        ... def no_wide_kernels(network):
        ...     for layer in network.convolutions:
        ...         if max(layer.layer.kernel_size) > 7:
        ...             yield Finding("no-wide-kernels", Severity.WARNING, layer.name, "wide", "Split it")
    """

    def add(function: Rule) -> Rule:
        if after_folding:
            _after_folding.add(name)
        return RULES.register(name)(function)

    return add


def lint(model: tf.keras.Model | str | os.PathLike[str]) -> LintReport:
    """What will break, convert wrongly or be slow on Larq Compute Engine.

    The model need not be trained: only the kinds of its layers, their order and their quantizers are judged.
    Nothing is changed. What `convert` folds away is mentioned as information; what is an error here,
    `convert` refuses.

    Args:
        model: A functional or built Sequential model, or the path of a saved one; others get an error that
            says so.

    Example:
        >>> import zoo
        >>> len(lint(zoo.CifarResNet20(method="recu", input_shape=(32, 32, 3), num_classes=10)).errors)
        0
    """
    model = opened(model)
    if (blocking := obstacle(model)) is not None:
        return LintReport(getattr(model, "name", type(model).__name__), (blocking,))
    return lint_graphs(model, read_frozen(model), folded(model))


def lint_graphs(model: tf.keras.Model, graph: Graph, after_folding: Graph | None) -> LintReport:
    """`lint` for a model whose graphs are read already.

    Args:
        model: The model.
        graph: Its graph, as `graph.read_frozen` gives it.
        after_folding: The folded graph; None to judge a conversion without folding.
    """
    network = Network(model, graph)
    after = network if after_folding is None else Network(model, after_folding)
    findings: list[Finding] = []
    for name in RULES:
        before = list(RULES.get(name)(network))
        if name not in _after_folding:
            findings += before
            continue
        left = list(RULES.get(name)(after))
        places = {(finding.code, finding.layer) for finding in left}
        findings += left + [
            dataclasses.replace(finding, severity=Severity.INFO, remedy=_FOLDED_AWAY)
            for finding in before
            if (finding.code, finding.layer) not in places
        ]
    return LintReport(model.name, tuple(_sorted(findings, network)))


def _sorted(findings: list[Finding], network: Network) -> list[Finding]:
    """By severity, then in order of the layers; findings on the whole model come first."""
    names = [call.layer.name for call in network.graph.calls]
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    severities = list(Severity)

    def key(finding: Finding) -> tuple[int, int]:
        place = places.get(finding.layer, places.get(finding.layer.rsplit("/", 1)[0], -1))
        return severities.index(finding.severity), place

    return sorted(dict.fromkeys(findings), key=key)


def _error(code: str, layer: str, reason: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, layer, reason, remedy)


def _warning(code: str, layer: str, reason: str, remedy: str) -> Finding:
    return Finding(code, Severity.WARNING, layer, reason, remedy)


def _info(code: str, layer: str, reason: str, remedy: str) -> Finding:
    return Finding(code, Severity.INFO, layer, reason, remedy)


# The model as a whole ---------------------------------------------------------------------------------


def obstacle(model: tf.keras.Model) -> Finding | None:
    """The error for a model whose graph cannot be read at all, so that no rule can look at it."""
    for part in _with_nested(model):
        if not is_functional(part):
            name = getattr(part, "name", type(part).__name__)
            reason = "it is subclassed or not built yet, so that its layers cannot be followed or converted"
            remedy = "Build it with tf.keras.Input and tf.keras.Model(inputs, outputs)"
            return _error("not-functional", name, reason, remedy)
    for layer in model._flatten_layers(recursive=True, include_self=False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about lambdas, which are not stored
                layer.get_config()
        except NotImplementedError:
            reason = f"its class {type(layer).__name__} has no get_config, so that it cannot be copied"
            remedy = "Define get_config to return the arguments of its constructor"
            return _error("no-configuration", layer.name, reason, remedy)
    return None


def _with_nested(model: tf.keras.Model) -> Iterator[tf.keras.Model]:
    """The model and all that it calls, which `read` puts in one graph."""
    yield model
    for layer in model.layers if is_functional(model) else ():
        if isinstance(layer, tf.keras.Model):
            yield from _with_nested(layer)


@rule("integer-input")
def integer_input(network: Network) -> Iterator[Finding]:
    """Inputs of integers."""
    for tensor in network.model.inputs:
        if not tensor.dtype.is_floating:
            reason = f"it takes {tensor.dtype.name} images, but a converted model takes float32"
            remedy = "Build it with a float32 input; the conversion itself can make the file take raw pixels"
            yield _error("integer-input", network.model.name, reason, remedy)


@rule("unknown-size")
def unknown_size(network: Network) -> Iterator[Finding]:
    """Inputs of any size."""
    for tensor in network.model.inputs:
        if None in tensor.shape[1:]:
            reason = f"it takes images of any size {tuple(tensor.shape[1:])}, but a file has a fixed one"
            remedy = "Build it with input_shape=(height, width, channels)"
            yield _error("unknown-size", network.model.name, reason, remedy)


@rule("mixed-precision")
def mixed_precision(network: Network) -> Iterator[Finding]:
    """Layers in half precision, which LCE's converter refuses and `convert` rebuilds."""
    if low := low_precision(network.model):
        reason = f"it computes in {' and '.join(low)}, which LCE's converter refuses"
        remedy = "Nothing to do: the conversion rebuilds it in float32"
        yield _info("mixed-precision", network.model.name, reason, remedy)


@rule("hidden-layer")
def hidden_layers(network: Network) -> Iterator[Finding]:
    """Quantized layers inside a user's layers, whose neighbours lint cannot see."""
    for layer in network.quantized:
        if layer.is_nested:
            reason = "it stands inside another layer, so that its padding and neighbours are not checked"
            remedy = "Compose layers in a function or a tf.keras.Model to have all of it checked"
            yield _info("hidden-layer", layer.name, reason, remedy)


# What stays float, does not run, or computes something else -------------------------------------------


@rule("unsupported-layer", after_folding=True)
def unsupported_layer(network: Network) -> Iterator[Finding]:
    """Binary layers of a kind that LCE has no operator for; folding makes convolutions of some."""
    for layer in network.binary:
        if not layer.is_convolution:
            reason = f"LCE has no binary {layer.spec.kind.__name__}: {_STAYS_FLOAT}"
            remedy = "Use a QuantConv2D, or leave it unquantized"
            yield _error("unsupported-layer", layer.name, reason, remedy)


@rule("unknown-operator", after_folding=True)
def unknown_operator(network: Network) -> Iterator[Finding]:
    """Layers that become operators which LCE's converter or interpreter lacks; they are tried out."""
    for call in network.graph.calls:
        if (problem := trials.problem(call)) is not None:
            remedy = "Compute it with other operations, or after the network"
            yield _error("unknown-operator", call.layer.name, problem, remedy)


@rule("grouped-convolution")
def grouped(network: Network) -> Iterator[Finding]:
    """Grouped binary convolutions."""
    for layer in network.binary:
        groups = getattr(layer.layer, "groups", 1)
        if layer.is_convolution and groups > 1:
            packs = layer.layer.kernel.shape[2] % _WORD == 0
            fate = "it converts, but LCE's interpreter cannot run it" if packs else _STAYS_FLOAT
            reason = f"it has {groups} groups: {fate}"
            remedy = "Split the channels and use one QuantConv2D for each group, or use groups=1"
            yield _error("grouped-convolution", layer.name, reason, remedy)


@rule("channels-first")
def channels_first(network: Network) -> Iterator[Finding]:
    """Binary convolutions with the channels before the map."""
    for layer in network.binary:
        if layer.is_convolution and layer.layer.data_format == "channels_first":
            reason = f"its channels come first: {_STAYS_FLOAT}"
            yield _error("channels-first", layer.name, reason, 'Use data_format="channels_last"')


@rule("kernel-values", after_folding=True)
def kernel_values(network: Network) -> Iterator[Finding]:
    """Kernels that are not ±s with one s > 0 in every filter; a scale near 0 is folded away."""
    for layer in network.binary:
        kernel = layer.spec.weights.get("kernel")
        if kernel is None or not issubclass(layer.spec.kind, facts.BINARY_KINDS):
            continue
        scales = facts.filter_scales(kernel)
        if scales is None:
            code, what = _describe_kernel(kernel)
            remedy = "Give the weights of each filter one scale, as ste_sign and magnitude_aware_sign do"
            yield _error(code, layer.name, f"{what}: {_STAYS_FLOAT}", remedy)
        elif tiny := int((scales <= facts.SMALLEST_SCALE).sum()):
            reason = f"{tiny} of its filters have a scale of nearly 0: {_STAYS_FLOAT}"
            yield _error("tiny-filters", layer.name, reason, "Let every filter have a scale above 1e-7")


def _describe_kernel(kernel: np.ndarray) -> tuple[str, str]:
    magnitude = np.abs(kernel.reshape(-1, *kernel.shape[-2:]))
    largest = magnitude.max(axis=(0, 1))
    if np.isin(magnitude / np.where(largest > 0, largest, 1), (0, 1)).all():
        return "ternary-weights", "its filters hold zeros beside +s and -s"
    if np.allclose(magnitude, magnitude[0], rtol=1e-6, atol=0):
        return "per-input-channel-scale", "its weights have a scale for each input channel"
    return "uneven-weights", "the weights of a filter are not all +s or -s with one s"


@rule("activation-values")
def activation_values(network: Network) -> Iterator[Finding]:
    """Inputs of binary layers that take other values than -1 and +1."""
    for layer in network.binary:
        taken = network.values(layer)
        if not issubclass(layer.spec.kind, facts.BINARY_KINDS) or taken is None or taken <= {-1.0, 1.0}:
            continue
        code = "zero-one-activations" if taken <= {0.0, 1.0} else "activations-not-signs"
        shown = ", ".join(f"{value:.3g}" for value in sorted(taken)[:4]) + ", …" * (len(taken) > 4)
        own = layer.input_quantizer is not None
        what = "its input quantizer gives" if own else "its input takes the values"
        remedy = "Use a quantizer to -1 and +1, such as ste_sign or approx_sign; scale after the convolution"
        yield _error(code, layer.name, f"{what} {shown}: {_STAYS_FLOAT}", remedy)


@rule("unrecognized-sign", after_folding=True)
def unrecognized_sign(network: Network) -> Iterator[Finding]:
    """Signs that LCE's converter does not take for binary; unknown ones are tried out."""
    tried: dict[Any, bool] = {}
    for layer in network.convolutions:
        quantizer = layer.input_quantizer
        known = type(quantizer) in _LARQS_SIGNS or getattr(quantizer, "recognized_by_lce", False)
        taken = None if known else network.values(layer)
        if taken is None or not taken <= {-1.0, 1.0}:
            continue
        key = _identity(quantizer) if quantizer is not None else layer
        if key not in tried:
            tried[key] = trials.is_recognized(network.activations(layer))
        if not tried[key]:
            reason = f"LCE does not recognize that its input is binary: {_STAYS_FLOAT}"
            remedy = (
                "Take the sign straight before it, by input_quantizer=, with Larq's quantizers or its sign"
            )
            yield _error("unrecognized-sign", layer.name, reason, remedy)


def _identity(quantizer: Any) -> Any:
    if not isinstance(quantizer, lq.quantizers.Quantizer):
        return quantizer
    config = {key: value for key, value in quantizer.get_config().items() if key != "name"}
    return type(quantizer), json.dumps(config, sort_keys=True, default=str)


@rule("quantized-activations")
def quantized_activations(network: Network) -> Iterator[Finding]:
    """Quantizers of activations before real kernels that the file computes otherwise.

    Those to -1, 0 and +1 LCE takes for signs, and those that depend on the batch see one image in the file.
    """
    binary = {layer.call for layer in network.binary}
    for call in network.graph.calls:
        quantizer = facts.input_quantizer(call.layer)
        if call in binary or not facts.is_active(quantizer):
            continue
        shape = (2, *(size or SIZE for size in call.inputs[0].shape[1:]))
        noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        tried = facts.to_try(quantizer)
        both, one = (np.asarray(tried(tf.constant(images))) for images in (noise, noise[:1]))
        if set(np.unique(both)) == {-1.0, 0.0, 1.0}:
            reason = "LCE takes its activations of -1, 0 and +1 for signs: the file computes something else"
            yield _error("ternary-activations", call.layer.name, reason, "Use a sign, or no quantizer")
        elif both.shape == shape and not np.allclose(both[:1], one, rtol=1e-5):
            reason = "its input quantizer depends on the other images of the batch, which a file does not see"
            yield _error("batch-dependent", call.layer.name, reason, "Use a quantizer of single values")


@rule("sign-of-sums", after_folding=True)
def sign_of_sums(network: Network) -> Iterator[Finding]:
    """`tf.sign` of sums of signs, which is 0 where they cancel; rounding decides whether they do."""
    for layer in network.convolutions:
        biased = layer.call.layer.weights.get("bias")
        if biased is None or not biased.any():
            yield from _signs_behind(network.graph, layer.call.outputs[0])


def _signs_behind(graph: Graph, tensor: Tensor) -> Iterator[Finding]:
    for call in graph.consumers(tensor):
        activation = call.layer.config["activation"] if call.layer.kind is _layers.Activation else None
        if facts.function_of(call.layer) == "math.sign" or activation is tf.sign:
            reason = (
                "tf.sign is 0 where the sum of signs before it is, and rounding decides that: the file "
                "computes something else"
            )
            yield _error("sign-of-sums", call.layer.name, reason, "Use Larq's sign, which is +1 there")
        elif (
            (known := facts.of(call)).homogeneous
            or known.odd
            or ((map_ := affine_of(call)) is not None and not map_.bias.any())
        ):
            yield from _signs_behind(graph, call.outputs[0])


@rule("padded-signs")
def padded_signs(network: Network) -> Iterator[Finding]:
    """Padding by a layer between the sign and the convolution, with anything but 1."""
    for layer in network.convolutions:
        paddings = map(facts.padding_of, network.paddings(layer))
        wrong = any(padding is not None and padding.value != 1.0 for padding in paddings)
        if wrong and layer.input_quantizer is None:
            reason = f"the padding between the sign and it makes values other than -1 and +1: {_STAYS_FLOAT}"
            remedy = 'Use padding="same" with pad_values=1 (or 0) in the QuantConv2D itself'
            yield _error("padded-signs", layer.name, reason, remedy)


@rule("int8-zero-padding")
def int8_zero_padding(network: Network) -> Iterator[Finding]:
    """Zero-padded binary convolutions whose output is fake-quantized, so that it becomes int8."""
    for layer in network.convolutions:
        if not layer.pads_zeros:
            continue
        _, reader = facts.behind_affine(network.graph, layer.call.outputs[0])
        if reader is not None and facts.function_of(reader.layer).startswith("quantization.fake_quant"):
            reason = "it pads with zeros and its output is int8, which LCE's interpreter cannot run"
            remedy = 'Use pad_values=1 or padding="valid", or leave its output float'
            yield _error("int8-zero-padding", layer.name, reason, remedy)


@rule("small-map", after_folding=True)
def small_map(network: Network) -> Iterator[Finding]:
    """Zero-padded binary convolutions of maps smaller than their kernel, at any stride."""
    for layer in network.convolutions:
        sides, extents = layer.call.inputs[0].shape[1:3], _extents(layer.spec.config)
        small = any(side and side < extent for side, extent in zip(sides, extents, strict=True))
        if layer.pads_zeros and small:
            kernel, size = ("×".join(map(str, shape)) for shape in (extents, sides))
            reason = (
                f"its {kernel} kernel is larger than its {size} map, which it pads with zeros: "
                "LCE's interpreter computes something else, silently"
            )
            yield _error("small-map", layer.name, reason, "Use pad_values=1, or larger images")


@rule("lstm")
def fused_lstm(network: Network) -> Iterator[Finding]:
    """LSTMs that the converter makes one operator of, which LCE computes wrongly."""
    for call in network.graph.calls:
        for name, layer in facts.parts(call.layer.name, call.layer.origin):
            if not isinstance(layer, _layers.LSTM) or layer.unroll or not layer.use_bias:
                continue
            functions = map(tf.keras.activations.serialize, (layer.activation, layer.recurrent_activation))
            if tuple(functions) == ("tanh", "sigmoid"):
                reason = "LCE's converter makes one operator of this LSTM, which computes something else"
                remedy = "Use LSTM(…, unroll=True), or a GRU"
                yield _error("lstm", name, reason, remedy)


# Padding that LCE's converter misreads ----------------------------------------------------------------
#
# The converter takes a padding layer before a `valid` convolution for `same` padding if the output has the
# size that `same` would give, and forgets what was padded where. `same` at stride 2 on even sizes pads
# (0, 1). Measured: a sole reader, nothing but no-ops between, zeros (also ones before a binary convolution),
# and an end that is padded by as much as the start or one more. Pools and transposed convolutions are right.

_STRIDED = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.SeparableConv2D)


@rule("strided-padding")
def strided_padding(network: Network) -> Iterator[Finding]:
    """Padding by hand before a strided convolution that LCE misreads."""
    fed_signs = {layer.call for layer in network.convolutions if layer.input_quantizer is None}
    for call in network.graph.calls:
        before = facts.padding_before(network.graph, call.inputs[0]) if _reads_raw(call) else None
        if before is None:
            continue
        padding, start = before
        extents, strides = _extents(call.layer.config), call.layer.config["strides"]
        axes = list(zip(padding.sides, start.shape[1:3], extents, strides, strict=True))
        fused = padding.value == 0.0 or (padding.value == 1.0 and call in fed_signs)
        if fused and all(_looks_same(*axis) for axis in axes) and not all(_is_same(*axis) for axis in axes):
            height, width = padding.sides
            reason = (
                f"LCE takes the padding of {height} and {width} before its stride for padding='same', which "
                "pads other sides here: the file computes something else, silently"
            )
            remedy = (
                "Use padding='same' in the layer itself and train with it; to keep PyTorch weights exact, "
                "flip the images and all kernels in both directions, as torch_padding=True does in the zoo's "
                "networks"
            )
            yield _error("strided-padding", call.layer.name, reason, remedy)


def _reads_raw(call: Call) -> bool:
    """Whether a call convolves its input as it is, unpadded and not on every pixel."""
    layer = call.layer
    if not issubclass(layer.kind, _STRIDED) or issubclass(layer.kind, _layers.Conv2DTranspose):
        return False
    raw = not facts.is_active(layer.config.get("input_quantizer"))
    return raw and layer.config["padding"] == "valid" and max(layer.config["strides"]) > 1


def _looks_same(sides: tuple[int, int], size: int | None, extent: int, stride: int) -> bool:
    if not 0 <= sides[1] - sides[0] <= 1:
        return False
    if size is None:
        return sum(sides) == extent - 1
    return (size + sum(sides) - extent) // stride + 1 == -(-size // stride)


def _is_same(sides: tuple[int, int], size: int | None, extent: int, stride: int) -> bool:
    if size is None:  # right for some sizes, wrong for others
        return stride == 1 or sum(sides) == 0
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return sides == (total // 2, total - total // 2)


# What is right, but costs time or memory --------------------------------------------------------------


@rule("zero-padding")
def zero_padding(network: Network) -> Iterator[Finding]:
    """Binary convolutions padded with zeros."""
    for layer in network.convolutions:
        if layer.pads_zeros:
            reason = (
                "it pads with zeros, which LCE corrects afterwards, and which keeps activations and "
                "bit-packed output from being fused"
            )
            yield _warning("zero-padding", layer.name, reason, "Train with pad_values=1")


@rule("channels")
def channels(network: Network) -> Iterator[Finding]:
    """Numbers of channels that leave part of the kernels' width unused."""
    for layer in network.convolutions:
        inputs, outputs = layer.layer.kernel.shape[2:]
        if inputs % _IN:
            reason = f"its {inputs} input channels are padded to {-(-inputs // _IN) * _IN}"
            yield _warning("input-channels", layer.name, reason, f"Use a multiple of {_IN}")
        if outputs % _OUT:
            reason = f"its {outputs} output channels are no multiple of {_OUT}"
            yield _warning("output-channels", layer.name, reason, f"Use a multiple of {_OUT}")


@rule("kernel-volume")
def kernel_volume(network: Network) -> Iterator[Finding]:
    """Filters of a size that the kernels pad by much."""
    for layer in network.convolutions:
        height, width, inputs, _ = layer.layer.kernel.shape
        volume = height * width * inputs
        padded = -(-volume // _BLOCK) * _BLOCK
        if 1 - volume / padded > _WASTE:
            reason = f"its filters have {height}·{width}·{inputs} = {volume} weights, padded to {padded}"
            yield _info("kernel-volume", layer.name, reason, f"Best is a multiple of {_BLOCK}")


@rule("half-quantized")
def half_quantized(network: Network) -> Iterator[Finding]:
    """Layers that quantize only their kernel or only their input, so that they run in float."""
    for layer in network.quantized:
        if layer in network.binary or not (layer.quantizes_kernel or layer.input_quantizer is not None):
            continue
        side, other = ("kernel", "input") if layer.quantizes_kernel else ("input", "kernel")
        reason = f"only its {side} is quantized, not its {other}: it runs and is stored in float32"
        remedy = f"Give it a quantizer for its {other} too, or none at all (usual in a first layer)"
        yield _warning("half-quantized", layer.name, reason, remedy)


@rule("prelu-axes")
def prelu_axes(network: Network) -> Iterator[Finding]:
    """PReLUs with a slope for every pixel."""
    for call in network.graph.calls:
        if not issubclass(call.layer.kind, _layers.PReLU):
            continue
        rank = len(call.inputs[0].shape)
        if rank == 4 and not {1, 2} <= set(call.layer.config["shared_axes"] or ()):
            reason = "it learns, stores and reads a slope for every pixel"
            yield _warning("prelu-axes", call.layer.name, reason, "Use PReLU(shared_axes=[1, 2])")


@rule("explicit-padding")
def explicit_padding(network: Network) -> Iterator[Finding]:
    """Padding of the map by a layer, which is a pass over the map unless a convolution takes it in."""
    for call in network.graph.calls:
        reader = network.graph.sole_consumer(call.outputs[0])
        if facts.padding_of(call) is None or reader is None:
            continue
        if issubclass(reader.layer.kind, (_layers.MaxPooling2D, _layers.AveragePooling2D)):
            reason = "it stays an operator of its own before the pool (and is computed right)"
            remedy = "Use padding='same' in the pool where that is the same"
            yield _info("explicit-padding", call.layer.name, reason, remedy)


@rule("activation-order", after_folding=True)
def activation_order(network: Network) -> Iterator[Finding]:
    """Activations and normalizations in the order that cannot be fused into the convolution."""
    for layer in network.convolutions:
        affine, call = facts.behind_affine(network.graph, layer.call.outputs[0])
        if call is None:
            continue
        name = call.layer.name
        if affine and facts.of(call).clips:
            reason = (
                f"it follows the normalization or scale of '{layer.name}': it becomes an operator of its own"
            )
            remedy = "Put the activation straight after the convolution, and the BatchNormalization last"
            yield _warning("activation-order", name, reason, remedy)
        elif issubclass(call.layer.kind, _OWN_OPERATOR) and not affine:
            if not facts.behind_affine(network.graph, call.outputs[0])[0]:
                continue
            reason = "it keeps the normalization behind it from being fused into the convolution"
            remedy = "Put the BatchNormalization straight after the convolution"
            yield _warning("activation-order", name, reason, remedy)


@rule("clip-before-sign", after_folding=True)
def clip_before_sign(network: Network) -> Iterator[Finding]:
    """Activations whose values only go to signs, where they change nothing."""
    signs = {layer.call for layer in network.quantized if layer.input_quantizer is not None}
    for call in network.graph.calls:
        known = facts.of(call)
        if not known.keeps_sign or known.no_op:
            continue
        reader = facts.reader_behind(network.graph, call.outputs[0], lambda known: known.commutes_with_sign)
        if reader is not None and reader in signs:
            reason = f"only '{reader.layer.name}' reads it, which takes the sign: it changes nothing"
            yield _warning("clip-before-sign", call.layer.name, reason, "Leave it out")


@rule("global-pooling", after_folding=True)
def global_pooling(network: Network) -> Iterator[Finding]:
    """Global pools, which run as reductions."""
    for call in network.graph.calls:
        if issubclass(call.layer.kind, _GLOBAL_POOLS) or facts.averages_map(call):
            reason = "global pooling becomes a reduction, which is slower than a pool"
            remedy = "Use AveragePooling2D (or MaxPool2D) with a pool of the map's size, then Flatten"
            yield _warning("global-pooling", call.layer.name, reason, remedy)
