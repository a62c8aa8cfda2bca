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
