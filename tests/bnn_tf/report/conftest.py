import numpy as np
import pytest

from bnn_tf import observe
from bnn_tf.observe import BinaryKernel


def metrics_row(phase, epoch, accuracy, **more):
    values = {"accuracy": accuracy - 0.1, "val_accuracy": accuracy, "loss": 2.0, "val_loss": 1.5}
    values |= {"learning_rate": 0.1 / epoch, "val_top5_accuracy": 0.9, "seconds": 3.0, **more}
    return {"phase": phase, "epoch": str(epoch), **{key: str(value) for key, value in values.items()}}


@pytest.fixture
def rows():
    """metrics.csv of a run of two phases."""
    accuracies = {
        ("first", 1): 0.2,
        ("first", 2): 0.4,
        ("second", 1): 0.5,
        ("second", 2): 0.8,
        ("second", 3): 0.7,
    }
    return [metrics_row(phase, epoch, accuracy) for (phase, epoch), accuracy in accuracies.items()]


@pytest.fixture
def records(rng):
    """Diagnostics of two layers over three epochs, the second with a codebook of four patterns."""
    made = []
    for epoch in (1, 2, 3):
        for name, patterns in (("plain", None), ("sub_bit", np.array([7, 56, 448, 100 + epoch]))):
            latent = rng.standard_normal((3, 3, 5, 6), np.float32)
            numbers = rng.integers(512, size=30) if patterns is None else rng.choice(patterns[:3], 30)
            signs = np.where(numbers >> np.arange(9)[:, None] & 1, 1, -1).reshape(3, 3, 5, 6)
            kernel = BinaryKernel(name, latent, signs, 0.9, patterns)
            made.append({"phase": "second", "epoch": epoch, "layer": name, **observe.measure(kernel)})
    return made
