"""Keras callbacks that move the methods' state and watch it."""

from bnn_tf import schedules
from bnn_tf._tensorflow import tf
from bnn_tf.quantizers import ReCU


def quantizers_of(model: tf.keras.Model, kind: type) -> list:
    """All quantizers of class `kind` in the model, nested models included, each once."""
    return [module for module in model.submodules if isinstance(module, kind)]


class TauSchedule(tf.keras.callbacks.Callback):
    """Sets every ReCU quantizer's τ at the start of each epoch from `schedules.recu_tau`.

    It depends on the epoch's number alone, so `model.fit(initial_epoch=…)` continues a schedule.

    Args:
        epochs: Length of the schedule.
        tau_min: τ of the first epoch.
        tau_max: What τ approaches in the last.
    """

    def __init__(self, epochs: int, tau_min: float = 0.85, tau_max: float = 0.99) -> None:
        super().__init__()
        self.epochs, self.tau_min, self.tau_max = epochs, tau_min, tau_max

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets τ for `epoch`, counted from 0."""
        for quantizer in quantizers_of(self.model, ReCU):
            quantizer.tau.assign(self._tau(epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's τ to its logs."""
        if logs is not None:
            logs["tau"] = self._tau(epoch)

    def _tau(self, epoch: int) -> float:
        return schedules.recu_tau(epoch, self.epochs, self.tau_min, self.tau_max)
