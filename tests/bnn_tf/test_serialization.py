"""Saved models: every format, loaded by plain Keras in a fresh process that knows only our quantizers."""

import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import layers, observe, optimizers, quantizers, transforms
from bnn_tf._tensorflow import lq, tf

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")

X = np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)

# What a user does who has a saved model; the argument is the folder of all the files.
LOAD = """
import sys
import numpy as np
import bnn_tf.quantizers
import tensorflow as tf

folder = sys.argv[1]
data = np.load(f"{folder}/data.npz")
result = {}
for name in ("model.keras", "model.h5", "saved_model"):
    model = tf.keras.models.load_model(f"{folder}/{name}")
    result[f"{name} outputs"] = model(data["x"]).numpy()
    quantized = {q.name: q for layer in model.layers if (q := getattr(layer, "kernel_quantizer", None))}
    result[f"{name} types"] = [type(q).__module__ + "." + type(q).__name__ for q in quantized.values()]
    result[f"{name} activations"] = [
        type(q).__name__ + str(q.normalize) + str(q.stop_gradient)
        for layer in model.layers if (q := getattr(layer, "input_quantizer", None))
    ]
    result[f"{name} tau"] = quantized["recu"].tau.numpy()
    result[f"{name} codebook"] = quantized["watched"].codebook.numpy()
    result[f"{name} memory"] = quantized["watched"].memory.numpy()
    result[f"{name} step"] = quantized["watched"].step.numpy()
    optimizer = model.optimizer
    result[f"{name} optimizer"] = [type(optimizer).__module__ + "." + type(optimizer).__name__]
    result[f"{name} transforms"] = [str(type(t).__name__) + str(t.get_config()) for t in optimizer.transforms]
    result[f"{name} rate"] = float(optimizer.learning_rate)
    result[f"{name} iterations"] = int(optimizer.iterations)
    # Both ways must work. The HDF5 file's is compiled, like the training it is compared with: eager steps
    # round otherwise, and one sign that differs changes everything behind it.
    model.run_eagerly = name == "model.keras"
    model.fit(data["x"], data["y"], batch_size=4, epochs=1, shuffle=False, verbose=0)
    result[f"{name} trained"] = np.concatenate([w.ravel() for w in model.get_weights()])
    result[f"{name} stepped"] = quantized["watched"].step.numpy()
np.savez(f"{folder}/result.npz", **result)
"""

FORMATS = pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])


def build(seed=0):
    def conv(kernel_quantizer, **activation):
        return lq.layers.QuantConv2D(
            4,
            3,
            padding="same",
            input_quantizer=quantizers.ApproxSign(**activation),
            kernel_quantizer=kernel_quantizer,
            kernel_initializer=tf.keras.initializers.GlorotNormal(seed),
            use_bias=False,
        )

    inputs = tf.keras.Input((6, 6, 4))
    x = conv(quantizers.ScaledSign(clip_value=None))(inputs)
    x = layers.OutputScale(tf.keras.initializers.RandomUniform(0, 1, seed))(x)
    x = conv(quantizers.ReCU(0.7, scale="learned", name="recu"), normalize=True)(x)
    x = tf.keras.layers.BatchNormalization()(x)
    x = conv(quantizers.SubBit(bits=4, seed=seed, interval=2, name="watched"))(x)
    x = conv(quantizers.IdentitySign("standardized"), normalize=True, stop_gradient=True)(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3)(x))


