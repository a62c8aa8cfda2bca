"""Two replicas and two processes compute what one device does with the same batches."""

import socket
import subprocess
import sys

import numpy as np
import pytest

# Each way of computing needs a process of its own: devices and clusters are set before TensorFlow starts.
# The network is so small, and starts from such a seed, that no activation lies so near 0 that another order
# of additions turns its sign: in a large network some do in the first step, and all behind them differs.
TRAIN = """
import json, os, sys

method, kind, addresses, file = sys.argv[1:]
if kind.isdigit():
    cluster = {"worker": addresses.split(",")}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(kind)}})

import numpy as np
import bnn_tf, zoo
from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.training import set_seeds, strategies

if kind == "replicas":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = strategies.select()


@zoo.architecture("small", method="recu", input_shape=(32, 32, 3), num_classes=10)
def Small(net, image):
    x = net.batch_norm(net.conv(image, 4, 3, "stem_conv", strides=8), "stem_bn")
    for number in (1, 2):
        x = net.batch_norm(net.binary_conv(x, 4, f"conv{number}"), f"bn{number}")
    return x


set_seeds(2)
phase = zoo.recipes.find(method, "cifar_resnet20", "cifar10").phases[-1]
digits = data.load("digits").limited(320)
batches = data.training_batches(digits, data.Images(), batch_size=64, epochs=4, seed=1)
with strategy.scope():
    network = Small(method=method)
    strategies.synchronize_batch_norm(network)
    network.compile(phase.optimizer.build(bnn_tf.methods.get(method), 64, phase.epochs), phase.loss.build())
network.fit(batches, epochs=1, verbose=0)
variables = enumerate([*network.weights, *network.optimizer.weights])
state = {f"{i} {v.name}".replace("/", " "): v.numpy() for i, v in variables}
np.savez(file, steps=network.optimizer.iterations.numpy(), **state)
"""


def addresses():
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    names = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return ",".join(names)


def train(folder, method, *kinds):
    """The states after twenty steps, one per process."""
    places, files = addresses(), [folder / f"{kind}.npz" for kind in kinds]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, method, kind, places, str(file)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind, file in zip(kinds, files, strict=True)
    ]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return [dict(np.load(file)) for file in files]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bireal", "recu", "subbit", "ovsw"])
def test_two_processes_and_two_replicas_equal_one_device(method, tmp_path):
    (one,) = train(tmp_path, method, "one")
    (replicas,) = train(tmp_path, method, "replicas")
    first, second = train(tmp_path, method, "0", "1")
    assert one["steps"] == 20
    for state in (replicas, first, second):
        assert state.keys() == one.keys()
        for name, value in one.items():
            np.testing.assert_allclose(state[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
