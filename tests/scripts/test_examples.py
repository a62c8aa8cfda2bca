"""The example scripts, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


def python(folder, *arguments):
    """What `python ARGUMENTS` prints in a folder, with nothing set that selects a Keras."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_digits(tmp_path):
    """It trains, saves, reloads and converts; Keras' own loader reads the file with our layers registered."""
    output = tmp_path / "digits.tflite"
    said = python(tmp_path, EXAMPLES / "digits.py", "--epochs", "1", "--limit", "64", "--output", output)
    assert "18 of 18 as LceBconv2d" in said
    assert output.stat().st_size > 10_000
    register = "from bnn_tf import layers, quantizers; import tensorflow as tf"
    load = f"{register}; print(tf.keras.models.load_model('digits.keras').name)"
    assert python(tmp_path, "-c", load).strip() == "cifar_resnet20"


@pytest.mark.slow
def test_multistep(tmp_path):
    """Five steps without the command line, and no scale left in the file."""
    output = tmp_path / "multistep.tflite"
    options = ("--epochs", "1,1,1,1,1", "--limit", "64", "--output", output)
    said = python(tmp_path, EXAMPLES / "multistep.py", *options)
    assert [line for line in said.splitlines() if line.startswith("Step: ")] == [
        "Step: relu", "Step: leaky clip", "Step: clip", "Step: binarize", "Step: BatchNorm alone"
    ]  # fmt: skip
    assert "18 of 18 as LceBconv2d" in said
    (operators,) = (line for line in said.splitlines() if line.startswith("operators: "))
    assert "MUL" not in operators
