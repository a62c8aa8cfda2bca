"""Proof, layer by layer, that a converted network computes the same.

Deep binary networks amplify rounding: one activation near zero that takes the other sign may move every
logit. So each layer is judged by itself: the signs that the file itself passes on go into the Keras layers
behind them, up to the next signs. Given the same signs both compute the same up to rounding: signs differ
only where the value is next to zero, anything else is an error. That settles what the logits cannot, and
shows where a wrong conversion first goes wrong.

A binary search over truncated models would need `log n` conversions, each of them fused otherwise than
the file, and would find the errors of fusion nowhere. Here the file itself is run, once, with its
bit-packed tensors as additional outputs (`bnn_tf.deploy.probing`), and all layers are judged at once.
"""

import collections
import dataclasses

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import parity, probing
from bnn_tf.deploy.fake_quant import FakeQuant
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.deploy.parity import LayerSigns
from bnn_tf.deploy.probing import Place, Taken

TOLERANCE = 1e-3
"""Largest difference of a value, in units of the deviation of the layer's values, that is rounding."""
OUTLIERS = 1e-3
"""Largest share of values beyond the tolerance."""
WRONG_SIGNS = 1e-4
"""Largest share of signs that differ although the value is further from zero than the tolerance."""
_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first place where the converted network computes something else.

    Attributes:
        place: The input of a layer, or the output of the network.
        share: Share of the values (or of the signs, where the file has no more) that differ by more than
            rounding.
        difference: Largest difference of a value; of signs, the largest value that has the wrong one.
        sources: The convolutions and dense layers that compute it, but nothing that agreed.
    """

    place: str
    share: float
    difference: float
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        values = f"{self.share:.2%} of its values, by up to {self.difference:.2g}"
        names = ", ".join(f"'{name}'" for name in self.sources)
        return f"{self.place} is the first to differ ({values})" + (f", computed by {names}" if names else "")


@dataclasses.dataclass(frozen=True)
class Proof:
    """What the layers say.

    Attributes:
        layers: The signs of each layer that takes some and was found in the file, in order.
        divergence: Where the file first computes something else than Keras; None if nowhere.
    """

    layers: tuple[LayerSigns, ...]
    divergence: Divergence | None


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A tensor of the original graph whose signs are taken, and what the file has for it."""

    layer: str
    tensor: Tensor
    taken: Taken


@dataclasses.dataclass(frozen=True)
class _Steps:
    """The steps of the int8 tensors between two cuts; 0 in a graph without.

    Integer arithmetic may round each of them to the neighbouring level, pools with ties often do. So single
    values may be off by all steps together, but not the average one by more than the largest.
    """

    largest: float
    together: float


def prove(original: Graph, deployed: Graph, content: bytes, images: np.ndarray) -> Proof:
    """Compares a file with Keras layer by layer.

    Args:
        original: The graph of the model as trained.
        deployed: The graph that was converted: the same after folding.
        content: The converted model.
        images: Preprocessed images; the first eight are used.
    """
    images = images[:_IMAGES]
    cuts, logits = _cuts(original, deployed, content, images)
    segments = _in_segments(original, cuts)
    given = [cut.taken.signs if cut.taken.values is None else cut.taken.values for cut in cuts]
    values = tf.nest.flatten(segments.build()([images, *given], training=False))
    *expected, output = map(np.asarray, values)
    *steps, last = _steps(segments)
    places = [f"the input of '{cut.layer}'" for cut in cuts]
    found = [
        _signs_differ(place, cut.taken, ours, step) or _values_differ(place, cut.taken.values, ours, step)
        for place, cut, ours, step in zip(places, cuts, expected, steps, strict=True)
    ]
    found.append(_values_differ("the output", logits, output, last))
    first = next((number for number, divergence in enumerate(found) if divergence), None)
    divergence = None if first is None else found[first]
    if first is not None and divergence is not None:
        before = {name for tensor in segments.outputs[:first] for name in _sources(segments, tensor)}
        sources = [name for name in _sources(segments, segments.outputs[first]) if name not in before]
        divergence = dataclasses.replace(divergence, sources=tuple(sources))
    layers = tuple(map(_layer_signs, cuts, expected, steps))
    return Proof(layers, divergence)


def _values_differ(
    place: str, theirs: np.ndarray | None, ours: np.ndarray, steps: _Steps
) -> Divergence | None:
    if theirs is None:
        return None
    difference = np.abs(theirs - ours)
    share = float(np.mean(~(difference <= _rounding(ours, steps.together))))
    if share <= OUTLIERS and difference.mean() <= _rounding(ours, steps.largest):
        return None
    return Divergence(place, share, float(difference.max()))


def _signs_differ(place: str, taken: Taken, ours: np.ndarray, steps: _Steps) -> Divergence | None:
    flipped = _flipped(taken, ours)
    wrong = flipped & ~(np.abs(ours) <= _rounding(ours, steps.together))
    share = float(np.mean(wrong))
    if taken.values is not None or share <= WRONG_SIGNS:
        return None
    return Divergence(place, share, float(np.abs(ours[wrong]).max()))


