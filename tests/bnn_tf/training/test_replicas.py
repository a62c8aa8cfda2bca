"""Two replicas train a run as one does, method state, diagnostics and resume included."""

import json
import subprocess
import sys

import numpy as np
import pytest

# Logical devices must be set before TensorFlow starts, so this runs in a process of its own. The network has
# no BatchNorm, whose statistics are those of a replica's share.
TRAIN = """
import io, json, sys, tempfile
from bnn_tf._tensorflow import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from rich.console import Console
from zoo import architecture, recipes
from bnn_tf import methods
from bnn_tf.data.images import Images
from bnn_tf.training import Run, RunConfig, Session, strategies, train

@architecture("tiny", input_shape=(8, 8, 3))
def network(net, image):
    return net.binary_conv(net.conv(image, 4, 3, "stem_conv"), 8, "body")

optimizer = recipes.SGD(learning_rate=0.05, weight_decay=1e-3)
phase = recipes.Phase("train", 2, 16, optimizer=optimizer)
images = Images(size=8, normalization="unit")
recipe = recipes.Recipe(methods.get(sys.argv[1]), "tiny", "digits", (phase,), images=images)
config = RunConfig(recipe, limit=48, class_names=tuple("0123456789"))
session = Session(Console(file=io.StringIO()))
found = {}
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, strategy in (("one", strategies.select()), ("two", two)):
    strategies.select = lambda *_: strategy
    run = Run.create(config, tempfile.mkdtemp())
    train(run, session)
    figures = ("loss", "val_loss", "val_accuracy")
    metrics = [{key: float(row[key]) for key in figures} for row in run.metrics()]
    found[name] = metrics, [w.tolist() for w in run.load_network().get_weights()]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "method", ["recu", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bireal", "subbit", "ovsw"))]
)
def test_two_replicas_train_as_one(method):
    process = subprocess.run(
        [sys.executable, "-c", TRAIN, method], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    printed = json.loads(process.stdout.splitlines()[-1])
    (metrics, weights), (expected_metrics, expected_weights) = printed["two"], printed["one"]
    assert len(metrics) == 2
    for row, expected in zip(metrics, expected_metrics, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    for value, expected in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
