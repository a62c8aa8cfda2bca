"""Maps `y = a · x + b` per channel: the layers that are such maps, and joining them."""

import dataclasses

import numpy as np

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.graph import Call, Graph, Spec, Tensor
from bnn_tf.layers import LearnableBias, OutputScale

_BatchNormalization = tf.keras.layers.BatchNormalization


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map `y = scale · x + bias` per channel, in double precision."""

    scale: np.ndarray
    bias: np.ndarray

    def after(self, first: "Affine") -> "Affine":
        """The map that applies `first` and then this one."""
        return Affine(self.scale * first.scale, self.scale * first.bias + self.bias)

    @property
    def is_scale(self) -> bool:
        """Whether it adds nothing."""
        return not self.bias.any()

    @property
    def is_shift(self) -> bool:
        """Whether it multiplies by 1."""
        return bool((self.scale == 1).all())

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.is_scale and self.is_shift


def affine_of(graph: Graph, call: Call) -> Affine | None:
    """The affine map per channel (last axis) that a call computes in inference, if it is one."""
    weights = call.layer.weights
    if call.layer.kind is OutputScale:
        return Affine(double(weights["scale"]), np.zeros(weights["scale"].shape))
    if call.layer.kind is LearnableBias:
        return Affine(np.ones(weights["bias"].shape), double(weights["bias"]))
    if not is_batch_norm(call.layer):
        return None
    rank = len(graph.shapes[call.inputs[0]])
    if [axis % rank for axis in np.atleast_1d(call.layer.config["axis"])] != [rank - 1]:
        return None
    mean, variance = double(weights["moving_mean"]), double(weights["moving_variance"])
    scale = weights.get("gamma", 1.0) / np.sqrt(variance + call.layer.config["epsilon"])
    return Affine(scale, weights.get("beta", 0.0) - mean * scale)


def batch_norm(name: str, affine: Affine) -> Spec:
    """A BatchNormalization that computes `affine` in inference (mean 0, variance 1, no epsilon)."""
    weights = {
        "gamma": affine.scale,
        "beta": affine.bias,
        "moving_mean": np.zeros_like(affine.scale),
        "moving_variance": np.ones_like(affine.scale),
    }
    config = {"name": name, "axis": -1, "epsilon": 0.0, "dtype": "float32"}
    return Spec(_BatchNormalization, config, {key: single(value) for key, value in weights.items()})


def shift(name: str, bias: np.ndarray) -> Spec:
    """A `LearnableBias` that adds `bias`."""
    return Spec(LearnableBias, {"name": name, "dtype": "float32"}, {"bias": single(bias)})


def layer_of(name: str, affine: Affine) -> Spec:
    """The cheapest layer that computes `affine`."""
    return shift(name, affine.bias) if affine.is_shift else batch_norm(name, affine)


def is_batch_norm(layer: Spec) -> bool:
    """Whether a layer is a BatchNormalization of any kind that is affine in inference."""
    return layer.kind in (_BatchNormalization, tf.keras.layers.experimental.SyncBatchNormalization)


def chain_after(graph: Graph, tensor: Tensor) -> list[tuple[Call, Affine]]:
    """The affine maps behind `tensor`, as far as each is the only one to read what comes before it."""
    chain: list[tuple[Call, Affine]] = []
    while (reader := graph.sole_consumer(tensor)) and (affine := affine_of(graph, reader)):
        chain.append((reader, affine))
        tensor = reader.outputs[0]
    return chain


def join_chains(graph: Graph) -> None:
    """Makes one map of each chain: `a2 · (a1 · x + b1) + b2 = a2 a1 · x + (a2 b1 + b2)`."""
    for call in list(graph.calls):
        if call not in graph.calls or graph.is_shared(call.layer):
            continue
        joined = affine_of(graph, call)
        if joined is None:
            continue
        chain = chain_after(graph, call.outputs[0])
        for follower, affine in chain:
            joined = affine.after(joined)
            graph.remove(follower)
        if chain:
            norms = [c.layer.name for c in (call, *(c for c, _ in chain)) if is_batch_norm(c.layer)]
            call.layer = layer_of((norms or [call.layer.name])[-1], joined)


def double(values: np.ndarray) -> np.ndarray:
    """The values in double precision, in which folding computes."""
    return values.astype(np.float64)


def single(values: np.ndarray) -> np.ndarray:
    """The values in single precision, in which layers keep them."""
    return values.astype(np.float32)
