"""Callbacks that move the methods' state."""

import numpy as np
import pytest

from bnn_tf import callbacks, methods, quantizers, schedules
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError


def conv(quantizer, **options):
    return lq.layers.QuantConv2D(2, 3, kernel_quantizer=quantizer, use_bias=False, **options)


@pytest.fixture
def model():
    """Two ReCU layers, one of them in a nested model, and one layer of another method."""
    inner = tf.keras.Sequential([tf.keras.Input((6, 6, 2)), conv(quantizers.ReCU())])
    return tf.keras.Sequential(
        [
            tf.keras.Input((10, 10, 1)),
            conv("recu"),
            conv(quantizers.ScaledSign()),
            inner,
            tf.keras.layers.Flatten(),
        ]
    )


def taus(model):
    return [float(quantizer.tau) for quantizer in callbacks.tau_quantizers(model)]


class Recorder(tf.keras.callbacks.Callback):
    """The τ with which each step was computed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(taus(self.model))


def test_every_quantizer_once(model):
    assert len(taus(model)) == 2
    inputs = tf.keras.Input((10, 10, 1))
    shared = quantizers.ReCU()
    x = conv(shared)(conv(shared)(inputs))
    assert callbacks.tau_quantizers(tf.keras.Model(inputs, x)) == [shared]


def test_tau_follows_the_schedule(model, golden):
    callback = callbacks.TauSchedule(600)
    callback.set_model(model)
    for epoch in (0, 1, 300, 599):
        callback.on_epoch_begin(epoch)
        np.testing.assert_allclose(taus(model), [golden("recu_tau")["tau_600"][epoch]] * 2, rtol=1e-6)


def test_in_fit_and_from_a_later_epoch(model):
    x, y = np.ones((4, 10, 10, 1), "f"), np.zeros((4, 32), "f")
    model.compile("sgd", "mse")
    whole, later = Recorder(), Recorder()
    history = model.fit(
        x, y, batch_size=2, epochs=3, verbose=0, callbacks=[callbacks.TauSchedule(3, 0.6, 0.9), whole]
    ).history
    expected = [schedules.recu_tau(epoch, 3, 0.6, 0.9) for epoch in range(3)]
    assert history["tau"] == expected
    np.testing.assert_allclose(whole.seen, np.repeat(expected, 2)[:, None] * [1, 1], rtol=1e-6)
    model.fit(
        x, y, batch_size=2, epochs=3, initial_epoch=2, verbose=0,
        callbacks=[callbacks.TauSchedule(3, 0.6, 0.9), later],
    )  # fmt: skip
    assert later.seen == whole.seen[-2:]


def test_the_method_brings_it(model):
    (callback,) = methods.ReCU(tau_min=0.6, tau_max=0.8).callbacks(epochs=7)
    assert (callback.epochs, callback.tau_min, callback.tau_max) == (7, 0.6, 0.8)


def test_moves_a_distiller_s_student_and_not_its_teacher(model):
    from bnn_tf.losses import Distiller

    teacher = tf.keras.models.clone_model(model)
    callback = callbacks.TauSchedule(10, 0.6, 0.9)
    callback.set_model(Distiller(model, teacher))
    callback.on_epoch_begin(0)
    assert taus(model) == pytest.approx([0.6, 0.6])
    assert taus(teacher) == pytest.approx([0.85, 0.85])


@pytest.mark.parametrize("arguments", [(0,), (10, 0.5), (10, 0.9, 0.8), (10, float("nan")), (10, 0.9, 1.1)])
def test_nonsense_is_refused(arguments):
    with pytest.raises(UsageError, match="epochs|tau_min|tau_max"):
        callbacks.TauSchedule(*arguments)
