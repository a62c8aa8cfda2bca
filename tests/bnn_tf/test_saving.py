"""`load_model`: what `model.save` wrote, and clear errors for anything else."""

import numpy as np
import pytest

from bnn_tf import load_model, methods, saving
from bnn_tf._tensorflow import tf
from bnn_tf.errors import UserError
from bnn_tf.losses import SmoothedCrossentropy


@pytest.fixture
def trained(tiny, rng):
    """A network of every method's layers after a step of its optimizer."""

    def make(name):
        method = methods.get(name)
        model = tiny(method=method)
        model.compile(
            method.optimizer("sgd", learning_rate=0.01, weight_decay=1e-4), SmoothedCrossentropy(0.1)
        )
        model.train_on_batch(rng.normal(size=(4, 8, 8, 3)).astype("f"), rng.integers(0, 10, 4))
        return model

    return make


@pytest.mark.parametrize("method", methods.METHODS)
def test_round_trip(trained, method, tmp_path, rng):
    model = trained(method)
    x = rng.normal(size=(3, 8, 8, 3)).astype("f")
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
    assert [w.shape for w in loaded.get_weights()] == [w.shape for w in model.get_weights()]
    assert isinstance(loaded.loss, SmoothedCrossentropy)
    assert type(loaded.optimizer) is type(model.optimizer)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["model.h5", "folder"])
def test_other_formats(trained, name, tmp_path, rng):
    model = trained("recu")
    x = rng.normal(size=(3, 8, 8, 3)).astype("f")
    model.save(tmp_path / name)
    np.testing.assert_allclose(
        load_model(str(tmp_path / name)).predict_on_batch(x), model.predict_on_batch(x), rtol=1e-5, atol=1e-6
    )


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
