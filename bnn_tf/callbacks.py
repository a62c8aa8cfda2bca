"""Keras callbacks that move the methods' state, and measure BatchNorm's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np

from bnn_tf import schedules
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError
from bnn_tf.values import Count, Range, check


def tau_quantizers(model: tf.keras.Model) -> list[Any]:
    """All kernel quantizers with a τ in the model, nested models included, each once.

    Of a distiller they are the student's: a teacher keeps its own τ.

    Example:
        >>> model = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), lq.layers.QuantConv2D(
        ...     4, 3, kernel_quantizer=bnn_tf.quantizers.ReCU(tau=0.9), name="conv")])
        >>> [round(float(quantizer.tau), 2) for quantizer in tau_quantizers(model)]
        [0.9]
    """
    network = getattr(model, "student", model)
    kinds = (module for module in network.submodules if isinstance(module, lq.quantizers.Quantizer))
    return [quantizer for quantizer in kinds if hasattr(quantizer, "tau")]


class TauSchedule(tf.keras.callbacks.Callback):
    """Sets every ReCU quantizer's τ at the start of each epoch from `schedules.recu_tau`.

    It depends on the epoch's number alone, so `model.fit(initial_epoch=…)` continues a schedule. With a
    `losses.Distiller` the student's quantizers move, the teacher's do not.

    Args:
        epochs: Length of the schedule.
        tau_min: τ of the first epoch.
        tau_max: What τ approaches in the last.

    Raises:
        UsageError: `0.5 < tau_min <= tau_max <= 1` does not hold, or `epochs` is below 1.

    Example:
        >>> import bnn_tf, zoo
        >>> model = zoo.CifarResNet20(method="recu")
        >>> schedule = bnn_tf.callbacks.TauSchedule(epochs=10)
        >>> schedule.set_model(model)
        >>> schedule.on_epoch_begin(5)
        >>> round(float(bnn_tf.callbacks.tau_quantizers(model)[0].tau), 3)
        0.903
    """

    def __init__(self, epochs: int, tau_min: float = 0.85, tau_max: float = 0.99) -> None:
        super().__init__()
        self.epochs = check("epochs", epochs, Count)
        self.tau_min = check("tau_min", tau_min, Annotated[float, Range(above=0.5, most=1)])
        self.tau_max = check("tau_max", tau_max, Annotated[float, Range(above=0.5, most=1)])
        if self.tau_min > self.tau_max:
            raise UsageError(f"tau_min must be at most tau_max, not {tau_min:g} and {tau_max:g}")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets τ for `epoch`, counted from 0."""
        for quantizer in tau_quantizers(self.model):
            quantizer.tau.assign(self._tau(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's τ to its logs."""
        if logs is not None:
            logs["tau"] = self._tau(epoch)

    def _tau(self, epoch: int) -> float:
        return schedules.recu_tau(epoch, self.epochs, self.tau_min, self.tau_max)


def measure_batch_norm(model: tf.keras.Model, batches: Iterable[Any]) -> int:
    """Sets the means and variances of all BatchNorm layers to those of batches, with the weights as they are.

    `μ = mean over the batches of μ_b`, `σ² = mean over the batches of σ²_b`, where `μ_b` and `σ²_b` are what
    the layer normalizes batch b by in training. The moving averages of training are those of the last few
    batches, and of weights that still changed; where many signs flip to the end, as in sub-bit networks, they
    describe another network (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", section 3). Layers that are
    frozen or called in inference mode keep theirs; where a layer is called several times, its calls are
    averaged.

    Args:
        model: A built network; of a distiller the student is meant. Its weights stay.
        batches: Preprocessed images `(n, h, w, c)`, from the same pipeline that training reads; with a
            distribution strategy those of all replicas.

    Returns:
        How many batches there were. Without any, nothing changes.

    Example:
        >>> norm = tf.keras.layers.BatchNormalization()
        >>> model = tf.keras.Sequential([tf.keras.Input((2,)), norm])
        >>> measure_batch_norm(model, [tf.constant([[1.0, 5.0], [3.0, 5.0]])])
        1
        >>> norm.moving_mean.numpy().tolist(), norm.moving_variance.numpy().tolist()
        ([2.0, 5.0], [1.0, 0.0])
    """
    network = getattr(model, "student", model)
    layers = [
        layer
        for layer in network.submodules
        if isinstance(layer, tf.keras.layers.BatchNormalization)
        and layer.built
        and layer.trainable
        and layer.momentum < 1
    ]
    strategy = tf.distribute.get_strategy()

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(images: Any) -> None:
        strategy.run(lambda own: network(own, training=True), args=(images,))

    def moved(images: Any, start: _Statistics) -> _Statistics:
        """What a training pass makes of the statistics."""
        _assign(start)
        forward(images)
        return _read(start)

    results, count = _read(layers), 0
    zero: _Statistics = {}
    try:
        for images in batches:
            if not count:
                after = moved(images, results)
                # Layers that the network calls in inference mode, or not at all, do not move and keep theirs.
                zero = {
                    layer: np.zeros_like(value)
                    for layer, value in after.items()
                    if not np.array_equal(value, results[layer])
                }
                once = moved(images, zero)
                twice = moved(images, once)
                shares = {layer: _share(layer.momentum, once[layer], twice[layer]) for layer in zero}
                sums = zero
            own = moved(images, zero)
            sums = {layer: total + own[layer] / shares[layer] for layer, total in sums.items()}
            count += 1
        if count:
            results |= {layer: total / count for layer, total in sums.items()}
    finally:
        _assign(results)
    return count


_Statistics = dict[tf.keras.layers.Layer, np.ndarray]
"""Means and variances, `(2, channels)`, by layer."""


def _read(layers: Iterable[tf.keras.layers.Layer]) -> _Statistics:
    return {layer: np.stack([layer.moving_mean.numpy(), layer.moving_variance.numpy()]) for layer in layers}


def _assign(statistics: _Statistics) -> None:
    for layer, (mean, variance) in statistics.items():
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _share(momentum: float, once: np.ndarray, twice: np.ndarray) -> float:
    """The weight of a batch in a moving average after one pass, which may call a layer several times.

    After k calls from s the average is `s · momentum^k + b`. `once` is that from 0, and so b itself; `twice`
    is that from b. Their variances, which are positive, tell k.
    """
    total = float(once[1].sum())
    kept = float((twice - once)[1].sum()) / total if total > 0 else momentum
    calls = max(1, round(math.log(max(kept, 1e-12)) / math.log(momentum))) if momentum > 0 else 1
    return 1 - momentum**calls


class BatchNormStatistics(tf.keras.callbacks.Callback):
    """Measures the statistics of all BatchNorm layers at the end of training, see `measure_batch_norm`.

    Args:
        batches: Batches of training images, or of images and labels, such as the dataset of `fit`.
        count: How many of them to take.

    Raises:
        UsageError: `count` is below 1.

    Example:
        >>> import bnn_tf, zoo
        >>> x, y = np.random.rand(64, 32, 32, 3), np.zeros(64)
        >>> batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
        >>> model = zoo.CifarResNet20(method="recu", num_classes=10)
        >>> model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> _ = model.fit(batches, verbose=0, callbacks=[BatchNormStatistics(batches, count=2)])
    """

    def __init__(self, batches: Iterable[Any], count: int = 50) -> None:
        super().__init__()
        self.batches, self.count = batches, check("count", count, Count)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Reads the batches and measures."""
        images = (batch[0] if isinstance(batch, tuple | list) else batch for batch in self.batches)
        measure_batch_norm(self.model, itertools.islice(images, self.count))
