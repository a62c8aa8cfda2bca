"""Affine maps before signs."""

from bnn_tf.deploy.folding import flips, linear, signs
from bnn_tf.deploy.folding.affine import Affine, affine_of, shift
from bnn_tf.deploy.graph import Call, Graph


def fold_thresholds(graph: Graph) -> None:
    """Makes mere shifts of maps before signs: `sign(a x + b) = sign(x + b / a)` for `a > 0`.

    For `a < 0` see `flips.with_positive_scale`. Maps behind a convolution stay, for they cost nothing there.
    """
    for call in list(graph.calls):
        affine = affine_of(graph, call)
        if affine is None or affine.is_shift or graph.is_shared(call.layer) or linear.is_fused(graph, call):
            continue
        if (affine.scale == 0).any() or not signs.readers(graph, call.outputs[0]):
            continue
        positive = flips.with_positive_scale(graph, call.outputs[0], affine)
        if positive is not None:
            _to_shift(graph, call, positive)


def _to_shift(graph: Graph, call: Call, affine: Affine) -> None:
    found = signs.readers(graph, call.outputs[0]) or []
    signs.view(found, lambda values: values * affine.scale.astype(values.dtype))
    call.layer = shift(call.layer.name, affine.bias / affine.scale)
