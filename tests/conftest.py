"""Fixtures that every test may use."""

import json
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import bnn_tf  # noqa: F401  (selects Keras 2 before any test imports TensorFlow)
from bnn_tf.deploy.lce_file import is_installed

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; tests that need it are skipped elsewhere."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with the authors' reference data is not here")
    return SHARED


GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(request):
    """Loads one file of the authors' arrays: `golden("recu_kernel")["tau85_w"]`.

    The large `forward_*` files (whole networks with their logits) are in `../shared/golden`; a test that asks
    for one is skipped where they are absent.
    """

    def load(name):
        folder = request.getfixturevalue("shared") / "golden" if name.startswith("forward_") else GOLDEN
        return np.load(folder / f"{name}.npz")

    return load


@pytest.fixture(scope="session")
def golden_networks():
    """What the authors' networks consist of, by name: layers, shapes, parameters, operations."""
    return json.loads((GOLDEN / "models.json").read_text())


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seeds, whichever ran before it in the same process."""
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:
        from bnn_tf.training import set_seeds

        set_seeds(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def tiny():
    """Registers the architecture `tiny` (8×8, one binary convolution), which builds and trains in no time."""
    from zoo import MODELS, architecture

    with MODELS.temporary():

        @architecture("tiny", input_shape=(8, 8, 3), num_classes=10)
        def build(net, image, width=4):
            x = net.batch_norm(net.conv(image, width, 3, "stem_conv"), "stem_bn")
            return net.binary(x, 2 * width, "body")

        yield build


@pytest.fixture
def quick_fit(monkeypatch):
    """Replaces training steps by something that moves the weights, so that nothing is traced."""
    from bnn_tf._tensorflow import tf
    from bnn_tf.training import trainer

    def make_train_function(model):
        model.optimizer._create_all_weights(model.trainable_variables)

        def step(_):
            model.optimizer.iterations.assign_add(1)
            count = int(model.optimizer.iterations)
            model.set_weights([weights * (1 + 0.01 * count) for weights in model.get_weights()])
            return {"loss": tf.constant(1 / count), "accuracy": tf.constant(0.5)}

        return step

    def no_data(*_, **__):
        return tf.data.Dataset.range(1)

    def evaluate(model, *_, callbacks=(), **__):
        for callback in callbacks:
            callback.on_test_batch_end(0)
        return {"loss": 0.7, "accuracy": 0.4}

    replaced = {"training_batches": no_data, "evaluation_batches": no_data}
    monkeypatch.setattr(trainer, "data", types.SimpleNamespace(**{**vars(trainer.data), **replaced}))
    monkeypatch.setattr(tf.keras.Model, "make_train_function", make_train_function)
    monkeypatch.setattr(tf.keras.Model, "evaluate", evaluate)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """`@pytest.mark.sample(n)`: the first n sets of parameters always run, the others with the slow tests."""
    counts = {}
    for item in items:
        mark = item.get_closest_marker("sample")
        if mark is not None:
            function = item.nodeid.partition("[")[0]
            counts[function] = counts.get(function, 0) + 1
            if counts[function] > mark.args[0]:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Where Larq Compute Engine is not installed, a test that asks for it is skipped and has not failed."""
    report = (yield).get_result()
    if report.failed and not is_installed():
        text = report.longreprtext + report.capstderr
        if "'larq_compute_engine" in text or "pip install larq-compute-engine" in text:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), item.location[1], "Larq Compute Engine is not installed")
