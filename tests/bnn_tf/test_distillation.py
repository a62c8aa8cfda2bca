"""Distillation: the loss against the authors' arrays, and the model around it in plain Keras."""

import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import distillation, quantizers
from bnn_tf._tensorflow import lq, tf


def network(seed, classes=4, units=8):
    """A binary network for vectors of six numbers."""
    start = tf.keras.initializers.GlorotUniform
    return tf.keras.Sequential(
        [
            tf.keras.Input((6,)),
            tf.keras.layers.Dense(units, kernel_initializer=start(seed)),
            tf.keras.layers.BatchNormalization(),
            lq.layers.QuantDense(
                units,
                input_quantizer=quantizers.ApproxSign(),
                kernel_quantizer=quantizers.ScaledSign(),
                kernel_initializer=start(seed + 1),
                use_bias=False,
            ),
            tf.keras.layers.Dense(classes, kernel_initializer=start(seed + 2)),
        ]
    )


@pytest.fixture
def examples(rng):
    return rng.normal(size=(40, 6)).astype("f"), rng.integers(0, 4, 40)


@pytest.fixture
def distiller():
    model = distillation.Distiller(network(1), network(11, units=16))
    model.compile(tf.keras.optimizers.legacy.Adam(0.01), metrics=["sparse_categorical_accuracy"])
    return model


def test_loss_and_gradient_are_the_authors(golden, assert_close):
    arrays = golden("kd_loss")
    teacher, student = tf.constant(arrays["teacher"]), tf.constant(arrays["student"])
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        loss = distillation.distribution_loss(teacher, student)
    to_teacher, to_student = tape.gradient(loss, [teacher, student])
    assert_close(loss, arrays["loss"])
    assert_close(to_student, arrays["dstudent"])
    assert to_teacher is None


def test_least_where_both_agree(rng):
    teacher = rng.normal(size=(3, 5)).astype("f")
    shifted = teacher + 7.0  # the same distribution
    entropy = distillation.distribution_loss(teacher, shifted)
    np.testing.assert_allclose(entropy, distillation.distribution_loss(teacher, teacher), rtol=1e-5)
    for _ in range(5):
        other = teacher + rng.normal(size=teacher.shape).astype("f")
        assert distillation.distribution_loss(teacher, other) > entropy


def test_fit_moves_the_student_towards_the_teacher(distiller, examples):
    x, _ = examples
    teacher_before = [w.copy() for w in distiller.teacher.get_weights()]
    wrong_labels = np.zeros(len(x), int)  # labels play no part in the loss
    history = distiller.fit(x, wrong_labels, epochs=8, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    for now, before in zip(distiller.teacher.get_weights(), teacher_before, strict=True):
        np.testing.assert_array_equal(now, before)  # its BatchNorm statistics too


def test_one_step_is_the_gradient_of_the_loss(examples):
    """SGD at rate 1 makes the step the gradient itself; the logits' layer shows it in closed form."""
    x, y = examples
    student, teacher = network(1), network(11)
    model = distillation.Distiller(student, teacher)
    model.compile(tf.keras.optimizers.legacy.SGD(1.0))
    hidden = tf.keras.Model(student.input, student.layers[-2].output)(x, training=True).numpy()
    logits, kernel = student(x, training=True).numpy(), student.layers[-1].kernel.numpy()
    difference = tf.nn.softmax(logits) - tf.nn.softmax(teacher(x, training=False))
    model.train_on_batch(x, y)
    step = kernel - student.layers[-1].kernel.numpy()
    np.testing.assert_allclose(step, hidden.T @ difference.numpy() / len(x), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_regularisation_of_the_student_counts(examples):
    x, y = examples
    student = network(1)
    student.add(tf.keras.layers.ActivityRegularization(l2=10.0))
    model = distillation.Distiller(student, network(11))
    model.compile(tf.keras.optimizers.legacy.SGD(0.0))
    plain = distillation.Distiller(network(1), network(11))
    plain.compile(tf.keras.optimizers.legacy.SGD(0.0))
    assert model.train_on_batch(x, y) > plain.train_on_batch(x, y) + 1


def test_evaluate_and_predict_are_the_student_s(distiller, examples):
    x, y = examples
    result = distiller.evaluate(x, y, verbose=0, return_dict=True)
    logits = distiller.student.predict(x, verbose=0)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), logits, rtol=1e-5, atol=1e-6)
    assert result["sparse_categorical_accuracy"] == pytest.approx(np.mean(logits.argmax(1) == y))
    expected = distillation.distribution_loss(distiller.teacher.predict(x, verbose=0), logits)
    assert result["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_metrics_start_anew_in_every_epoch(distiller, examples):
    x, y = examples
    distiller.optimizer.learning_rate = 0.0
    losses = distiller.fit(x, y, epochs=2, shuffle=False, batch_size=40, verbose=0).history["loss"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_only_the_student_is_saved(distiller, examples, tmp_path):
    x, y = examples
    distiller.fit(x, y, epochs=1, verbose=0)
    distiller.save(tmp_path / "student.keras")
    loaded = tf.keras.models.load_model(tmp_path / "student.keras")
    assert loaded.count_params() == distiller.student.count_params()
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), distiller.student.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_weights_are_the_student_s(distiller, tmp_path):
    distiller.save_weights(tmp_path / "student.weights.h5")
    student = network(50)
    student.load_weights(tmp_path / "student.weights.h5")
    for actual, wanted in zip(student.get_weights(), distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, wanted)
    other = distillation.Distiller(network(70), network(11))
    other.load_weights(tmp_path / "student.weights.h5")
    np.testing.assert_array_equal(other.student.get_weights()[0], student.get_weights()[0])


def test_works_with_the_checkpoint_callback(distiller, examples, tmp_path):
    x, y = examples
    best = tf.keras.callbacks.ModelCheckpoint(
        tmp_path / "best.weights.h5", monitor="loss", save_best_only=True, save_weights_only=True
    )
    distiller.fit(x, y, epochs=2, verbose=0, callbacks=[best])
    network(3).load_weights(tmp_path / "best.weights.h5")


def test_other_classes_are_refused():
    with pytest.raises(ValueError, match="the student has 4 classes, its teacher 5"):
        distillation.Distiller(network(1), network(2, classes=5))


# Logical devices must be set before TensorFlow starts, so this runs in a process of its own.
TWO_REPLICAS = """
import numpy as np
from bnn_tf._tensorflow import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bnn_tf.distillation import Distiller
x = np.random.default_rng(0).normal(size=(16, 6)).astype("f")

def dense(seed):
    start = tf.keras.initializers.GlorotUniform(seed)
    return tf.keras.Sequential([tf.keras.Input((6,)), tf.keras.layers.Dense(3, kernel_initializer=start)])

found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        model = Distiller(dense(1), dense(2))
        model.compile(tf.keras.optimizers.legacy.SGD(1.0))
    loss = model.fit(x, np.zeros(16), batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
    found.append([*loss, *model.student.get_weights()])
for one, two in zip(*found, strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
def test_two_replicas_train_as_one():
    process = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
