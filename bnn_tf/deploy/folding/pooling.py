"""Pools: affine maps move before them, where convolutions take them, and global ones get a size."""

from bnn_tf._tensorflow import tf
from bnn_tf.deploy.folding import borders, flips, linear
from bnn_tf.deploy.folding.affine import affine_of, layer_of
from bnn_tf.deploy.graph import Call, Graph, Spec, unique_name

_MAXIMA = (tf.keras.layers.MaxPooling2D, tf.keras.layers.GlobalMaxPooling2D)
_MEANS = (tf.keras.layers.AveragePooling2D, tf.keras.layers.GlobalAveragePooling2D)


def is_pool(layer: Spec) -> bool:
    """Whether a layer pools channels-last maps. Padding never counts in any of them."""
    return layer.kind in (*_MAXIMA, *_MEANS) and layer.config["data_format"] == "channels_last"


def move_affine_before(graph: Graph) -> None:
    """Moves affine maps from behind pools to before them, where a convolution takes them for nothing.

    `mean(a x + b) = a mean(x) + b`, and for `a >= 0` also `max(a x + b) = a max(x) + b`. Channels with
    `a < 0` behind a max pool stay, unless kernels can take the minus, see `flips` and `borders`.
    A sign that thus follows a max pool directly is taken before it by LCE's converter (`LceBMaxPool2d`).
    """
    while any(_move(graph, call) for call in list(graph.calls) if is_pool(call.layer)):
        pass


def _move(graph: Graph, pool: Call) -> bool:
    follower = graph.sole_consumer(pool.outputs[0])
    affine = affine_of(graph, follower) if follower else None
    makers = _from_convolution(graph, pool)
    if follower is None or affine is None or not makers:
        return False
    if pool.layer.kind in _MAXIMA:
        given = affine
        affine = flips.with_positive_scale(graph, follower.outputs[0], given)
        affine = affine or borders.with_constant_channels(graph, [*makers, follower], given)
        if affine is None:
            return False
    graph.remove(follower)
    graph.insert_after(pool.inputs[0], layer_of(follower.layer.name, affine))
    return True


def _from_convolution(graph: Graph, pool: Call) -> list[Call]:
    """The calls from a convolution to the pool, if there are but affine maps between and all is read once."""
    calls = [pool]
    while graph.sole_consumer(calls[0].inputs[0]) is calls[0]:
        call = graph.producer(calls[0].inputs[0])
        calls = [call, *calls]
        if graph.is_shared(call.layer):
            return []
        if linear.is_convolution(call.layer):
            return [] if linear.has_activation(call.layer) else calls
        if affine_of(graph, call) is None:
            return []
    return []


def size_global_pools(graph: Graph) -> None:
    """Replaces global average pools by pools of the map's size, where it is known; LCE runs them faster."""
    for call in list(graph.calls):
        shape = graph.shapes[call.inputs[0]] if call.inputs else ()
        known = len(shape) == 4 and None not in shape[1:]
        is_global = call.layer.kind is tf.keras.layers.GlobalAveragePooling2D and is_pool(call.layer)
        if is_global and known and not graph.is_shared(call.layer):
            _size(graph, call, shape)


def _size(graph: Graph, call: Call, shape: tuple[int | None, ...]) -> None:
    flat = not call.layer.config["keepdims"]
    config = {
        "name": call.layer.name,
        "pool_size": shape[1:3],
        "data_format": "channels_last",
        "dtype": "float32",
    }
    call.layer = Spec(tf.keras.layers.AveragePooling2D, config, origin=call.layer.origin)
    if flat:
        name = unique_name(graph, f"{call.layer.name}_flatten")
        flatten = {"name": name, "data_format": "channels_last", "dtype": "float32"}
        graph.insert_after(call.outputs[0], Spec(tf.keras.layers.Flatten, flatten))
        graph.shapes[call.outputs[0]] = (shape[0], 1, 1, shape[3])
