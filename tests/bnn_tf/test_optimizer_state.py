"""Training that is interrupted, saved and resumed equals training that is not, bit for bit."""

import numpy as np
import pytest

from bnn_tf import layers, optimizers, quantizers, transforms
from bnn_tf._tensorflow import lq, tf

BATCHES = np.random.default_rng(0).normal(size=(8, 4, 6, 6, 2)).astype(np.float32)
TARGETS = np.random.default_rng(1).normal(size=(8, 4, 3)).astype(np.float32)


def sgd():
    return optimizers.SGD(
        0.5,
        0.9,
        transforms=[
            transforms.AdaptiveGradientScale(0.1),
            transforms.SilenceDecay(0.05, momentum=0.8, threshold=0.1),
            transforms.WeightDecay(1e-3, only="kernels"),
        ],
    )


def adam():
    return optimizers.Adam(0.05, transforms=[transforms.WeightDecay(1e-3)])


class Trainer:
    """A small network, its optimizer and its checkpoint, trained step by step."""

    def __init__(self, optimizer):
        self.sub_bit = quantizers.SubBit(bits=4, seed=0, interval=3)
        self.model = tf.keras.Sequential(
            [
                tf.keras.Input((6, 6, 2)),
                lq.layers.QuantConv2D(3, 3, kernel_quantizer=self.sub_bit, use_bias=False),
                layers.OutputScale(),
                lq.layers.QuantConv2D(
                    3, 3, input_quantizer=quantizers.ApproxSign(True), kernel_quantizer="identity_sign"
                ),
                tf.keras.layers.GlobalAveragePooling2D(),
            ]
        )
        # Small latent patterns change their signs within a few steps.
        self.sub_bit.codebook.assign(self.sub_bit.codebook * 0.02)
        self.optimizer = optimizer
        self.checkpoint = tf.train.Checkpoint(model=self.model, optimizer=optimizer)
        self.step = tf.function(self._step)

    def _step(self, x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.model(x, training=True) - y) ** 2)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    def train(self, first, last):
        for index in range(first, last):
            self.step(BATCHES[index], TARGETS[index])
        return self

    def state(self):
        # Not in the order of `optimizer.weights`: Keras creates slots in another order when it restores.
        slots = [
            self.optimizer.get_slot(v, name)
            for name in sorted(self.optimizer.get_slot_names())
            for v in self.model.trainable_variables
            if name != "updates" or v is self.sub_bit.codebook
        ]
        transforms = [v for transform in self.optimizer.transforms for v in transform.variables]
        return [v.numpy() for v in (*self.model.weights, self.optimizer.iterations, *slots, *transforms)]


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module", params=[sgd, adam])
def run(request, tmp_path_factory):
    """A trainer after all 8 steps, with its checkpoint and state after 4."""
    trainer = Trainer(request.param())
    trainer.start = trainer.model.get_weights()
    trainer.path = trainer.train(0, 4).checkpoint.write(str(tmp_path_factory.mktemp("run") / "state"))
    trainer.middle = trainer.state()
    trainer.end = trainer.train(4, 8).state()
    trainer.make = request.param
    return trainer


@pytest.mark.sample(1)
def test_resumed_training_is_the_same(run):
    resumed = Trainer(run.make())
    assert not resumed.optimizer.weights  # they do not exist before the first step
    status = resumed.checkpoint.read(run.path)
    assert_equal(resumed.train(4, 8).state(), run.end)
    status.assert_consumed()

    resumed.train(0, 3)
    resumed.checkpoint.read(run.path).assert_consumed()
    assert_equal(resumed.state(), run.middle)
    assert_equal(resumed.train(4, 8).state(), run.end)


def test_weights_of_the_optimizer_can_be_taken_and_set(run):
    values = run.optimizer.get_weights()
    assert len(values) == len(run.end) - len(run.model.weights)
    assert [v.ref() for v in run.optimizer.variables()] == [v.ref() for v in run.optimizer.weights]
    run.optimizer.set_weights([value + 1 for value in values])
    assert_equal(run.optimizer.get_weights(), [value + 1 for value in values])
    run.optimizer.set_weights(values)


def test_the_state_that_matters_has_moved(run):
    """So that equality above says something: every variable moved, codebooks' signs too, by both halves."""
    assert int(run.sub_bit.step) == 8
    codebook = [w.ref() for w in run.model.weights].index(run.sub_bit.codebook.ref())
    for before, after in [(run.start, run.middle), (run.middle, run.end)]:
        assert (np.sign(before[codebook]) != np.sign(after[codebook])).any()
        for a, b in zip(before, after, strict=False):
            assert not np.array_equal(a, b)


def test_trackers_tell_silent_weights_from_others(run):
    if run.make is not sgd:
        pytest.skip("only SGD carries silence decay here")
    for layer in (run.model.layers[0], run.model.layers[2]):
        tracker = run.optimizer.transforms[1].tracker(layer.kernel).numpy()
        assert tracker.shape == layer.kernel.shape
        assert 0 < (tracker == 0).mean() < 1


def test_names_of_the_optimizers_variables_differ(run):
    names = [v.name for v in run.optimizer.weights]
    assert len(set(names)) == len(names)
