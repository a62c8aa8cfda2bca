"""Every network with any method, in Larq Zoo's style."""

import inspect

import numpy as np
import pytest

import zoo
from bnn_tf import methods
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.layers import HardTanh, LeakyClip
from bnn_tf.training.transfer import variables

PROMISED = ("method", "input_shape", "num_classes", "pad_values", "weights")

# Each network once and each method several times; the golden tests build other combinations.
COMBINATIONS = (
    ("bireal_net18", "recu", {}, 16),
    ("cifar_resnet18a", "subbit", {"shortcut": "conv"}, 19),
    ("cifar_resnet18b", "ovsw", {}, 16),
    ("cifar_resnet18c", "real", {}, 0),
    ("cifar_resnet20", "bireal", {}, 18),
    ("cifar_resnet50", "recu", {"shortcut": "conv"}, 52),
    ("react_resnet18", "ovsw", {}, 16),
    ("resnet18", "subbit", {}, 16),
    ("vgg_small", "bireal", {"last_activation": "prelu"}, 5),
)
REST = (
    ("bireal_net34", "ovsw", {}, 32),
    ("bireal_net50", "subbit", {}, 47),
    ("cifar_resnet18", "bireal", {}, 16),
    ("cifar_resnet34", "bireal", {}, 32),
    ("cifar_resnet101", "bireal", {}, 99),
    ("cifar_resnet152", "ovsw", {}, 150),
    ("react_resnet34", "bireal", {}, 32),
    ("resnet34", "bireal", {}, 32),
)


def binary_layers(model):
    return [
        layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer
    ]


@pytest.mark.parametrize(
    ("name", "method", "options", "convolutions"),
    [
        *(pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in COMBINATIONS),
        *(pytest.param(*row, id=f"{row[0]}-{row[1]}", marks=pytest.mark.slow) for row in REST),
    ],
)
def test_any_method_in_any_network(name, method, options, convolutions, rng):
    model = zoo.get_model(name)(
        method=method, input_shape=(32, 32, 3), num_classes=7, pad_values=1.0, **options
    )
    assert model.name == name
    assert model.output_shape == (None, 7)
    assert len(binary_layers(model)) == convolutions
    assert all(layer.pad_values == 1.0 for layer in binary_layers(model))
    assert len(variables(model)) == len(model.weights)  # transfer finds each by its name
    images = rng.normal(size=(2, 32, 32, 3)).astype("f")
    for training in (False, True):
        logits = model(images, training=training)
        assert logits.dtype == tf.float32
        assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 0


def test_all_networks_have_their_turn():
    assert sorted(row[0] for row in (*COMBINATIONS, *REST)) == sorted(zoo.list_models())


@pytest.mark.parametrize("name", zoo.list_models())
class TestStyle:
    def test_arguments(self, name):
        parameters = inspect.signature(zoo.get_model(name)).parameters
        assert tuple(parameters)[: len(PROMISED)] == PROMISED
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
        assert parameters["weights"].default is None
        assert parameters["pad_values"].default == 0.0  # as the papers
        large = name.startswith(("bireal", "react", "resnet"))
        assert parameters["input_shape"].default == ((224, 224, 3) if large else (32, 32, 3))
        assert parameters["num_classes"].default == (1000 if large else 10)
        assert parameters["method"].default in methods.METHODS

    def test_name_and_docstring(self, name):
        builder = zoo.get_model(name)
        assert getattr(zoo, builder.__name__) is builder
        assert builder.__name__.lower() == name.replace("_", "")
        text = inspect.getdoc(builder)
        assert "Args:" in text or "rguments as `" in text
        assert "binary convolutions" in text or "parameters" in text


def test_unknown_network():
    with pytest.raises(UsageError, match="no model called 'cifar_resnet21'; did you mean 'cifar_resnet20'"):
        zoo.get_model("cifar_resnet21")


def test_unknown_method():
    with pytest.raises(UsageError, match="no method called 'xnor'"):
        zoo.VGGSmall(method="xnor")


def test_unknown_options():
    with pytest.raises(ValueError, match="shortcut must be 'pool' or 'conv', not 'none'"):
        zoo.CifarResNet18(shortcut="none")
    with pytest.raises(ValueError, match="last_activation must be 'hard_tanh' or 'prelu', not 'relu'"):
        zoo.VGGSmall(last_activation="relu")


def test_a_method_with_options_is_taken_in_every_form():
    for method in (methods.SubBit(bits=4), {"name": "subbit", "bits": 4}):
        model = zoo.VGGSmall(method=method)
        assert binary_layers(model)[0].kernel_quantizer.codebook.shape == (16, 9)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("bireal_net18", 16),
        ("cifar_resnet18a", 17),
        ("cifar_resnet20", 19),
        ("resnet18", 17),
        ("vgg_small", 6),
    ],
)
@pytest.mark.parametrize("kind", [LeakyClip, HardTanh])
def test_real_networks_activate_once(name, count, kind):
    """Before every convolution that will be binary, or in place of the hard-tanh, but never twice."""
    method = methods.Real("leaky_clip" if kind is LeakyClip else "clip")
    model = zoo.get_model(name)(method=method)
    assert [sum(isinstance(layer, k) for layer in model.layers) for k in (LeakyClip, HardTanh)] == (
        [count, 0] if kind is LeakyClip else [0, count]
    )
    for layer in model.layers:
        if isinstance(layer, lq.layers.QuantConv2D):
            before = layer.input._keras_history.layer
            while isinstance(before, tf.keras.layers.MaxPool2D):
                before = before.input._keras_history.layer
            assert isinstance(before, kind)


@pytest.mark.parametrize("size", [(None, None), (30, 23)])
def test_open_and_odd_sizes(size, rng):
    model = zoo.CifarResNet20(input_shape=(*size, 3))
    assert model(rng.normal(size=(1, *(side or 29 for side in size), 3)).astype("f")).shape == (1, 10)


class TestWeights:
    @pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
    def test_round_trip(self, tmp_path, suffix, rng):
        path = tmp_path / f"vgg{suffix}"
        saved = zoo.VGGSmall(method="recu")
        saved.save_weights(path)
        loaded = zoo.VGGSmall(method="recu", weights=path)
        images = rng.normal(size=(2, 32, 32, 3)).astype("f")
        np.testing.assert_array_equal(loaded(images), saved(images))

    def test_no_such_file(self, tmp_path):
        with pytest.raises(UserError, match="weights='.*nothing.weights.h5' do not load into vgg_small"):
            zoo.VGGSmall(weights=tmp_path / "nothing.weights.h5")

    def test_no_weights_file(self, tmp_path):
        (tmp_path / "text.weights.h5").write_text("not HDF5")
        with pytest.raises(UserError, match="do not load into vgg_small"):
            zoo.VGGSmall(weights=str(tmp_path / "text.weights.h5"))

    def test_of_another_network(self, tmp_path, tiny):
        tiny().save_weights(tmp_path / "tiny.weights.h5")
        with pytest.raises(UserError, match="do not load into vgg_small"):
            zoo.VGGSmall(weights=str(tmp_path / "tiny.weights.h5"))

    def test_of_other_classes(self, tmp_path, tiny):
        tiny(num_classes=4).save_weights(tmp_path / "four.weights.h5")
        with pytest.raises(UserError, match="do not load into tiny"):
            tiny(num_classes=3, weights=tmp_path / "four.weights.h5")
