"""A Keras model as a small graph that can be edited and built again.

Folding needs to replace, insert and remove layers and to compute with their weights, none of which a
live Keras model allows. `read` turns a functional model (nested models are inlined) into plain
records; `Graph.build` makes a Keras model of them. `read_frozen` also makes the quantized kernels plain
constants. The model that was read is never changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bnn_tf._tensorflow import KERNELS, lq, tf, without_autograph
from bnn_tf.errors import UserError

QUANTIZERS = ("input_quantizer", *KERNELS)
"""The attributes (and configuration keys) in which Larq's layers keep their quantizers."""

SIZE = 8
"""Height and width of maps where a part of a network is tried out and the graph leaves them open."""

_VALUES_AT_ONCE = 2**19
_FUNCTIONS = ("activation", "initializer", "regularizer", "constraint")


class ConversionError(UserError):
    """A model that cannot be converted faithfully; nothing was written.

    Example:
        >>> isinstance(ConversionError("a binary convolution stayed float"), UserError)
        True
    """


@dataclasses.dataclass(eq=False)
class Tensor:
    """A value that goes from call to call; compared by identity.

    Attributes:
        shape: Its shape; the batch and unknown sizes are None.
        dtype: Its element type.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def channels(self) -> int | None:
        """The size of the last axis; None where there is none."""
        return self.shape[-1] if self.shape else None


@dataclasses.dataclass(eq=False)
class Spec:
    """A layer as data.

    Attributes:
        kind: Its class.
        config: Its configuration, as `kind.from_config` takes it.
        weights: Its weights by attribute path (`"kernel"`, `"input_quantizer.threshold"`).
        origin: The live layer it was read from, if any.
    """

    kind: Any
    config: dict[str, Any]
    weights: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    origin: tf.keras.layers.Layer | None = None

    @property
    def name(self) -> str:
        """The layer's name, unique in its graph."""
        return self.config["name"]

    def build(self) -> tf.keras.layers.Layer:
        """A new layer of this configuration; its weights come with `assign`."""
        return self.kind.from_config(self.config)

    def assign(self, layer: tf.keras.layers.Layer) -> None:
        """Gives the built `layer` the weights of this record."""
        for path, variable in variables(layer):
            variable.assign(self.weights[path])
        if isinstance(layer, tf.keras.layers.Normalization):
            layer.finalize_state()  # derives from the weights what it computes with


@dataclasses.dataclass(eq=False)
class Call:
    """One use of a layer: which tensors go in and which come out.

    Attributes:
        layer: The layer; calls that share a layer share this object.
        inputs: Tensors in the order in which the layer was given them.
        outputs: Tensors it returns, flattened.
        arguments: Makes the positional and keyword arguments of the call from the input tensors.
        restores: Where folding changed what a layer that takes signs reads: the functions that make of
            it, one after the other, what the layer read before.
    """

    layer: Spec
    inputs: list[Tensor]
    outputs: list[Tensor]
    arguments: Callable[[list[Any]], tuple[Any, Any]] = lambda tensors: (tensors, {})
    restores: list[Callable[[np.ndarray], np.ndarray]] = dataclasses.field(default_factory=list)

    def apply(self, layer: tf.keras.layers.Layer, inputs: list[Any]) -> Any:
        """What a live layer gives for inputs, be they Keras tensors or eager ones."""
        if isinstance(layer, tf.keras.layers.InputLayer):
            return layer.output
        args, kwargs = self.arguments(inputs)
        return layer(*args, **kwargs)

    def compute(self, inputs: list[Any], layers: dict[Spec, tf.keras.layers.Layer]) -> list[Any]:
        """The outputs for eager tensors, in inference mode; layers that are not in `layers` yet are made."""
        if self.layer not in layers:
            with _float32_policy():
                layer = layers[self.layer] = self.layer.build()
                _infer(layer, *self.arguments([tensor[:1] for tensor in inputs]))  # makes its variables
            self.layer.assign(layer)
        return tf.nest.flatten(_infer(layers[self.layer], *self.arguments(inputs)))


