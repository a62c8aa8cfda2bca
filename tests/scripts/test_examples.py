"""The example scripts, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_digits(tmp_path):
    """It trains, saves, reloads and converts; the plain Keras loader reads what it saved."""
    output = tmp_path / "digits.tflite"
    script = ROOT / "scripts" / "examples" / "digits.py"
    command = [sys.executable, script, "--epochs", "1", "--limit", "64", "--output", output]
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "18 of 18 as LceBconv2d" in done.stdout
    assert output.stat().st_size > 10_000
    load = "import zoo, tensorflow as tf; print(tf.keras.models.load_model('digits.keras').name)"
    loaded = subprocess.run(
        [sys.executable, "-c", load],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert loaded.stdout.strip() == "cifar_resnet20", loaded.stderr