def quantizer(model, name):
    return next(
        q for layer in model.layers if (q := getattr(layer, "kernel_quantizer", None)) and q.name == name
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trained model with state that differs from its start, saved in every format."""
    folder = tmp_path_factory.mktemp("saved")
    model = build()
    model.compile(
        optimizers.SGD(
            0.1,
            0.9,
            transforms=[
                transforms.AdaptiveGradientScale(0.04),
                transforms.SilenceDecay(1e-2, momentum=0.9),
                transforms.WeightDecay(1e-3, only="kernels"),
                observe.KernelTelemetry(),
            ],
        ),
        "mse",
    )
    model.fit(X, Y, batch_size=2, shuffle=False, verbose=0)
    quantizer(model, "recu").tau.assign(0.93)
    np.savez(folder / "data.npz", x=X, y=Y)
    for name in ("model.keras", "model.h5"):
        model.save(folder / name)
    model.save(folder / "saved_model", save_format="tf")
    for name in ("plain.h5", "new.weights.h5", "checkpoint/weights"):
        model.save_weights(folder / name)
    return model, folder


@pytest.fixture(scope="module")
def loaded(saved):
    """What a fresh process found in each file."""
    _, folder = saved
    run = subprocess.run(
        [sys.executable, "-W", "error:::bnn_tf", "-c", LOAD, str(folder)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return dict(np.load(folder / "result.npz"))


@FORMATS
def test_outputs_are_equal(saved, loaded, name):
    model, _ = saved
    np.testing.assert_allclose(loaded[f"{name} outputs"], model(X), rtol=1e-5, atol=1e-6)


@FORMATS
def test_quantizers_and_their_state_are_back(saved, loaded, name):
    model, _ = saved
    assert list(loaded[f"{name} types"]) == [
        f"bnn_tf.quantizers.{kind}" for kind in ("ScaledSign", "ReCU", "SubBit", "IdentitySign")
    ]
    assert list(loaded[f"{name} activations"]) == [
        f"ApproxSign{flags}" for flags in ("FalseFalse", "TrueFalse", "FalseFalse", "TrueTrue")
    ]
    assert loaded[f"{name} tau"] == np.float32(0.93)
    sub_bit = quantizer(model, "watched")
    np.testing.assert_array_equal(loaded[f"{name} codebook"], sub_bit.codebook)
    np.testing.assert_array_equal(loaded[f"{name} memory"], sub_bit.memory)
    assert loaded[f"{name} step"] == sub_bit.step == 4
    assert np.abs(np.abs(sub_bit.codebook) - 1).max() > 0


@FORMATS
def test_the_optimizer_is_back_with_its_transforms(saved, loaded, name):
    model, _ = saved
    assert list(loaded[f"{name} optimizer"]) == ["bnn_tf.optimizers.SGD"]
    assert list(loaded[f"{name} transforms"]) == [
        type(t).__name__ + str(t.get_config()) for t in model.optimizer.transforms
    ]
    assert loaded[f"{name} rate"] == pytest.approx(0.1)
    # Of a legacy optimizer Keras keeps the state in HDF5 only; training states go to tf.train.Checkpoint.
    assert loaded[f"{name} iterations"] == (4 if name == "model.h5" else 0)


@FORMATS
def test_training_goes_on(saved, loaded, name):
    model, _ = saved
    before = np.concatenate([w.ravel() for w in model.get_weights()])
    after = loaded[f"{name} trained"]
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)
    assert loaded[f"{name} stepped"] == 6


@pytest.mark.parametrize("name", ["plain.h5", "new.weights.h5", "checkpoint/weights"])
def test_weights_alone(saved, name):
    model, folder = saved
    other = build(seed=1)
    assert not np.allclose(other(X), model(X))
    status = other.load_weights(folder / name)
    if status is not None:
        status.expect_partial()  # the model has no optimizer
    for old, new in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(tf.convert_to_tensor(old), tf.convert_to_tensor(new))
    np.testing.assert_array_equal(other(X), model(X))


def test_models_as_layers_keep_their_quantizers_apart(tmp_path):
    """HDF5 puts all weights of an inner model into one group, where equal names would clash."""

    def outer():
        inner = tf.keras.Sequential(
            [
                tf.keras.Input((4, 4, 2)),
                *(lq.layers.QuantConv2D(2, 3, kernel_quantizer="recu", padding="same") for _ in "12"),
            ]
        )
        return inner, tf.keras.Sequential([tf.keras.Input((4, 4, 2)), inner])

    inner, model = outer()
    for layer, tau in zip(inner.layers, (0.7, 0.8), strict=True):
        layer.kernel_quantizer.tau.assign(tau)
    model.save_weights(tmp_path / "weights.h5")
    again, other = outer()
    other.load_weights(tmp_path / "weights.h5")
    np.testing.assert_allclose([layer.kernel_quantizer.tau for layer in again.layers], [0.7, 0.8])


def test_cloning_keeps_configurations(saved):
    model, _ = saved
    clone = tf.keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(X), model(X))
    assert quantizer(clone, "watched").codebook is not quantizer(model, "watched").codebook


def test_training_from_hdf5_goes_on_as_uninterrupted(saved, loaded):
    """Last to use the model: momentum, trackers and codebooks all came back."""
    model, folder = saved
    again = tf.keras.models.load_model(folder / "model.h5")
    again.fit(X, Y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        np.concatenate([w.ravel() for w in again.get_weights()]),
        loaded["model.h5 trained"],
        rtol=1e-4,
        atol=1e-5,
    )
