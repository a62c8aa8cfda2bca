"""Several replicas train a run as one does, method state, diagnostics and resume included."""

import json
import subprocess
import sys

import numpy as np
import pytest

# Logical devices must be set before TensorFlow starts, so this runs in a process of its own. The network has
# no BatchNorm, whose statistics are those of a replica's share.
TRAIN = """
import io, json, os, signal, sys, tempfile
from bnn_tf._tensorflow import tf
cpu = tf.config.list_physical_devices("CPU")[0]
count = int(sys.argv[2])
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
from rich.console import Console
from zoo import architecture, recipes
from bnn_tf import methods
from bnn_tf.data.images import Images
from bnn_tf.training import Run, RunConfig, Session, StoppedError, strategies, train, trainer

@architecture("tiny", input_shape=(8, 8, 3))
def network(net, image):
    return net.binary_conv(net.conv(image, 4, 3, "stem_conv"), 8, "body")

optimizer = recipes.SGD(learning_rate=0.05, weight_decay=1e-3)
phase = recipes.Phase("train", 2, 16, optimizer=optimizer)
images = Images(size=8, normalization="unit")
recipe = recipes.Recipe(methods.get(sys.argv[1]), "tiny", "digits", (phase,), images=images)
session = Session(Console(file=io.StringIO()))
save_if_due = trainer.PhaseTraining.save_if_due


def stop(self, epoch, step, *rest):  # in the second epoch, after its second step
    if (epoch, step) == (1, 2):
        trainer.PhaseTraining.save_if_due = save_if_due
        os.kill(os.getpid(), signal.SIGTERM)
    save_if_due(self, epoch, step, *rest)


found = []
mirrored = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
one = strategies.select()
for limit in [int(argument) for argument in sys.argv[3:] if argument.isdigit()]:
    config = RunConfig(recipe, limit=limit, class_names=tuple("0123456789"))
    ways = [(one, None), (mirrored, None)] + [(one, mirrored), (mirrored, one)] * ("resume" in sys.argv)
    for strategy, other in ways:
        strategies.select = lambda *_: strategy
        run = Run.create(config, tempfile.mkdtemp())
        if other is not None:
            trainer.PhaseTraining.save_if_due = stop
            try:
                train(run, session)
            except StoppedError:
                strategy = other
            assert run.position() == (0, 1, 2)
        train(Run.open(run.path), session)
        figures = ("loss", "accuracy", "val_loss", "val_accuracy")
        metrics = [{key: float(row[key]) for key in figures} for row in run.metrics()]
        found.append((metrics, [w.tolist() for w in run.load_network().get_weights()]))
print(json.dumps(found))
"""


# Batches hold 16 images: those of an epoch come out even, or in the end three, two or one image is left.
@pytest.mark.parametrize(
    ("method", "replicas", "limits"),
    [
        ("recu", 2, (51, 49)),
        ("recu", 3, (50, "resume")),
        *(pytest.param(name, 2, (48,), marks=pytest.mark.slow) for name in ("bireal", "subbit", "ovsw")),
    ],
)
def test_replicas_train_as_one(method, replicas, limits):
    process = subprocess.run(
        [sys.executable, "-c", TRAIN, method, str(replicas), *map(str, limits)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    printed = json.loads(process.stdout.splitlines()[-1])
    each = 4 if "resume" in limits else 2  # also stopped on one and resumed on several, and the other way
    pairs = [(found, printed[at - at % each]) for at, found in enumerate(printed) if at % each]
    assert len(pairs) >= len(limits)
    for (metrics, weights), (expected_metrics, expected_weights) in pairs:
        assert len(metrics) == 2
        for row, expected in zip(metrics, expected_metrics, strict=True):
            assert row == pytest.approx(expected, rel=1e-5)
        for value, expected in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
