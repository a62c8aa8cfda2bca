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
    return tf.reduce_mean(_distribution_losses(teacher_logits, student_logits))


def _distribution_losses(teacher_logits: tf.Tensor, student_logits: tf.Tensor) -> tf.Tensor:
    """`distribution_loss` of each example."""
    target = tf.nn.softmax(tf.stop_gradient(teacher_logits))
    return -tf.reduce_sum(target * tf.nn.log_softmax(student_logits), axis=-1)


def share_of_mean(losses: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """This replica's part of the mean loss over the examples of all replicas; the parts add up to the mean.

    Keras divides the mean over a replica's examples by the number of replicas, so that an example counts
    more on a replica that has fewer. Here all count the same, however they are divided.

    Args:
        losses: Loss of each of this replica's examples.
        weights: Their weights; 1 each by default.

    Example:
        >>> float(share_of_mean(tf.constant([1.0, 2.0, 6.0])))
        3.0
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1 and weights is None:
        return tf.reduce_mean(losses)
    weights = tf.ones_like(losses) if weights is None else tf.cast(weights, losses.dtype)
    total = tf.reduce_sum(weights)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, total)
    return tf.reduce_sum(weights * losses) / total


class Replicated(tf.keras.Model):
    """Trains a network on several replicas as one device does, whatever part of a batch each of them has.

    See `share_of_mean`. Calling it calls the network.

    Args:
        student: Model from images to logits, to be trained.
        loss: Of labels and logits; the penalties are the network's `losses`.
        **kwargs: Arguments of `tf.keras.Model`.

    Example:
        >>> network = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
        >>> replicated = Replicated(network, SmoothedCrossentropy())
        >>> replicated.compile("sgd")
        >>> sorted(replicated.fit(np.ones((8, 4)), np.zeros(8), verbose=0).history)
        ['loss']
    """

    def __init__(
        self, student: tf.keras.Model, loss: tf.keras.losses.Loss | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.student, self.objective = student, loss
        self.loss_tracker = tf.keras.metrics.Mean(name="loss")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The student's logits."""
        return self.student(inputs, training=training)

    def targets(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """What the logits should be like."""
        return y

    def example_losses(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The loss of each example."""
        assert self.objective is not None
        losses = self.objective.call(targets, logits)
        return tf.reduce_mean(tf.reshape(losses, [tf.shape(logits)[0], -1]), axis=-1)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on the examples of all replicas."""
        x, y, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        targets = self.targets(x, y)
        with tf.GradientTape() as tape:
            logits = self.student(x, training=True)
            losses, penalties = self.example_losses(targets, logits), sum(self.student.losses)
            # Gradients are summed over replicas, each of which has all penalties.
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            share = share_of_mean(losses, weights) + penalties / replicas
        self.optimizer.minimize(share, self.student.trainable_variables, tape=tape)
        return self._report(losses, penalties, y, logits, weights)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Metrics of the student on the labels, and the loss that is minimised."""
        x, y, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        logits = self.student(x, training=False)
        losses, penalties = self.example_losses(self.targets(x, y), logits), sum(self.student.losses)
        return self._report(losses, penalties, y, logits, weights)

    def _report(
        self,
        losses: tf.Tensor,
        penalties: Any,
        y: tf.Tensor,
        logits: tf.Tensor,
        weights: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        if weights is None:
            mean, count = tf.reduce_mean(losses), tf.shape(logits)[0]
        else:
            weights = tf.cast(weights, losses.dtype)
            count = tf.reduce_sum(weights)
            mean = tf.math.divide_no_nan(tf.reduce_sum(weights * losses), count)
        self.loss_tracker.update_state(mean + penalties, sample_weight=count)  # a mean over examples
        self.compiled_metrics.update_state(y, logits, weights)
        return {metric.name: metric.result() for metric in self.metrics}


class Distiller(Replicated):
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
        super().__init__(student, **kwargs)
        classes = student.output_shape[-1], teacher.output_shape[-1]
        if classes[0] != classes[1]:
            raise ValueError(f"the student has {classes[0]} classes, its teacher {classes[1]}")
        self.teacher = teacher
        self.teacher.trainable = False

    def targets(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The teacher's logits."""
        return self.teacher(x, training=False)

    def example_losses(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """The cross-entropy between the two distributions."""
        return _distribution_losses(targets, logits)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the student."""
        self.student.save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves the student's weights."""
        self.student.save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Loads the student's weights."""
        return self.student.load_weights(*args, **kwargs)
