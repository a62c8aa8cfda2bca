"""Classification losses on logits."""

from typing import Any

from bnn_tf._tensorflow import tf


@tf.keras.utils.register_keras_serializable(package="bnn_tf")
class SmoothedCrossentropy(tf.keras.losses.Loss):
    """Cross-entropy of logits with integer labels, smoothed: `-(1-ε)·log p_y - ε·mean_k log p_k`.

    Keras smooths one-hot labels only.

    Args:
        label_smoothing: ε, the share of the target that is spread over all classes.
        **kwargs: Arguments of `tf.keras.losses.Loss`.
    """

    def __init__(
        self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Loss per example from labels `(n,)` or `(n, 1)` and logits `(n, classes)`."""
        labels = tf.reshape(tf.cast(y_true, tf.int32), (-1,))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, y_pred)
        if not self.label_smoothing:
            return loss
        spread = -tf.reduce_mean(tf.nn.log_softmax(y_pred), axis=-1)
        return (1 - self.label_smoothing) * loss + self.label_smoothing * spread

    def get_config(self) -> dict[str, Any]:
        """The loss' configuration."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
