"""Keras callbacks that move the methods' state."""

from __future__ import annotations

from typing import Annotated, Any

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
