"""A short training of a fake-quantized network, so that its real-valued weights adapt to int8."""

import dataclasses

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import graph as graphs
from bnn_tf.deploy import int8_sites
from bnn_tf.deploy.fake_quant import FakeQuantConv2D, FakeQuantDense
from bnn_tf.deploy.graph import ConversionError, Graph


@dataclasses.dataclass(frozen=True)
class Finetune:
    """How to train.

    Args:
        batches: Batches of preprocessed images and integer labels, finitely many.
        learning_rate: Of Adam, at the start; it falls to 0 as a cosine.
    """

    batches: tf.data.Dataset
    learning_rate: float = 1e-4


def finetune_graph(graph: Graph, settings: Finetune) -> None:
    """Trains the real-valued weights of a fake-quantized graph with cross-entropy.

    Kernels of binary convolutions stay as they are (a binary kernel has no small steps), and so do the
    ranges of the activations. Maps that stem from batch normalisation are trained as such, with the
    statistics they were frozen with. The gradient passes signs by the estimators of their quantizers.

    Raises:
        ConversionError: The number of batches is not known, 0 or infinite.
    """
    if (steps := int(settings.batches.cardinality())) < 1:
        raise ConversionError("Finetuning needs a dataset of a known, finite number of batches.")
    model = graph.build()
    rounded = [layer for layer in model.layers if isinstance(layer, FakeQuantConv2D | FakeQuantDense)]
    weights = _trained(graph, model)
    rate = tf.keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    optimizer = tf.keras.optimizers.Adam(rate)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=False))
        gradients = tape.gradient(value, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        for layer in rounded:
            layer.kernel_range.assign(layer.range_of(layer.kernel))

    for images, labels in settings.batches:
        step(images, labels)
    for call in graph.calls:
        trained = graphs.variables(model.get_layer(call.layer.name))
        call.layer.weights = {path: variable.numpy() for path, variable in trained}


def _trained(graph: Graph, model: tf.keras.Model) -> list[tf.Variable]:
    binary = {call.layer.name for call in graph.calls if int8_sites.is_binary_kernel(call)}
    return [
        weight for layer in model.layers if layer.name not in binary for weight in layer.trainable_weights
    ]
