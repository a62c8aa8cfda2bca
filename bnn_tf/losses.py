"""Losses on logits: smoothed cross-entropy, and what a student learns from a teacher."""

from __future__ import annotations

from typing import Any

from bnn_tf._tensorflow import tf
from bnn_tf.values import Share, check


@tf.keras.utils.register_keras_serializable(package="bnn_tf")
class SmoothedCrossentropy(tf.keras.losses.Loss):
    """Cross-entropy of logits with integer labels, smoothed: `-(1-ε)·log p_y - ε·mean_k log p_k`.

    Keras smooths one-hot labels only.

    Args:
        label_smoothing: ε, the share of the target that is spread over all classes.
        **kwargs: Arguments of `tf.keras.losses.Loss`.

    Example:
        >>> loss = SmoothedCrossentropy(label_smoothing=0.1)
        >>> round(float(loss(tf.constant([0]), tf.constant([[2.0, 0.0]]))), 4)
        0.2269
    """

    def __init__(
        self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = check("label_smoothing", label_smoothing, Share)

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


def distribution_loss(teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy between the teacher's and the student's distributions, mean over the batch.

    `L = -1/n · Σ softmax(teacher) · log softmax(student)`, no temperature, scalar (SNN). The gradient to the
    student's logits is `(softmax(student) - softmax(teacher)) / n`; none flows to the teacher.

    Example:
        >>> logits = tf.constant([[0.0, 0.0]])
        >>> round(float(distribution_loss(logits, logits)), 4)
        0.6931
    """
    target = tf.nn.softmax(tf.stop_gradient(teacher_logits))
    return -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(student_logits), axis=-1))


class Distiller(tf.keras.Model):
    """Trains a student on `distribution_loss` against a frozen teacher; the labels serve metrics only.

    Calling it calls the student, so `evaluate` and `predict` are the student's, and `save`,
    `save_weights` and `load_weights` are about the student alone.

    Args:
        student: Model from images to logits, to be trained.
        teacher: Model from the same images to logits over the same classes.
        **kwargs: Arguments of `tf.keras.Model`.

    Raises:
        ValueError: the two have different numbers of classes.

    Example:
        >>> def net():
        ...     return tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
        >>> distiller = Distiller(student=net(), teacher=net())
        >>> distiller.compile("sgd")
        >>> history = distiller.fit(np.ones((8, 4)), np.zeros(8), verbose=0).history
        >>> sorted(history)
        ['loss']
    """

    def __init__(self, student: tf.keras.Model, teacher: tf.keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        classes = student.output_shape[-1], teacher.output_shape[-1]
        if classes[0] != classes[1]:
            raise ValueError(f"the student has {classes[0]} classes, its teacher {classes[1]}")
        self.student = student
        self.teacher = teacher
        self.teacher.trainable = False
        self.loss_tracker = tf.keras.metrics.Mean(name="loss")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The student's logits."""
        return self.student(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on the teacher's distribution."""
        x, y, _ = tf.keras.utils.unpack_x_y_sample_weight(data)
        teacher_logits = self.teacher(x, training=False)
        with tf.GradientTape() as tape:
            logits = self.student(x, training=True)
            loss = distribution_loss(teacher_logits, logits) + sum(self.student.losses)
            # The loss is a mean over this replica's share of the batch; gradients are summed over replicas.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
        self.optimizer.minimize(share, self.student.trainable_variables, tape=tape)
        return self._report(loss, y, logits)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Metrics of the student on the labels; the loss is the one against the teacher."""
        x, y, _ = tf.keras.utils.unpack_x_y_sample_weight(data)
        logits = self.student(x, training=False)
        return self._report(distribution_loss(self.teacher(x, training=False), logits), y, logits)

    def _report(self, loss: tf.Tensor, y: tf.Tensor, logits: tf.Tensor) -> dict[str, tf.Tensor]:
        self.loss_tracker.update_state(loss, sample_weight=tf.shape(logits)[0])  # a mean over examples
        self.compiled_metrics.update_state(y, logits)
        return {metric.name: metric.result() for metric in self.metrics}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the student."""
        self.student.save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves the student's weights."""
        self.student.save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Loads the student's weights."""
        return self.student.load_weights(*args, **kwargs)
