"""Fixtures that every test may use."""

from pathlib import Path

import bnn_tf  # noqa: F401  (selects Keras 2 before any test imports TensorFlow)
import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it are skipped elsewhere."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with the authors' reference data is not here")
    return SHARED


@pytest.fixture
def golden(shared):
    """Loads one file of the authors' arrays: `golden("recu_kernel")["tau85_w"]`."""
    return lambda name: np.load(shared / "golden" / f"{name}.npz")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tiny(monkeypatch):
    """Registers the architecture `tiny` (8×8, one binary convolution), which builds and trains in no time."""
    from zoo import blocks, registry

    def build(
        *, method="bireal", input_shape=(8, 8, 3), num_classes=10, pad_values=0.0, weights=None, width=4
    ):
        from bnn_tf import methods

        image = blocks.inputs(input_shape)
        x = blocks.batch_norm(blocks.conv(image, width, 3, "stem_conv"), "stem_bn")
        x = blocks.binarizer(methods.get(method), pad_values)(x, 2 * width, "body")
        return blocks.finish(image, blocks.classifier(x, num_classes), "tiny", weights)

    monkeypatch.setitem(registry.MODELS, "tiny", build)
    return build
