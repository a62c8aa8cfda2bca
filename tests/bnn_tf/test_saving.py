"""`load_model`: what `model.save` wrote, and clear errors for anything else."""

import numpy as np
import pytest

from bnn_tf import load_model, methods, saving
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.losses import SmoothedCrossentropy


@pytest.fixture
def model(tiny, rng):
    """A network after a step of an optimizer with transforms; test_serialization.py has the others."""
    method = methods.OvSW()
    built = tiny(method=method)
    optimizer = method.optimizer("sgd", learning_rate=0.01, weight_decay=1e-4)
    built.compile(optimizer, SmoothedCrossentropy(0.1), run_eagerly=True)
    built.train_on_batch(rng.normal(size=(4, 8, 8, 3)).astype("f"), rng.integers(0, 10, 4))
    return built


def test_round_trip(model, tmp_path, rng):
    x = rng.normal(size=(3, 8, 8, 3)).astype("f")
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert isinstance(loaded.loss, SmoothedCrossentropy)
    assert [type(t) for t in loaded.optimizer.transforms] == [type(t) for t in model.optimizer.transforms]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_hdf5_and_a_path_as_text(model, tmp_path, rng):
    x = rng.normal(size=(3, 8, 8, 3)).astype("f")
    model.save(tmp_path / "model.h5")
    np.testing.assert_array_equal(load_model(str(tmp_path / "model.h5"))(x), model(x))


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="there is no saved model at .*nothing.keras"):
        load_model(tmp_path / "nothing.keras")


@pytest.mark.parametrize("name", ["text.keras", "text.h5", "text", "folder"])
def test_something_else(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_text("not a model")
    with pytest.raises(UserError, match=f"{name} does not load as a Keras model"):
        saving.load_model(path)


def test_an_unknown_layer_is_named(tmp_path):
    class Unknown(tf.keras.layers.Layer):
        pass

    model = tf.keras.Sequential([tf.keras.Input((2,)), Unknown()])
    model.save(tmp_path / "unknown.keras")
    with pytest.raises(UserError, match="unknown.keras does not load as a Keras model: .*Unknown"):
        load_model(tmp_path / "unknown.keras")