@dataclasses.dataclass(eq=False)
class Graph:
    """Calls in an order in which they can be made, the first ones being the inputs."""

    name: str
    calls: list[Call] = dataclasses.field(default_factory=list)
    inputs: list[Tensor] = dataclasses.field(default_factory=list)
    outputs: list[Tensor] = dataclasses.field(default_factory=list)

    def producer(self, tensor: Tensor) -> Call:
        """The call that makes `tensor`."""
        return next(call for call in self.calls if tensor in call.outputs)

    def consumers(self, tensor: Tensor) -> list[Call]:
        """The calls that read `tensor`."""
        return [call for call in self.calls if tensor in call.inputs]

    def sole_consumer(self, tensor: Tensor) -> Call | None:
        """The call that alone reads `tensor`, once and with a layer used nowhere else; or None."""
        readers = self.consumers(tensor)
        if len(readers) != 1 or tensor in self.outputs:
            return None
        (reader,) = readers
        alone = reader.inputs == [tensor] and len(reader.outputs) == 1 and not self.is_shared(reader.layer)
        return reader if alone else None

    def backwards(self, tensor: Tensor, alone: bool = False) -> Iterator[Call]:
        """The calls that made `tensor`, the last one first, as long as each reads one tensor and gives one.

        Args:
            tensor: Where to start.
            alone: Whether to stop where something else reads what a call reads.
        """
        while True:
            call = self.producer(tensor)
            if len(set(call.inputs)) != 1 or len(call.outputs) != 1:
                return
            yield call
            tensor = call.inputs[0]
            if alone and self.sole_consumer(tensor) is not call:
                return

    def forwards(self, tensor: Tensor) -> Iterator[Call]:
        """The calls behind `tensor`, each being the only reader of the one before."""
        while (call := self.sole_consumer(tensor)) is not None:
            yield call
            tensor = call.outputs[0]

    def makers(self, tensors: Iterable[Tensor], given: Collection[Tensor] = ()) -> list[Call]:
        """All calls that `tensors` are computed with, in the order of the graph, where `given` is known."""
        calls: list[Call] = []
        needed = set(tensors).difference(given)
        for call in reversed(self.calls):
            if not needed.isdisjoint(call.outputs):
                calls.insert(0, call)
                needed.update(tensor for tensor in call.inputs if tensor not in given)
        return calls

    def is_shared(self, layer: Spec) -> bool:
        """Whether `layer` is called more than once."""
        return sum(call.layer is layer for call in self.calls) > 1

    def insert_after(self, tensor: Tensor, layer: Spec) -> Call:
        """Puts a shape-keeping `layer` between `tensor` and all that read it."""
        result = Tensor(tensor.shape)
        self._redirect(tensor, result)
        position = self.calls.index(self.producer(tensor)) + 1
        call = Call(layer, [tensor], [result])
        self.calls.insert(position, call)
        return call

    def remove(self, call: Call) -> None:
        """Takes out a call with one input and one output; its readers read its input instead."""
        self.calls.remove(call)
        self._redirect(call.outputs[0], call.inputs[0])

    def _redirect(self, old: Tensor, new: Tensor) -> None:
        for call in self.calls:
            call.inputs = [new if tensor == old else tensor for tensor in call.inputs]
        self.outputs = [new if tensor == old else tensor for tensor in self.outputs]

    def build(self) -> tf.keras.Model:
        """The Keras model (float32) of this graph."""
        return without_autograph(lambda _: self._build())

    def _build(self) -> tf.keras.Model:
        layers: dict[Spec, tf.keras.layers.Layer] = {}

        def compute(call: Call, inputs: list[Any]) -> Any:
            if call.layer not in layers:
                layers[call.layer] = call.layer.build()
            return call.apply(layers[call.layer], inputs)

        with _float32_policy():
            model = self.model_of(compute)
        for spec, layer in layers.items():
            spec.assign(layer)
        return model

    def model_of(self, compute: Callable[[Call, list[Any]], Any]) -> tf.keras.Model:
        """A Keras model in which `compute` makes the results of each call from its Keras tensors."""
        values: dict[Tensor, Any] = {}
        for call in self.calls:
            results = compute(call, [values[tensor] for tensor in call.inputs])
            values.update(zip(call.outputs, tf.nest.flatten(results), strict=True))
        inputs = [values[tensor] for tensor in self.inputs]
        outputs = [values[tensor] for tensor in self.outputs]
        return tf.keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            outputs if len(outputs) > 1 else outputs[0],
            name=self.name,
        )

    def function(self) -> Callable[[list[Any]], list[Any]]:
        """A function from the inputs of this graph to its outputs (eager tensors), in inference mode.

        It is made faster than a model, for which Keras traces each layer.
        """
        calls = self.makers(self.outputs, self.inputs)
        last_use = {tensor: call for call in calls for tensor in call.inputs if tensor not in self.outputs}
        layers: dict[Spec, tf.keras.layers.Layer] = {}

        def compute(inputs: list[Any]) -> list[Any]:
            values = dict(zip(self.inputs, inputs, strict=True))
            for call in calls:
                results = call.compute([values[tensor] for tensor in call.inputs], layers)
                for tensor in {tensor for tensor in call.inputs if last_use.get(tensor) is call}:
                    del values[tensor]
                values.update(zip(call.outputs, results, strict=True))
            return [values[tensor] for tensor in self.outputs]

        return compute


