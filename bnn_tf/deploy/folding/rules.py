"""All rules of folding, in their order."""

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import freezing
from bnn_tf.deploy.folding import activations, affine, biases, classifier, pooling, scales, thresholds
from bnn_tf.deploy.graph import Graph


def fold(model: tf.keras.Model) -> tf.keras.Model:
    """The frozen network (see `freeze`) without operations that algebra can remove.

    - Kernels of binary convolutions become exactly ±1; their scales, biases and the `OutputScale`,
      `LearnableBias` and `BatchNormalization` layers behind become one map per channel (`scales`).
    - Biases go through sums, pools, padding of channels and real convolutions into the biases of what
      is there anyway; one addition is left where a threshold of a sign needs it (`biases`).
    - Activations that keep the sign go where only signs are taken, also behind a max pool, and PReLUs
      get one slope per channel where they have no more (`activations`).
    - Maps behind pools go before them; so LCE takes signs before max pools (`pooling`).
    - Maps before signs become thresholds (`thresholds`), those before dense layers and real
      convolutions part of their weights (`classifier`).
    - Global average pools become pools of the map's size (`pooling`).

    The result computes the same in inference, up to rounding, and is not for training. Layers that are
    shared or read several times, and outputs, are changed only where that is exact for all readers.

    Raises:
        ConversionError: The model is subclassed or not built.
    """
    graph = freezing.read_frozen(model)
    fold_graph(graph)
    return graph.build()


def fold_graph(graph: Graph) -> None:
    """Applies all rules to a graph of frozen layers."""
    scales.split_activations(graph)
    pooling.size_global_pools(graph)
    activations.share_slopes(graph)
    activations.drop_before_signs(graph)
    pooling.move_affine_before(graph)
    scales.fold_scales(graph)
    affine.join_chains(graph)
    thresholds.fold_thresholds(graph)
    biases.fold_biases(graph)
    classifier.fold_inputs(graph)
