"""Knowledge distillation; the code is in `bnn_tf.losses`."""

from bnn_tf.losses import Distiller, distribution_loss

__all__ = ["Distiller", "distribution_loss"]
