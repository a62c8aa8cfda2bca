"""Callbacks that move the methods' state, and measure BatchNorm's."""

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


@pytest.fixture
def normalized(rng):
    """Two BatchNorm layers, the second behind a dense layer, with statistics that describe nothing."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((3,)),
            layers.BatchNormalization(momentum=0.99, center=False, scale=False, epsilon=1e-3, name="first"),
            layers.Dense(4, use_bias=False, name="dense"),
            layers.BatchNormalization(momentum=0.9, name="second"),
        ]
    )
    for norm in ("first", "second"):
        model.get_layer(norm).moving_mean.assign_add(
            tf.fill([model.get_layer(norm).moving_mean.shape[0]], 9.0)
        )
    return model


@pytest.fixture
def batches(rng):
    return [rng.normal(2, 3, (size, 3)).astype(np.float32) for size in (16, 16, 8)]


def statistics(model):
    layers = [model.get_layer(name) for name in ("first", "second")]
    return [value.numpy() for layer in layers for value in (layer.moving_mean, layer.moving_variance)]


def of_batches(model, batches):
    """Means over the batches of their means and variances, before each of the two layers."""
    kernel, results = model.get_layer("dense").kernel.numpy(), []
    for batch in batches:
        inner = ((batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-3)) @ kernel
        results.append([batch.mean(0), batch.var(0), inner.mean(0), inner.var(0)])
    return [np.mean(column, axis=0) for column in zip(*results, strict=True)]


class TestBatchNorm:
    def test_statistics_are_those_of_the_batches(self, normalized, batches):
        kernel = normalized.get_layer("dense").kernel.numpy()
        assert callbacks.measure_batch_norm(normalized, map(tf.constant, batches)) == 3
        for actual, wanted in zip(statistics(normalized), of_batches(normalized, batches), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(normalized.get_layer("dense").kernel, kernel)

    def test_frozen_layers_keep_theirs(self, normalized, batches):
        before = statistics(normalized)
        normalized.get_layer("first").trainable = False
        callbacks.measure_batch_norm(normalized, batches)
        after = statistics(normalized)
        np.testing.assert_array_equal(after[:2], before[:2])
        assert not np.allclose(after[2], before[2])

    def test_layers_in_inference_mode_keep_theirs(self, batches):
        inner = tf.keras.layers.BatchNormalization()
        base = tf.keras.Sequential([tf.keras.Input((3,)), inner])
        inner.moving_mean.assign([2.0, 2.0, 2.0])
        inner.moving_variance.assign([9.0, 9.0, 9.0])
        image, outer = tf.keras.Input((3,)), tf.keras.layers.BatchNormalization()
        model = tf.keras.Model(image, outer(base(image, training=False)))
        callbacks.measure_batch_norm(model, map(tf.constant, batches))
        np.testing.assert_array_equal([inner.moving_mean, inner.moving_variance], [[2.0] * 3, [9.0] * 3])
        means = [(batch.mean(0) - 2) / np.sqrt(9 + 1e-3) for batch in batches]
        np.testing.assert_allclose(outer.moving_mean, np.mean(means, axis=0), rtol=1e-4, atol=1e-5)

    def test_layers_that_are_not_called_keep_theirs(self, batches):
        class Network(tf.keras.Model):
            def __init__(self):
                super().__init__()
                self.norm, self.spare, self.unbuilt = (tf.keras.layers.BatchNormalization() for _ in range(3))
                self.spare.build((None, 2))
                self.spare.moving_mean.assign([7.0, 7.0])

            def call(self, inputs, training=None):
                return self.norm(inputs, training=training)

        network = Network()
        network(batches[0])
        callbacks.measure_batch_norm(network, batches)
        np.testing.assert_array_equal(network.spare.moving_mean, [7.0, 7.0])
        wanted = np.mean([batch.mean(0) for batch in batches], axis=0)
        np.testing.assert_allclose(network.norm.moving_mean, wanted, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
    def test_calls_of_a_shared_layer_are_averaged(self, momentum, batches):
        norm, image = tf.keras.layers.BatchNormalization(momentum=momentum), tf.keras.Input((3,))
        model = tf.keras.Model(image, norm(image) + norm(1.0 * image) + norm(image * 1.0))
        callbacks.measure_batch_norm(model, map(tf.constant, batches))
        wanted = np.mean([[batch.mean(0), batch.var(0)] for batch in batches], axis=0)
        np.testing.assert_allclose([norm.moving_mean, norm.moving_variance], wanted, rtol=1e-4, atol=1e-5)

    def test_nothing_changes_without_batches_or_in_the_middle_of_them(self, normalized, batches):
        before = statistics(normalized)

        def interrupted():
            yield batches[0]
            raise KeyboardInterrupt

        assert callbacks.measure_batch_norm(normalized, []) == 0
        with pytest.raises(KeyboardInterrupt):
            callbacks.measure_batch_norm(normalized, interrupted())
        for actual, wanted in zip(statistics(normalized), before, strict=True):
            np.testing.assert_array_equal(actual, wanted)

    def test_at_the_end_of_fit(self, normalized, batches):
        normalized.compile("sgd", "mse")
        labelled = [(batch, np.ones((len(batch), 4), np.float32)) for batch in batches]
        data = tf.data.Dataset.from_generator(
            lambda: iter(labelled),
            output_signature=(tf.TensorSpec((None, 3)), tf.TensorSpec((None, 4))),
        )
        normalized.fit(data, epochs=2, verbose=0, callbacks=[callbacks.BatchNormStatistics(data, count=2)])
        wanted = of_batches(normalized, batches[:2])
        for actual, expected in zip(statistics(normalized), wanted, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