def _infer(layer: tf.keras.layers.Layer, args: Any, kwargs: dict[str, Any]) -> Any:
    if kwargs.get("training") is None and "training" in inspect.signature(layer.call).parameters:
        kwargs = {**kwargs, "training": False}
    return layer(*args, **kwargs)


def variables(layer: tf.keras.layers.Layer) -> Iterator[tuple[str, tf.Variable]]:
    """Every variable of a layer once, with its attribute path, e.g. `"input_quantizer.threshold"`.

    A path survives what a position in `layer.weights` does not: freezing, and quantizers with weights
    that come or go.
    """
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", layer)]
    while waiting:
        path, parent = waiting.pop(0)
        # A variable is tracked both as attribute and under its own name, which differs from copy to copy.
        children = sorted(parent._trackable_children().items(), key=lambda item: not item[0].isidentifier())
        for name, child in children:
            if id(child) in seen:
                continue
            seen.add(id(child))
            child_path = f"{path}.{name}" if path else name
            if isinstance(child, tf.Variable):
                yield child_path, child
            elif hasattr(child, "_trackable_children"):
                waiting.append((child_path, child))


def outputs_of(
    network: tf.keras.Model | Graph, arrays: Sequence[np.ndarray], batch: int | None = None
) -> list[np.ndarray]:
    """What a network gives for examples in inference mode, one array for each of its outputs.

    Operators run one by one: for few examples, making a graph of TensorFlow's takes longer than all of them.

    Args:
        network: The network.
        arrays: Examples for each of its inputs; at least one.
        batch: Examples that are computed at once; by default 128 small images, or 32 large ones.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.layers.ReLU(input_shape=(2,))])
        >>> outputs_of(model, [np.array([[-1.0, 2.0]])])
        [array([[0., 2.]], dtype=float32)]
    """
    compute = network.function() if isinstance(network, Graph) else functools.partial(_predict, network)
    if batch is None:
        batch = min(max(_VALUES_AT_ONCE // max(1, *(array[0].size for array in arrays)), 32), 128)
    parts = []
    for start in range(0, len(arrays[0]), batch):
        examples = [tf.constant(array[start : start + batch], tf.float32) for array in arrays]
        parts.append([np.asarray(output) for output in compute(examples)])
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def _predict(model: tf.keras.Model, examples: list[Any]) -> list[Any]:
    return tf.nest.flatten(model(examples if len(examples) > 1 else examples[0], training=False))


def is_functional(model: Any) -> bool:
    """Whether `model` is a functional or built Sequential model, whose graph can be read."""
    return isinstance(model, tf.keras.Model) and bool(getattr(model, "_nodes_by_depth", None))


def read(model: tf.keras.Model, spec_of: Callable[[tf.keras.layers.Layer], Spec] | None = None) -> Graph:
    """Reads a functional or Sequential model, inlining the models that it calls.

    Low-precision float policies become float32, and a fixed batch size is dropped.

    Args:
        model: The model.
        spec_of: Makes the record of a layer; by default a faithful copy.

    Raises:
        ConversionError: The model is subclassed or not built, so that it has no graph.
    """
    graph = Graph(model.name)
    with lq.context.quantized_scope(False):
        graph.outputs = _Reader(graph, spec_of or copy_of).read(model)
    return graph


class _Reader:
    """Copies networks into a graph; a layer called several times becomes one `Spec`."""

    def __init__(self, graph: Graph, spec_of: Callable[[tf.keras.layers.Layer], Spec]) -> None:
        self._graph, self._spec_of = graph, spec_of
        self._specs: dict[int, Spec] = {}

    def read(self, network: Any, inputs: list[Tensor] | None = None, prefix: str = "") -> list[Tensor]:
        """Adds the calls of a network, which others may have given `inputs`; returns its outputs."""
        if not is_functional(network):
            raise ConversionError(
                f"the model '{getattr(network, 'name', network)}' is subclassed or not built yet, so its "
                "layers cannot be followed; build it with tf.keras.Input and tf.keras.Model(inputs, outputs) "
                "before converting it"
            )
        tensors: dict[str, Tensor] = {}
        if inputs is not None:
            tensors.update(zip((str(id(t)) for t in network.inputs), inputs, strict=True))
        for depth in sorted(network._nodes_by_depth, reverse=True):
            for node in network._nodes_by_depth[depth]:
                if not node.is_input:
                    results = self._read_call(node, [tensors[key] for key in node.flat_input_ids], prefix)
                elif inputs is None:
                    results = self._add(node, [])
                else:
                    continue
                tensors.update(zip(node.flat_output_ids, results, strict=True))
        if inputs is None:
            self._graph.inputs = [tensors[str(id(t))] for t in network.inputs]
        return [tensors[str(id(t))] for t in network.outputs]

    def _read_call(self, node: Any, inputs: list[Tensor], prefix: str) -> list[Tensor]:
        if isinstance(node.layer, tf.keras.Model):
            return self.read(node.layer, inputs, f"{prefix}{node.layer.name}/")
        results = self._add(node, inputs, prefix)
        keys = list(node.flat_input_ids)

        def arguments(values: list[Any]) -> tuple[Any, Any]:
            slots: dict[str, list[Any]] = {}
            for key, value in reversed(list(zip(keys, values, strict=True))):
                slots.setdefault(key, []).append(value)
            return node.map_arguments(slots)

        self._graph.calls[-1].arguments = arguments
        return results

    def _add(self, node: Any, inputs: list[Tensor], prefix: str = "") -> list[Tensor]:
        layer = node.layer
        if id(layer) not in self._specs:
            spec = self._spec_of(layer)
            spec.config["name"] = f"{prefix}{spec.name}"
            self._specs[id(layer)] = spec
        outputs = tf.nest.flatten(node.outputs)
        results = [Tensor(tuple(t.shape), _dtype(tf.as_dtype(t.dtype).name)) for t in outputs]
        self._graph.calls.append(Call(self._specs[id(layer)], inputs, results))
        return results


def copy_of(layer: tf.keras.layers.Layer) -> Spec:
    """The record of a live layer. Objects that Keras could not make from their configuration stay objects."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about lambdas, which are not stored here
        config = _in_float32(layer.get_config())
    if "name" not in config:
        raise ConversionError(
            f"the layer '{layer.name}' ({type(layer).__name__}) cannot be made again: its get_config must "
            "add to that of its base class, and its constructor must pass the name on"
        )
    for key, value in config.items():
        foreign = isinstance(value, dict) and not str(value.get("module")).startswith("keras")
        if key.endswith(_FUNCTIONS) and foreign:
            config[key] = _copy_quantizer(getattr(layer, key, value))
    for key in QUANTIZERS:
        if key in config:
            config[key] = _copy_quantizer(getattr(layer, key))
    if isinstance(layer, tf.keras.layers.InputLayer):
        config["batch_input_shape"] = (None, *config["batch_input_shape"][1:])
    return Spec(type(layer), config, {path: variable.numpy() for path, variable in variables(layer)}, layer)


def _copy_quantizer(quantizer: Any) -> Any:
    if isinstance(quantizer, tf.keras.layers.Layer):
        return type(quantizer).from_config(_in_float32(quantizer.get_config()))
    return quantizer


def _in_float32(config: Any) -> Any:
    """The configuration with every low-precision float policy replaced, at any depth."""
    if isinstance(config, dict):
        return {key: _dtype(value) if key == "dtype" else _in_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        sequence = tuple if isinstance(config, tuple) else list  # Keras hands out lists of a class of its own
        return sequence(map(_in_float32, config))
    return config


def _dtype(value: Any) -> Any:
    name = value["config"]["name"] if isinstance(value, dict) and "config" in value else value
    return "float32" if isinstance(name, str) and "float16" in name else value


@contextlib.contextmanager
def _float32_policy() -> Iterator[None]:
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)


def origin_of(graph: Graph, tensor: Tensor) -> tf.keras.Model | None:
    """A model of the calls that make `tensor`, back to those with weights; None where there are none.

    Sizes that the graph leaves open become `SIZE`.
    """
    given = {made for call in graph.calls if call.layer.weights or not call.inputs for made in call.outputs}
    calls = graph.makers([tensor], given)
    if not calls:
        return None
    starts = list(dict.fromkeys(read for call in calls for read in call.inputs if read in given))
    sources = []
    for number, start in enumerate(starts):
        shape = (None, *(size or SIZE for size in start.shape[1:]))
        config = {"name": f"probe/start_{number}", "batch_input_shape": shape, "dtype": "float32"}
        sources.append(Call(Spec(tf.keras.layers.InputLayer, config), [], [start]))
    return Graph("activations", [*sources, *calls], starts, [tensor]).build()


def unique_name(graph: Graph, stem: str) -> str:
    """`stem`, with a number if a layer of the graph has that name already."""
    taken = {call.layer.name for call in graph.calls}
    names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(1)))
    return next(name for name in names if name not in taken)


def freeze(model: tf.keras.Model) -> tf.keras.Model:
    """The same network with the quantized kernels as plain constants.

    Every Larq layer loses its kernel quantizer, and its kernel variable holds what the quantizer made of
    the latent kernel; input quantizers stay. Kernel quantizers with gathers, look-ups or variables
    therefore need no constant folding in LCE's converter. Nested models are inlined, low-precision
    policies become float32, and the given model stays as it is.

    Args:
        model: A functional or built Sequential model.

    Raises:
        ConversionError: The model is subclassed or not built.

    Example:
        >>> recu = bnn_tf.quantizers.ReCU()
        >>> conv = lq.layers.QuantConv2D(8, 3, kernel_quantizer=recu, input_shape=(6, 6, 4))
        >>> frozen = freeze(tf.keras.Sequential([conv]))
        >>> np.unique(frozen.layers[-1].get_weights()[0]), frozen.layers[-1].kernel_quantizer is None
        (array([-1.,  1.], dtype=float32), True)
    """
    return read_frozen(model).build()


def read_frozen(model: tf.keras.Model) -> Graph:
    """The graph of `freeze(model)`."""
    return read(in_float32(model), frozen)  # or kernels would be quantized in half precision


def in_float32(model: tf.keras.Model) -> tf.keras.Model:
    """The model itself if it computes in float32 throughout, else the same network rebuilt in float32."""
    return read(model).build() if low_precision(model) else model


def low_precision(model: tf.keras.Model) -> list[str]:
    """The types of less than 32 bits that layers of a model compute in, e.g. `["bfloat16"]`."""
    types = {str(getattr(module, "compute_dtype", "")) for module in model.submodules}
    return sorted(name for name in types if "float16" in name)


def frozen(layer: tf.keras.layers.Layer) -> Spec:
    """The record of a live layer with its quantized kernels as plain constants."""
    spec = copy_of(layer)
    for key, kernel in KERNELS.items():
        if spec.config.get(key) is None:
            continue
        with lq.context.quantized_scope(True):
            spec.weights[kernel] = getattr(layer, kernel).numpy()
        spec.config[key] = None
        spec.weights = {path: w for path, w in spec.weights.items() if not path.startswith(f"{key}.")}
        role = key.removesuffix("_quantizer")
        spec.config |= {
            f"{role}_constraint": None,
            f"{role}_regularizer": None,
            f"{role}_initializer": "zeros",
        }
    return spec
