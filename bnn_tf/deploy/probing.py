"""Looking into a converted file: what its operators really pass to one another.

The tensors that hold signs (bit-packed, 32 channels to an element, bit 1 for -1) become additional
outputs of the same file: nothing is converted again, so every fusion stays as it is on the device.
"""

import dataclasses
from typing import Any

import numpy as np

from bnn_tf.deploy import flatbuffer, interpreter

_BINARY, _QUANTIZE, _POOL, _FILL = "LceBconv2d", "LceQuantize", "LceBMaxPool2d", "FILL"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network takes signs, as far as it helps to find it in a file.

    Attributes:
        layer: Name of the layer that takes them.
        shape: Shape of its input, `(batch, …, channels)`.
        kernel: Kernel of the binary convolution that reads the signs first, `(kh, kw, cin, cout)`, if any.
    """

    layer: str
    shape: tuple[int | None, ...]
    kernel: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Taken:
    """What a file has there.

    Attributes:
        signs: -1 and +1, float32, shaped as the layer's input.
        values: What the signs were taken of, float32, if it is in the file; bit-packed outputs of binary
            convolutions are made without.
    """

    signs: np.ndarray
    values: np.ndarray | None


def look(content: bytes, places: list[Place], images: np.ndarray) -> tuple[list[Taken | None], np.ndarray]:
    """Runs a file and returns what it has at each place (None where it is not found), and its output."""
    model = flatbuffer.parse(content)
    graph = model.subgraphs[0]
    finder = _Finder(model)
    found = [finder.find(place) for place in places]
    wanted = [tensor for pair in found if pair for tensor in pair if tensor is not None]
    extra = list(dict.fromkeys(tensor for tensor in wanted if tensor not in graph.outputs))
    order = [*graph.outputs, *extra]
    results = interpreter.run(flatbuffer.with_outputs(content, extra), images)
    outputs = dict(zip(order, results, strict=True))
    taken = [pair and _taken(graph, place, pair, outputs) for place, pair in zip(places, found, strict=True)]
    return taken, outputs[graph.outputs[0]]


def _taken(graph: Any, place: Place, pair: tuple[int, int | None], outputs: dict[int, np.ndarray]) -> Taken:
    signs, values = pair
    bits = _unpack(outputs[signs], place.shape[-1])
    given = None if values is None else _real(graph.tensors[values], outputs[values])
    return Taken(1 - 2 * bits.astype(np.float32), given)


def _real(tensor: Any, values: np.ndarray) -> np.ndarray:
    if values.dtype == np.float32:
        return values
    scale, zero = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _unpack(words: np.ndarray, channels: int | None) -> np.ndarray:
    octets = np.ascontiguousarray(words, "<i4").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")[..., :channels]


def _same_filters(theirs: np.ndarray, ours: np.ndarray) -> bool:
    """Whether two kernels `(cout, kh, kw, cin)` agree but for the sign of whole filters.

    LCE turns the filters with negative scales around where the output is bit-packed.
    """
    if theirs.shape != ours.shape:
        return False
    differs = (theirs != ours).reshape(len(ours), -1)
    return bool((differs == differs[:, :1]).all())


class _Finder:
    """Finds places in a file: by the kernel that reads the signs, or else by the layer's name."""

    def __init__(self, model: Any) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._names, self._types = flatbuffer.operator_names(model), flatbuffer.type_names()
        self._free = self._by_name(_BINARY)
        self._maker = {t: op for name, op in self._operators() for t in op.outputs}

    def _operators(self) -> list[tuple[str, Any]]:
        return [(self._names[op.opcodeIndex], op) for op in self._graph.operators]

    def _by_name(self, name: str) -> list[Any]:
        return [operator for other, operator in self._operators() if other == name]

    def find(self, place: Place) -> tuple[int, int | None] | None:
        """The tensors of the signs and of what they were taken of."""
        signs = self._by_kernel(place)
        signs = self._by_layer(place) if signs is None else signs
        if signs is None:
            return None
        maker = self._maker.get(signs)
        if maker is None or self._names[maker.opcodeIndex] != _QUANTIZE:
            return signs, None
        return signs, int(maker.inputs[0])

    def _by_kernel(self, place: Place) -> int | None:
        if place.kernel is None:
            return None
        bits = np.moveaxis(place.kernel < 0, -1, 0)
        for operator in self._free:
            if _same_filters(self._bits(operator.inputs[1], bits.shape[-1]), bits):
                self._free.remove(operator)  # a layer that is used twice has two of them
                signs = int(operator.inputs[0])
                return signs if self._fits(signs, place) else None
        return None

    def _bits(self, tensor: int, channels: int) -> np.ndarray:
        """The signs of a kernel; one whose words are all alike comes from a `FILL` with that word."""
        shape = self._graph.tensors[tensor].shape
        maker = self._maker.get(tensor)
        if maker is None:
            return _unpack(self._words(tensor).reshape(shape), channels)
        if self._names[maker.opcodeIndex] == _FILL:
            return _unpack(np.broadcast_to(self._words(maker.inputs[1]), shape), channels)
        return np.empty(0, np.uint8)

    def _words(self, tensor: int) -> np.ndarray:
        data = self._model.buffers[self._graph.tensors[tensor].buffer].data
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), "<i4")

    def _by_layer(self, place: Place) -> int | None:
        for operator in (op for name in (_QUANTIZE, _BINARY, _POOL) for op in self._by_name(name)):
            signs = int(operator.outputs[0])
            tensor = self._graph.tensors[signs]
            packed = self._types[tensor.type] == "INT32"
            if packed and f"/{place.layer}/" in tensor.name.decode() and self._fits(signs, place):
                return signs
        return None

    def _fits(self, signs: int, place: Place) -> bool:
        *sizes, words = [int(size) for size in self._graph.tensors[signs].shape[1:]]
        channels = place.shape[-1] or 0
        return sizes == list(place.shape[1:-1]) and words == -(-channels // 32)
