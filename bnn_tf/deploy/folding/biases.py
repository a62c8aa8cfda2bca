"""Biases on their way through the network into the biases of layers that have one anyway."""

import collections
import dataclasses

import numpy as np

from bnn_tf.deploy.folding import linear, passing, pooling
from bnn_tf.deploy.folding.affine import Affine, affine_of, double, is_batch_norm, layer_of, shift
from bnn_tf.deploy.graph import Call, Graph, Tensor, unique_name
from bnn_tf.layers import LearnableBias


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    """What stands for a tensor of the unfolded network: it is `carrier + offset`, offset per channel.

    `name` is that of the layer which added to the offset last.
    """

    carrier: Tensor
    offset: np.ndarray | None = None
    name: str = ""

    @property
    def is_exact(self) -> bool:
        return self.offset is None or not self.offset.any()


def fold_biases(graph: Graph) -> None:
    """Moves `LearnableBias` layers forward until something takes them.

    Each tensor `y` is computed without its pending offset `o`, as `x` with `y = x + o`:

        bias b:            o → o + b                  (no operation left)
        sum:               o → o_1 + o_2 + …
        pools:             mean(x + o) = mean(x) + o, max(x + o) = max(x) + o
        channel padding:   o → (0, o, 0)
        real convolution:  W(x + o) = W x + Σ W^T o   (where it does not pad)
        BatchNorm:         a (x + o) + b = a x + (a o + b)

    Where `y` itself is needed (a sign, a PReLU, an output), the offset goes back into the BatchNorm,
    convolution or dense layer that `x` comes from, also through sums and pools, if nothing else needs
    `x`; else one addition is left. Others that can read `y` rather than `x` then do, so that `x` need not
    be kept. Thus a ReAct block keeps its threshold alone: the bias behind its PReLU joins the threshold
    of the next block, its shortcut hands it to the next BatchNorm, and this one also takes the bias
    before the next PReLU.
    """
    if any(call.layer.kind is LearnableBias for call in graph.calls):
        _Flow(graph).run()


