"""Codebooks learn in bare `model.fit`, whatever the optimizer."""

import numpy as np
import pytest

from bnn_tf import optimizers, quantizers, transforms
from bnn_tf._tensorflow import lq, tf

STEPS, INTERVAL = 7, 3
X = np.random.default_rng(0).normal(size=(4 * STEPS, 5, 5, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(4 * STEPS, 8)).astype(np.float32)

OPTIMIZERS = {
    "ours": lambda: optimizers.Adam(0.05),
    "ours with momentum": lambda: optimizers.SGD(1.0, 0.9),
    "keras": lambda: tf.keras.optimizers.Adam(0.05),
    "keras legacy": lambda: tf.keras.optimizers.legacy.Adam(0.05),
}


class Record(tf.keras.callbacks.Callback):
    """The codebook and memory after every batch."""

    def __init__(self, quantizer):
        super().__init__()
        self.quantizer, self.codebooks, self.memories = quantizer, [], []
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        self.codebooks.append(self.quantizer.codebook.numpy())
        self.memories.append(self.quantizer.memory.numpy())


def train(optimizer, **options):
    quantizer = quantizers.SubBit(bits=5, seed=0, interval=INTERVAL)
    # Small latent patterns: one update changes signs and makes duplicates.
    quantizer.codebook.assign(quantizer.codebook * 0.01)
    layer = lq.layers.QuantConv2D(
        8, 3, kernel_quantizer=quantizer, kernel_initializer=tf.keras.initializers.GlorotNormal(0)
    )
    model = tf.keras.Sequential(
        [tf.keras.Input(X.shape[1:]), layer, tf.keras.layers.GlobalAveragePooling2D()]
    )
    model.compile(optimizer, "mse", **options)
    record = Record(quantizer)
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, callbacks=[record])
    return model, quantizer, record


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_codebook_learns_on_the_interval(name):
    model, quantizer, record = train(OPTIMIZERS[name]())
    assert int(quantizer.step) == STEPS

    before, after = record.codebooks[INTERVAL - 1], record.codebooks[INTERVAL]
    for codebook in record.codebooks[1:INTERVAL]:
        np.testing.assert_array_equal(codebook, record.codebooks[0])
    assert (before != after).any()
    replaced = (np.abs(after) == 1).all(1)
    assert replaced.any()  # none of the latent patterns was that large
    assert (np.sign(after[~replaced]) != np.sign(before[~replaced])).any()

    for step in (INTERVAL, 2 * INTERVAL):
        assert len(np.unique(record.codebooks[step] > 0, axis=0)) == 32
    for codebook, memory in zip(record.codebooks, record.memories, strict=True):
        large = np.abs(codebook) >= 1e-3
        np.testing.assert_array_equal(memory[large], np.sign(codebook[large]))
        assert set(np.unique(memory)) == {-1, 1}

    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert int(quantizer.step) == STEPS
    np.testing.assert_array_equal(quantizer.codebook, record.codebooks[-1])


def test_eager_training_is_the_same():
    graph, eager = (train(optimizers.Adam(0.05), run_eagerly=eagerly)[1] for eagerly in (False, True))
    np.testing.assert_allclose(graph.codebook, eager.codebook, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(graph.memory, eager.memory)
    assert int(eager.step) == STEPS


def test_frozen_layers_keep_their_codebook():
    quantizer = quantizers.SubBit(bits=3, interval=1)
    frozen = lq.layers.QuantConv2D(2, 3, kernel_quantizer=quantizer)
    frozen.trainable = False
    model = tf.keras.Sequential([tf.keras.Input(X.shape[1:]), frozen, tf.keras.layers.Conv2D(8, 3)])
    model.compile(optimizers.SGD(0.1), "mse")
    before = quantizer.codebook.numpy()
    model.train_on_batch(X[:4], Y[:4, None, None])
    assert int(quantizer.step) == 0
    np.testing.assert_array_equal(quantizer.codebook, before)


@pytest.mark.slow
def test_mixed_precision_training():
    """Keras wraps the optimizer for loss scaling; codebooks and trackers stay in single precision."""
    silence = transforms.SilenceDecay(1e-2)
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model, quantizer, record = train(optimizers.SGD(1.0, 0.9, transforms=[silence]))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert isinstance(model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    assert model.layers[0].compute_dtype == "float16"
    assert quantizer.codebook.dtype == silence.tracker(model.layers[0].kernel).dtype == tf.float32
    assert int(quantizer.step) == STEPS - overflows(model)
    assert (record.codebooks[-1] != record.codebooks[0]).any()
    assert all(np.isfinite(w).all() for w in model.get_weights())


def overflows(model):
    """Steps that loss scaling skipped: each halved the scale, which starts at 2¹⁵."""
    return 15 - np.log2(float(model.optimizer.loss_scale))


class Resumable:
    """A layer with the paper's interval, trained step by step, and its checkpoint."""

    def __init__(self):
        self.quantizer = quantizers.SubBit(bits=4, seed=0)
        self.quantizer.codebook.assign(self.quantizer.codebook * 0.01)
        layer = lq.layers.QuantConv2D(
            8, 3, kernel_quantizer=self.quantizer, kernel_initializer=tf.keras.initializers.GlorotNormal(0)
        )
        self.model = tf.keras.Sequential(
            [tf.keras.Input(X.shape[1:]), layer, tf.keras.layers.GlobalAveragePooling2D()]
        )
        self.model.compile(optimizers.Adam(0.05), "mse")
        self.checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def train(self, first, last):
        for step in range(first, last):
            batch = slice(step % STEPS * 4, step % STEPS * 4 + 4)
            self.model.train_on_batch(X[batch], Y[batch])
        return self.model.get_weights()


def test_resumed_at_step_37_as_if_never_stopped(tmp_path):
    """Between two refinements, at steps 25, 50 and 75, with the optimizer's moments under way."""
    whole = Resumable()
    start = whole.quantizer.memory.numpy()
    whole.train(0, 37)
    middle = whole.quantizer.memory.numpy()
    path = whole.checkpoint.write(str(tmp_path / "at37"))
    end = whole.train(37, 80)
    assert (start != middle).any()
    assert (middle != whole.quantizer.memory.numpy()).any()
    assert len(np.unique(whole.quantizer.memory.numpy(), axis=0)) == 16

    resumed = Resumable()
    resumed.checkpoint.read(path)
    for expected, actual in zip(end, resumed.train(37, 80), strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert int(resumed.quantizer.step) == 80
