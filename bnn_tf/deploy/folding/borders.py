"""Minus signs of channels before convolutions that pad with ones."""

import math

import numpy as np

from bnn_tf.deploy.folding import flips, linear, scales, signs
from bnn_tf.deploy.folding.affine import Affine, affine_of, layer_of
from bnn_tf.deploy.graph import Call, Graph, Tensor


def with_constant_channels(graph: Graph, makers: list[Call], affine: Affine) -> Affine | None:
    """A map with no scale below 0 that may stand for `affine` at the end of `makers`; None if there is none.

    A channel c whose sign turns around, and its kernel with it, is wrong only where the padding, which stays
    +1, meets the kernel: -w instead of +w. One more channel that is always -1, with the kernel w of c, makes
    up for it:

        inside:  (-s)(-w) + (-1) w = s w - w
        padding: (+1)(-w) + (+1) w = w - w

    Both lack the same `Σ w` over the kernel, which goes into the bias. Everything is integer and exact. The
    convolution before gets a filter for each such channel, of ones with a bias below all its sums.

    Args:
        graph: The graph; it is changed.
        makers: The binary convolution, what follows it up to a max pool, the pool, and the affine map.
        affine: What the last of them computes.
    """
    convolution, *_, last = makers
    readers = graph.consumers(last.outputs[0])
    fits = all(_takes_channels(graph, call) for call in readers) and last.outputs[0] not in graph.outputs
    if not readers or not fits or not scales.is_binary_convolution(convolution.layer):
        return None
    turned = np.flatnonzero(affine.scale < 0)
    lowest = -1.0 - math.prod(convolution.layer.weights["kernel"].shape[:-1])
    for call in readers:
        _add_inputs(call, turned)
    _add_filters(convolution, len(turned))
    for call in makers:
        if (own := affine_of(graph, call)) is not None:
            call.layer = layer_of(call.layer.name, _joined(own, len(turned), 0.0))
    for call in makers:
        _widen(graph, call.outputs[0], len(turned))
    return _joined(flips.absolute(affine), len(turned), lowest)


def _takes_channels(graph: Graph, call: Call) -> bool:
    layer = call.layer
    alone = linear.has_matrix(layer) and linear.is_convolution(layer) and not graph.is_shared(layer)
    ones = not linear.pads(layer) or layer.config.get("pad_values", 0.0) == 1
    return alone and ones and signs.takes_signs(layer)


def _add_inputs(call: Call, turned: np.ndarray) -> None:
    kernel = call.layer.weights["kernel"]
    channels, extra = kernel.shape[-2], kernel[:, :, turned]
    flip = np.ones(channels, np.float32)
    flip[turned] = -1
    linear.scale_inputs(call.layer, flip)
    call.layer.weights["kernel"] = np.concatenate([call.layer.weights["kernel"], extra], axis=2)
    linear.add_bias(call.layer, extra.sum(axis=(0, 1, 2), dtype=np.float64))
    signs.view([call], lambda values: values[..., :channels] * flip)


def _add_filters(call: Call, count: int) -> None:
    weights, config = call.layer.weights, call.layer.config
    ones = np.ones((*weights["kernel"].shape[:-1], count), np.float32)
    weights["kernel"] = np.concatenate([weights["kernel"], ones], axis=-1)
    if "bias" in weights:
        weights["bias"] = np.concatenate([weights["bias"], np.zeros(count, np.float32)])
    config["filters"] += count


def _joined(affine: Affine, count: int, bias: float) -> Affine:
    return Affine(np.append(affine.scale, np.ones(count)), np.append(affine.bias, np.full(count, bias)))


def _widen(graph: Graph, tensor: Tensor, count: int) -> None:
    *sizes, channels = graph.shapes[tensor]
    graph.shapes[tensor] = (*sizes, (channels or 0) + count)
