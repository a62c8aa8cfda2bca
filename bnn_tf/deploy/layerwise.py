"""Proof, layer by layer, that a converted network computes the same.

Deep binary networks amplify rounding: one activation near zero that takes the other sign may move every
logit. So each layer is compared by itself: LCE's own activations before every sign go into the Keras
layers behind it, up to the next sign. Given the same values both take the same signs, and what is left is
rounding. That settles what the logits cannot, and shows where a wrong conversion first goes wrong.
"""

import dataclasses

import numpy as np

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import parity
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.deploy.interpreter import run
from bnn_tf.deploy.lce import to_flatbuffer

TOLERANCE = 1e-3
"""Largest difference of a value, in units of the deviation of the layer's values, that is rounding."""
OUTLIERS = 1e-3
"""Largest share of values beyond the tolerance."""
_IMAGES = 8


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The first place where the converted network computes something else.

    Attributes:
        place: The input of a layer, or the output of the network.
        share: Share of the values there that differ by more than rounding.
        difference: Largest difference.
    """

    place: str
    share: float
    difference: float

    def __str__(self) -> str:
        values = f"{self.share:.1%} of its values, by up to {self.difference:.2g}"
        return f"{self.place} is the first to differ ({values})"


def first_divergence(
    original: Graph, deployed: Graph, content: bytes, images: np.ndarray
) -> Divergence | None:
    """Where the converted network first computes something else than Keras; None if nowhere.

    Args:
        original: The graph of the model as trained.
        deployed: The graph that was converted; it takes the same signs in the same order.
        content: The converted model.
        images: Preprocessed images; the first eight are used.
    """
    images = images[:_IMAGES]
    names = [call.layer.name for call in _signs(deployed)]
    *activations, logits = run(to_flatbuffer(_with_sign_inputs(deployed).build()), images)
    segments = _in_segments(original).build()
    *expected, expected_logits = tf.nest.flatten(segments([images, *activations], training=False))
    places = [f"the input of '{name}'" for name in names]
    for place, theirs, ours in zip(
        [*places, "the output"],
        [*activations, logits],
        map(np.asarray, [*expected, expected_logits]),
        strict=True,
    ):
        if (divergence := _compare(place, theirs, ours)) is not None:
            return divergence
    # The network with all those outputs is fused a little differently from the file itself.
    whole = parity.compare(logits, run(content, images)[0])
    if whole.moved_share <= 0.5:
        return None
    return Divergence("the output of all layers together", whole.moved_share, whole.max_difference)


def _compare(place: str, theirs: np.ndarray, ours: np.ndarray) -> Divergence | None:
    difference = np.abs(theirs - ours)
    share = float(np.mean(~(difference <= TOLERANCE * parity.deviation(ours))))
    return Divergence(place, share, float(difference.max())) if share > OUTLIERS else None


def _signs(graph: Graph) -> list[Call]:
    """The calls that take signs of what the network computes, the first one for each tensor."""
    readers: dict[Tensor, Call] = {}
    for call in graph.calls:
        if _takes_signs(call.layer.origin) and call.inputs[0] not in graph.inputs:
            readers.setdefault(call.inputs[0], call)
    return list(readers.values())


def _takes_signs(layer: tf.keras.layers.Layer | None) -> bool:
    if isinstance(layer, tf.keras.layers.Activation):
        layer = layer.activation
    return isinstance(layer, lq.quantizers.Quantizer) or getattr(layer, "input_quantizer", None) is not None


def _with_sign_inputs(graph: Graph) -> Graph:
    """The graph with the input of every sign as an additional output, before the actual one."""
    cuts = [call.inputs[0] for call in _signs(graph)]
    return dataclasses.replace(graph, outputs=[*cuts, *graph.outputs])


def _in_segments(graph: Graph) -> Graph:
    """The graph cut before every sign: each cut becomes an output, and an input that replaces it."""
    cuts = [call.inputs[0] for call in _signs(graph)]
    segments = dataclasses.replace(
        graph, calls=[dataclasses.replace(call) for call in graph.calls], shapes=dict(graph.shapes)
    )
    for number, cut in enumerate(cuts):
        config = {"name": f"cut/{number}", "batch_input_shape": graph.shapes[cut], "dtype": "float32"}
        given = segments.new_tensor(graph.shapes[cut])
        for reader in segments.consumers(cut):
            reader.inputs = [given if tensor == cut else tensor for tensor in reader.inputs]
        source = Call(Spec(tf.keras.layers.InputLayer, config), [], [given])
        segments.calls.insert(0, source)
        segments.inputs = [*segments.inputs, given]
    segments.outputs = [*cuts, *segments.outputs]
    return segments