def _layer_signs(cut: _Cut, ours: np.ndarray, steps: _Steps) -> LayerSigns:
    flipped = _flipped(cut.taken, ours)
    near = np.abs(ours) <= _rounding(ours, steps.together)
    largest = float(np.abs(ours[flipped]).max(initial=0.0))
    return LayerSigns(cut.layer, flipped.size, int(flipped.sum()), int((flipped & ~near).sum()), largest)


def _flipped(taken: Taken, ours: np.ndarray) -> np.ndarray:
    return (taken.signs >= 0) != (ours >= 0)


def _rounding(ours: np.ndarray, step: float) -> float:
    return step + TOLERANCE * parity.deviation(ours)


def _cuts(
    original: Graph, deployed: Graph, content: bytes, images: np.ndarray
) -> tuple[list[_Cut], np.ndarray]:
    """What the file has for each tensor of `original` whose signs are taken, and the file's output."""
    calls = _signs(deployed)
    places = [_place(deployed, call) for call in calls.values()]
    found, logits = probing.look(content, places, images)
    taken = {
        key: _restored(call, given)
        for (key, call), given in zip(calls.items(), found, strict=True)
        if given is not None
    }
    cuts: dict[Tensor, _Cut] = {}
    for key, call in _signs(original).items():
        if key in taken:
            cuts.setdefault(call.inputs[0], _Cut(call.layer.name, call.inputs[0], taken[key]))
    return list(cuts.values()), logits


def _restored(call: Call, taken: Taken) -> Taken:
    """What the layer read before folding, as far as the file has it."""
    signs, values = taken.signs, taken.values
    for restore in call.restores:
        signs = np.where(restore(signs) >= 0, np.float32(1), np.float32(-1))
        values = None if values is None else restore(values)
    return Taken(signs, values)


def _signs(graph: Graph) -> dict[tuple[str, int], Call]:
    """The calls that take signs of what the network computes, by layer and number of the use."""
    uses: collections.Counter[str] = collections.Counter()
    found: dict[tuple[str, int], Call] = {}
    for call in graph.calls:
        if _takes_signs(call.layer.origin) and call.inputs[0] not in graph.inputs:
            found[call.layer.name, uses[call.layer.name]] = call
            uses[call.layer.name] += 1
    return found


def _takes_signs(layer: tf.keras.layers.Layer | None) -> bool:
    if isinstance(layer, tf.keras.layers.Activation):
        layer = layer.activation
    return isinstance(layer, lq.quantizers.Quantizer) or getattr(layer, "input_quantizer", None) is not None


def _place(graph: Graph, call: Call) -> Place:
    return Place(call.layer.name, call.inputs[0].shape, _kernel_behind(graph, call))


def _kernel_behind(graph: Graph, call: Call) -> np.ndarray | None:
    """The kernel of the convolution that takes the signs itself, or else reads them first."""
    if isinstance(call.layer.origin, lq.layers.QuantConv2D):
        return call.layer.weights["kernel"]
    if "kernel" in call.layer.weights:
        return None
    kernels = (_kernel_behind(graph, reader) for reader in graph.consumers(call.outputs[0]))
    return next((kernel for kernel in kernels if kernel is not None), None)


def _in_segments(graph: Graph, cuts: list[_Cut]) -> Graph:
    """The graph cut before signs: each cut becomes an output, and an input that replaces it."""
    segments = dataclasses.replace(graph, calls=[dataclasses.replace(call) for call in graph.calls])
    for number, cut in enumerate(cuts):
        shape = cut.tensor.shape
        config = {"name": f"cut/{number}", "batch_input_shape": shape, "dtype": "float32"}
        given = Tensor(shape)
        for reader in segments.consumers(cut.tensor):
            reader.inputs = [given if tensor == cut.tensor else tensor for tensor in reader.inputs]
        source = Call(Spec(tf.keras.layers.InputLayer, config), [], [given])
        segments.calls.insert(0, source)
        segments.inputs = [*segments.inputs, given]
    segments.outputs = [*(cut.tensor for cut in cuts), *segments.outputs]
    return segments


def _sources(segments: Graph, tensor: Tensor) -> tuple[str, ...]:
    """The layers with kernels that make a tensor from the inputs of its segment."""
    call = segments.producer(tensor)
    found = [name for source in call.inputs for name in _sources(segments, source)]
    own = [call.layer.name] if "kernel" in call.layer.weights else []
    return tuple(dict.fromkeys([*found, *own]))


def _steps(segments: Graph) -> list[_Steps]:
    """For each output of the segments, the steps of the int8 tensors that it is computed from."""
    steps: dict[Tensor, _Steps] = {}
    for call in segments.calls:
        config = call.layer.config
        own = (config["maximum"] - config["minimum"]) / 255 if call.layer.kind is FakeQuant else 0.0
        before = [steps[tensor] for tensor in call.inputs]
        largest = max([own, *(one.largest for one in before)])
        found = _Steps(largest, own + sum(one.together for one in before))
        steps.update(dict.fromkeys(call.outputs, found))
    return [steps[tensor] for tensor in segments.outputs]
