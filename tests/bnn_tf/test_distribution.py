"""Two replicas compute what one does with the same global batch, state included."""

import subprocess
import sys

import numpy as np
import pytest

# Logical devices must be set before TensorFlow starts, so all of this runs in a process of its own.
# One strategy serves every run: a second one would wait for the first's collectives.
TRAIN = """
import sys
import numpy as np
from bnn_tf._tensorflow import lq, tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bnn_tf import callbacks, layers, observe, optimizers, quantizers, transforms

folder = sys.argv[1]
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(2, 32, 6, 6, 3)).astype("f"), rng.normal(size=(2, 32, 3)).astype("f")
ONE, TWO = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def ovsw_sgd():
    return optimizers.SGD(0.05, 0.9, transforms=[
        transforms.AdaptiveGradientScale(0.04),
        transforms.SilenceDecay(1e-2, threshold=0.05, momentum=0.8),
        transforms.WeightDecay(1e-3, only="kernels"),
        observe.KernelTelemetry(0.04, momentum=0.8, threshold=0.05),
    ])


def conv(kernel_quantizer, seed):
    return lq.layers.QuantConv2D(
        4, 3, padding="same", input_quantizer=quantizers.ApproxSign(True), kernel_quantizer=kernel_quantizer,
        kernel_initializer=tf.keras.initializers.GlorotNormal(seed), use_bias=False,
    )


def offset():
    # Signs that cancel sum up to 0 but for rounding, which depends on the batch: off the next sign's edge.
    return tf.keras.layers.Rescaling(1.0, offset=0.123)


class Run:
    def __init__(self, strategy, make_optimizer, seed=0):
        with strategy.scope():
            self.sub_bit = quantizers.SubBit(bits=5, seed=3, interval=4)
            self.model = tf.keras.Sequential([
                tf.keras.Input((6, 6, 3)),
                conv(self.sub_bit, seed),
                layers.OutputScale(tf.keras.initializers.RandomUniform(0.1, 1, seed)),
                offset(),
                conv("recu", seed),
                offset(),
                conv(quantizers.IdentitySign("standardized"), seed),
                tf.keras.layers.GlobalAveragePooling2D(),
                tf.keras.layers.Dense(3, kernel_initializer=tf.keras.initializers.GlorotNormal(seed)),
            ])
            self.sub_bit.codebook.assign(self.sub_bit.codebook * 0.002)  # soon flips, soon has duplicates
            self.optimizer = make_optimizer()
            self.model.compile(self.optimizer, "mse")
        self.checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.optimizer)

    def train(self, part):
        self.model.fit(X[part], Y[part], batch_size=8, shuffle=False, verbose=0)
        return self

    def state(self):
        state = {f"model/{i}": w for i, w in enumerate(self.model.get_weights())}
        if isinstance(self.optimizer, tf.keras.optimizers.legacy.Optimizer):
            for v in self.model.trainable_variables:
                state[f"momentum/{len(state)}"] = self.optimizer.get_slot(v, "momentum").numpy()
            for name, transform in [("tracker", 1), ("telemetry", 3)]:
                for v in self.optimizer.transforms[transform].variables:
                    state[f"{name}/{len(state)}"] = v.numpy()
        return state | {"step": self.sub_bit.step.numpy(), "codebook": self.sub_bit.codebook.numpy()}


def save(name, state):
    np.savez(f"{folder}/{name}.npz", **state)


one, two = (Run(strategy, ovsw_sgd).train(0) for strategy in (ONE, TWO))
path = two.checkpoint.write(f"{folder}/checkpoint")
save("one", one.train(1).state())
save("two", two.train(1).state())
for name, variable in [("codebook", two.sub_bit.codebook), ("memory", two.sub_bit.memory),
                       ("tracker", two.optimizer.transforms[1].tracker(two.model.layers[0].kernel))]:
    save(f"replicas of {name}", {str(i): v.numpy() for i, v in enumerate(variable.values)})

one.checkpoint.read(path)
save("one resumed", one.train(1).state())
resumed = Run(TWO, ovsw_sgd, seed=7)
with TWO.scope():
    resumed.checkpoint.read(path)  # before the optimizer's variables exist
save("two resumed", resumed.train(1).state())

for name, strategy in [("one keras", ONE), ("two keras", TWO)]:
    save(name, Run(strategy, lambda: tf.keras.optimizers.SGD(0.2, 0.9)).train(0).train(1).state())

with TWO.scope():
    norm = tf.keras.layers.BatchNormalization()
    normalized = tf.keras.Sequential([tf.keras.Input((6, 6, 3)), norm])
    batches = TWO.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(X[0]).batch(16))
    callbacks.measure_batch_norm(normalized, batches)
moved = {"mean": norm.moving_mean.numpy(), "variance": norm.moving_variance.numpy()}
save("statistics", {"images": X[0], **moved})
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distribution")
    run = subprocess.run([sys.executable, "-c", TRAIN, str(folder)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {file.stem: dict(np.load(file)) for file in folder.glob("*.npz")}


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["", " keras"], ids=["ours", "keras"])
def test_two_replicas_equal_one(results, optimizer):
    one, two = results[f"one{optimizer}"], results[f"two{optimizer}"]
    assert_close(two, one)
    assert one["step"] == 8
    assert len(np.unique(one["codebook"] > 0, axis=0)) == 32
    assert (np.abs(one["codebook"]) > 0.5).all(1).any()  # a replaced pattern


@pytest.mark.slow
@pytest.mark.parametrize("replicas", ["one", "two"])
def test_a_checkpoint_of_two_replicas_goes_on_with_either(results, replicas):
    assert_close(results[f"{replicas} resumed"], results["two"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["codebook", "memory", "tracker"])
def test_replicas_hold_the_same_state(results, name):
    first, second = results[f"replicas of {name}"].values()
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_trackers_moved(results):
    trackers = [v for name, v in results["two"].items() if name.startswith("tracker")]
    assert len(trackers) == 6  # a tracker and remembered signs for each of three kernels
    assert any(((v > 0) & (v < 1)).any() for v in trackers)


@pytest.mark.slow
def test_statistics_are_means_over_the_replicas(results):
    measured = results["statistics"]
    parts = measured["images"].reshape(
        4, 8 * 6 * 6, 3
    )  # two batches, of which each replica gets eight images
    np.testing.assert_allclose(measured["mean"], parts.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(
        measured["variance"], parts.var(1).mean(0), rtol=0.01
    )  # n - 1 in the fused kernel