class _Flow:
    """One pass over the calls in their order; the graph holds those that are settled."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._waiting, graph.calls = graph.calls, []
        self._held: dict[Tensor, _Held] = {}
        self._shown: set[Tensor] = set()  # outputs of the network
        self._unread = collections.Counter(tensor for call in self._waiting for tensor in call.inputs)
        self._unread.update(graph.outputs)
        uses = collections.Counter(call.layer for call in self._waiting)
        self._shared = {layer for layer, count in uses.items() if count > 1}

    def run(self) -> None:
        for call in self._waiting:
            self._unread.subtract(call.inputs)
            self._visit(call)
        for number, tensor in enumerate(self._graph.outputs):
            self._unread[tensor] -= 1
            self._graph.outputs[number] = self._exact(tensor)
            self._shown.add(self._graph.outputs[number])

    def _visit(self, call: Call) -> None:
        held = [self._held[tensor] for tensor in call.inputs]
        if call.layer.kind is LearnableBias:
            bias = double(call.layer.weights["bias"])
            offset = bias if held[0].offset is None else held[0].offset + bias
            self._held[call.outputs[0]] = _Held(held[0].carrier, offset, call.layer.name)
            return
        passed = None
        if not all(one.is_exact for one in held):
            passed = self._passed(call, [one.offset for one in held])
            if passed is None:
                call.inputs = [self._exact(tensor) for tensor in call.inputs]
                held = [_Held(tensor) for tensor in call.inputs]
        name = next((one.name for one in held if one.name), "")
        call.inputs = [one.carrier for one in held]
        self._graph.calls.append(call)
        self._held |= {tensor: _Held(tensor) for tensor in call.outputs}
        if passed is not None and not self._take(call, passed):
            self._held[call.outputs[0]] = _Held(call.outputs[0], passed, name)

    def _passed(self, call: Call, offsets: list[np.ndarray | None]) -> np.ndarray | None:
        """The offset of the output where the inputs are computed without theirs; None if there is none."""
        layer = call.layer
        if linear.has_matrix(layer):
            straight = not linear.has_activation(layer) or layer not in self._shared
            return linear.shifted(layer, _only(offsets)) if linear.takes_shift(layer) and straight else None
        if (affine := affine_of(self._graph, call)) is not None:
            return affine.scale * _only(offsets)
        shapes = [self._graph.shapes[tensor] for tensor in (*call.inputs, *call.outputs)]
        return passing.through(layer, offsets, shapes)

    def _take(self, call: Call, offset: np.ndarray) -> bool:
        """Adds to what the call computes, before its activation, if its layer has a bias or may get one.

        A convolution before a BatchNorm leaves it to that.
        """
        layer = call.layer
        if layer in self._shared:
            return False
        if linear.has_matrix(layer):
            readers = [reader for reader in self._waiting if call.outputs[0] in reader.inputs]
            normalized = len(readers) == 1 and is_batch_norm(readers[0].layer)
            if normalized and not linear.has_activation(layer):
                return False
            linear.add_bias(layer, offset)
            return True
        if (affine := affine_of(self._graph, call)) is None:
            return False
        call.layer = layer_of(layer.name, Affine(affine.scale, affine.bias + offset))
        return True

    def _exact(self, tensor: Tensor) -> Tensor:
        """A tensor that holds the value of `tensor` with its offset."""
        held = self._held[tensor]
        if held.is_exact:
            return held.carrier
        assert held.offset is not None
        carrier, offset = held.carrier, held.offset
        if not self._is_seen(carrier) and self._take_back(carrier, offset):
            result = carrier
        else:
            result = self._add(carrier, offset, held.name)
        for other, its in self._held.items():  # they read the new value instead, so that the old one can go
            if its.carrier == carrier and not its.is_exact:
                assert its.offset is not None
                self._held[other] = _Held(result, its.offset - offset, its.name)
        return result

    def _add(self, carrier: Tensor, offset: np.ndarray, name: str) -> Tensor:
        result = self._graph.new_tensor(self._graph.shapes[carrier])
        waiting = [call for call in self._waiting if call.layer.kind is not LearnableBias]
        everything = dataclasses.replace(self._graph, calls=[*self._graph.calls, *waiting])
        layer = shift(unique_name(everything, name or "bias"), offset)
        self._graph.calls.append(Call(layer, [carrier], [result]))
        return result

    def _is_seen(self, carrier: Tensor) -> bool:
        """Whether anything has read `carrier`, or will read it as it is."""
        wanted = any(
            held.carrier == carrier and held.is_exact and self._unread[tensor] > 0
            for tensor, held in self._held.items()
        )
        return wanted or carrier in self._shown or bool(self._graph.consumers(carrier))

    def _take_back(self, carrier: Tensor, offset: np.ndarray) -> bool:
        """Adds to `carrier` within the layers that make it, if one of them can."""
        maker = self._graph.producer(carrier)
        if len(maker.outputs) > 1 or maker.layer in self._shared:
            return False
        if linear.has_matrix(maker.layer):
            if linear.has_activation(maker.layer):
                return False
            linear.add_bias(maker.layer, offset)
            return True
        if (affine := affine_of(self._graph, maker)) is not None:
            maker.layer = layer_of(maker.layer.name, Affine(affine.scale, affine.bias + offset))
            return True
        if not (passing.is_sum(maker.layer) or pooling.is_pool(maker.layer)):
            return False
        return any(
            self._serves_only(maker, source) and self._take_back(source, offset) for source in maker.inputs
        )

    def _serves_only(self, reader: Call, source: Tensor) -> bool:
        later = any(h.carrier == source and self._unread[t] > 0 for t, h in self._held.items())
        once = self._graph.consumers(source) == [reader] and reader.inputs.count(source) == 1
        full = self._graph.shapes[source] == self._graph.shapes[reader.outputs[0]] or len(reader.inputs) == 1
        return once and full and not later and source not in self._shown


def _only(offsets: list[np.ndarray | None]) -> np.ndarray:
    (offset,) = offsets
    assert offset is not None
    return offset
