"""The quantized layers of a network, and what they are given."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import binary
from bnn_tf.deploy.graph import QUANTIZERS, Call, Graph
from bnn_tf.deploy.linting import probe, walk
from bnn_tf.deploy.linting.walk import Padding


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

    @property
    def is_convolution(self) -> bool:
        """Whether it is of the one kind that LCE has a binary operator for."""
        return isinstance(self.layer, lq.layers.QuantConv2D)

    @property
    def input_quantizer(self) -> Any:
        """What quantizes its input, or None."""
        return _active(getattr(self.layer, "input_quantizer", None))

    @functools.cached_property
    def kernel(self) -> np.ndarray | None:
        """The kernel that is convolved with; None for layers with several or none."""
        if not hasattr(self.layer, "kernel"):
            return None
        stored = None if self.is_nested else self.call.layer.weights.get("kernel")
        return binary.quantized_kernel(self.layer) if stored is None else stored

    @functools.cached_property
    def quantizes_kernel(self) -> bool:
        """Whether its kernel is quantized; also that of a frozen model, whose filters are ±s."""
        if any(_active(getattr(self.layer, key, None)) is not None for key in QUANTIZERS[1:]):
            return True
        return self.is_convolution and binary.filter_scales(self.layer.kernel.numpy()) is not None

    @property
    def pads_zeros(self) -> bool:
        """Whether it pads its map with zeros itself."""
        return self.layer.padding == "same" and getattr(self.layer, "pad_values", 0.0) == 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A graph of frozen layers, with what several checks ask about it."""

    graph: Graph

    @functools.cached_property
    def quantized(self) -> tuple[Quantized, ...]:
        """All layers that may quantize, in order of the calls."""
        return tuple(
            Quantized(name, layer, call)
            for call in self.graph.calls
            for name, layer in binary.larq_layers(call.layer.name, call.layer.origin)
            if hasattr(layer, "input_quantizer")
        )

    @functools.cached_property
    def binary(self) -> tuple[Quantized, ...]:
        """Those that quantize both sides, and so are meant to run on bits."""
        return tuple(
            layer
            for layer in self.quantized
            if layer.quantizes_kernel and (layer.input_quantizer is not None or self.is_fed_signs(layer))
        )

    @functools.cached_property
    def convolutions(self) -> tuple[Quantized, ...]:
        """The binary ones that LCE has an operator for and whose neighbours are known."""
        return tuple(layer for layer in self.binary if layer.is_convolution and not layer.is_nested)

    def is_fed_signs(self, layer: Quantized) -> bool:
        """Whether a layer without input quantizer is given nothing but -1 and +1 (and padding)."""
        return layer in self._sign_models

    def activations(self, layer: Quantized) -> tf.keras.Model | None:
        """A model of what quantizes the layer's input, wherever that stands; None where nothing does."""
        if layer.input_quantizer is not None:
            return probe.of_quantizer(layer.input_quantizer, layer.layer)
        return self._sign_models.get(layer)

    def paddings(self, layer: Quantized) -> list[Padding]:
        """What pads the map by hand between the sign, or the layer before, and the layer."""
        return [found for call in self._passing(layer) if (found := walk.padding_of(call)) is not None]

    def _passing(self, layer: Quantized) -> Iterator[Call]:
        for call in walk.backwards(self.graph, layer.call.inputs[0]):
            if not walk.is_no_op(call.layer) and walk.padding_of(call) is None:
                return
            yield call

    @functools.cached_property
    def _sign_models(self) -> dict[Quantized, tf.keras.Model]:
        found = {}
        for layer in self.quantized:
            if layer.input_quantizer is None and layer.is_convolution and not layer.is_nested:
                *_, start = layer.call.inputs[0], *(call.inputs[0] for call in self._passing(layer))
                model = probe.of_calls(self.graph, start)
                if model is not None and probe.values(model) == {-1.0, 1.0}:
                    found[layer] = model
        return found


def _active(quantizer: Any) -> Any:
    return None if isinstance(quantizer, lq.quantizers.NoOp) else quantizer
