"""Several processes of one machine that train together."""

import subprocess
import sys

import numpy as np
import pytest

from bnn_tf.training import Run


def bnn_tf(*arguments):
    command = [sys.executable, "-m", "bnn_tf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "run"), "only train runs in several processes, not 'evaluate'"),
        (("train", "--method", "recu"), "name the run directory"),
        (("-n", "1", "train", "-o", "run"), "1 is not in the range x>=2"),
    ],
)
def test_wrong_usage(arguments, message):
    done = bnn_tf("launch", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_error_of_a_process_ends_all(tmp_path):
    done = bnn_tf("launch", "train", "--resume", tmp_path / "absent")
    assert done.returncode == 1
    assert "absent" in done.stdout
    assert "a process ended with exit code 1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", ["recu", "bireal", "subbit", "ovsw"])
def test_two_processes_train_as_one(method, tmp_path):
    """Twenty steps with BatchNorm over all replicas: the weights agree up to the order of sums."""
    options = [
        "train",
        "--method",
        method,
        "--model",
        "cifar_resnet20",
        "--dataset",
        "digits",
        "--limit",
        "320",
    ]
    options += ["--epochs", "4", "--batch-size", "64", "--until", "activations"] if method == "subbit" else []
    options += [] if method == "subbit" else ["--epochs", "4", "--batch-size", "64"]
    options += [
        "--learning-rate",
        "1e-4",
        "--set",
        "schedule.warmup=0",
        "--sync-batch-norm",
        "--deterministic",
    ]
    one = bnn_tf(*options, "-o", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    two = bnn_tf("launch", "-n", "2", *options, "-o", tmp_path / "two")
    assert two.returncode == 0, two.stdout + two.stderr
    runs = [Run.open(tmp_path / name) for name in ("one", "two")]
    losses = [[float(row["loss"]) for row in run.metrics()] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    weights = [run.load_network().get_weights() for run in runs]
    for value, expected in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-4)
