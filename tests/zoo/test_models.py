"""Every network with any method, in Larq Zoo's style."""

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import zoo
from bnn_tf import methods
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.layers import HardTanh, LeakyClip
from bnn_tf.training.start import variables
from zoo import blocks

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Branching(methods.Method):
    """Its quantizer branches on a tensor, as AutoGraph allows."""

    name: ClassVar[str] = "branching"

    class Sign(lq.quantizers.SteSign):
        def call(self, inputs):
            if tf.reduce_max(tf.abs(inputs)) > 100.0:
                inputs = inputs / 100.0
            return super().call(inputs)

    def input_quantizer(self):
        return self.Sign()

    def kernel_quantizer(self, kernel_size, name):
        return lq.quantizers.SteSign()


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
    ("bireal_net18_quick", "subbit", {}, 16),
    ("quicknet_small", "recu", {}, 16),
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
    ("bireal_net34_quick", "recu", {}, 32),
    ("react_resnet18_quick", "ovsw", {}, 16),
    ("react_resnet34_quick", "bireal", {}, 32),
    ("resnet18_quick", "bireal", {}, 16),
    ("resnet34_quick", "ovsw", {}, 32),
    ("quicknet", "real", {}, 0),
    ("quicknet_large", "subbit", {}, 32),
)


def binary_layers(model):
    return [
        layer for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D) and layer.kernel_quantizer
    ]


@pytest.mark.sample(2)
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
    images = rng.normal(size=(4, 32, 32, 3)).astype("f")
    for training in (False, True):
        logits = model(images, training=training)
        assert logits.dtype == tf.float32
        assert np.isfinite(logits).all()
    assert np.ptp(logits, axis=0).max() > 0


@pytest.mark.slow
def test_a_quantizer_may_branch_on_tensors():
    model = zoo.CifarResNet20(method=Branching(), input_shape=(8, 8, 3))
    assert np.isfinite(np.asarray(model(np.full((2, 8, 8, 3), 1e6, np.float32), training=False))).all()


def test_all_networks_have_their_turn():
    assert sorted(row[0] for row in (*COMBINATIONS, *REST)) == sorted(zoo.list_models())


@pytest.mark.parametrize("name", zoo.list_models())
class TestStyle:
    def test_arguments(self, name):
        parameters = inspect.signature(zoo.get_model(name)).parameters
        assert tuple(parameters)[: len(PROMISED)] == PROMISED
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
        assert parameters["weights"].default is None
        for_devices = "quick" in name
        assert parameters["pad_values"].default == float(for_devices)  # otherwise as the papers
        large = not name.startswith(("cifar", "vgg"))
        assert parameters["input_shape"].default == ((224, 224, 3) if large else (32, 32, 3))
        assert parameters["num_classes"].default == (1000 if large else 10)
        assert parameters["method"].default in methods.METHODS

    def test_name_and_docstring(self, name):
        builder = zoo.get_model(name)
        assert getattr(zoo, builder.__name__) is builder
        assert builder.__name__.lower() == name.replace("_", "")
        text = inspect.getdoc(builder)
        for argument in inspect.signature(builder).parameters:
            if argument not in ("stem", "shortcut", "stages"):  # said once in the family
                assert f"\n    {argument}: " in text
        assert "binary convolutions" in text


def test_unknown_network():
    with pytest.raises(UsageError, match="no model called 'cifar_resnet21'; did you mean 'cifar_resnet20'"):
        zoo.get_model("cifar_resnet21")


def test_unknown_method():
    with pytest.raises(UsageError, match="no method called 'xnor'"):
        zoo.VGGSmall(method="xnor")


def test_unknown_options():
    for build, options, message in (
        (zoo.CifarResNet18, {"shortcut": "none"}, "shortcut must be pool or conv, not 'none'"),
        (zoo.VGGSmall, {"last_activation": "relu"}, "last_activation must be hard_tanh or prelu, not 'relu'"),
        (zoo.BiRealNet18, {"stem": "slow"}, "stem must be imagenet, quick or patch, not 'slow'"),
        (zoo.ResNet18, {"shortcut": "pool"}, "shortcut must be conv or concat, not 'pool'"),
        (zoo.ReActResNet18, {"stages": (4, 4, 4)}, r"stages must be 4 values .*, not \(4, 4, 4\)"),
        (zoo.QuickNet, {"widths": (64, 65, 128, 256), "stages": (1, 0, 1, 1)}, "stages must be"),
        (zoo.BiRealNet18, {"stem": "quick", "torch_padding": True}, "whose stem is 'imagenet'"),
        (zoo.CifarResNet20, {"num_classes": 0}, "model cifar_resnet20: num_classes must be a whole number"),
        (zoo.CifarResNet20, {"pad_values": [1, 2]}, r"pad_values must be a number, not \[1, 2\]"),
        (zoo.CifarResNet20, {"pad_values": 0.5}, "pad_values must be 0 or 1, not 0.5"),
        (zoo.CifarResNet20, {"input_shape": (32, 32)}, r"input_shape must be 3 values .*, not \(32, 32\)"),
        (zoo.CifarResNet20, {"input_shape": (32, 32, None)}, "input_shape must be"),
        (zoo.CifarResNet20, {"pooling": "mean", "include_top": False}, "pooling must be avg or max, or none"),
        (zoo.CifarResNet20, {"include_top": 1}, "include_top must be true or false, not 1"),
        (zoo.CifarResNet20, {"class_count": 3}, "no option of model cifar_resnet20 called 'class_count'"),
    ):
        with pytest.raises(UsageError if "torch" not in str(options) else UserError, match=message):
            build(**options)


@pytest.mark.slow
def test_without_the_classifier(rng):
    images = rng.normal(size=(2, 32, 32, 1)).astype("f")
    for pooling, shape in ((None, (None, 8, 8, 64)), ("avg", (None, 64)), ("max", (None, 64))):
        model = zoo.CifarResNet20(input_shape=(32, 32, 1), include_top=False, pooling=pooling)
        assert model.output_shape == shape
        assert model(images).shape == (2, *shape[1:])
    assert zoo.VGGSmall(include_top=False).output_shape == (None, 4, 4, 512)
    whole, trunk = zoo.CifarResNet20(), zoo.CifarResNet20(include_top=False)
    assert set(variables(trunk)) == {
        key for key in variables(whole) if not key[0].startswith(("head_bn", "logits"))
    }


class TestDevices:
    """Stems and shortcuts that are cheap on ARM."""

    @pytest.mark.sample(5)
    @pytest.mark.parametrize("build", [zoo.BiRealNet18, zoo.ReActResNet18, zoo.ResNet18])
    @pytest.mark.parametrize("stem", ["imagenet", "quick", "patch"])
    @pytest.mark.parametrize("shortcut", ["conv", "concat"])
    def test_any_combination(self, build, stem, shortcut):
        options = {"stem": stem, "shortcut": shortcut, "stages": (1, 1, 1, 1)}
        model = build(method="bireal", input_shape=(64, 64, 3), num_classes=5, **options)
        assert model.output_shape == (None, 5)
        assert model.get_layer("stage1_block1_conv").input_shape == (None, 16, 16, 64)
        real = [layer.name for layer in model.layers if type(layer) is tf.keras.layers.Conv2D]
        assert len(real) == (2 if stem == "quick" else 1) + 3 * (shortcut == "conv")

    @pytest.mark.slow
    def test_what_is_saved(self):
        """The table of files: 4.20, 4.17 and 3.48 MB at 32 bits a real parameter and one a binary one."""

        def megabytes(**options):
            model = zoo.BiRealNet18(**options)
            binary = sum(layer.kernel.shape.num_elements() for layer in binary_layers(model))
            # BatchNorm folds into what stays beside a kernel: a multiplier and a bias per channel.
            folded = sum(
                layer.gamma.shape[0] * 2 * 4
                for layer in model.layers
                if isinstance(layer, tf.keras.layers.BatchNormalization)
                and "shortcut" not in layer.name and "stem" not in layer.name
            )  # fmt: skip
            real = sum(
                v.shape.num_elements() * 4
                for layer in model.layers
                for v in layer.trainable_weights
                if not isinstance(layer, tf.keras.layers.BatchNormalization)
                and layer not in binary_layers(model)
            )
            return (binary / 8 + real + folded) / 1e6

        assert megabytes() == pytest.approx(4.20, abs=0.06)
        assert megabytes(stem="quick") == pytest.approx(4.17, abs=0.06)
        assert megabytes(stem="quick", shortcut="concat") == pytest.approx(3.48, abs=0.06)

    def test_repeated_channels(self):
        with pytest.raises(UserError, match="64 channels cannot be repeated to 100; use shortcut='conv'"):
            blocks.concatenated_shortcut(None, tf.keras.Input((8, 8, 64)), 100, "block", 1)

    @pytest.mark.slow
    @pytest.mark.sample(1)
    @pytest.mark.parametrize("name", ["QuickNetSmall", "QuickNet", "QuickNetLarge"])
    def test_quicknet_is_larq_zoo_s(self, name):
        """The same kernels in the same order (BatchNorm has no scales in Larq Zoo's stem)."""
        import larq_zoo

        original = getattr(larq_zoo.sota, name)(weights=None, input_shape=(64, 64, 3), num_classes=7)
        mine = getattr(zoo, name)(input_shape=(64, 64, 3), num_classes=7)
        kernels = [
            [tuple(v.shape) for layer in model.layers for v in layer.weights if len(v.shape) > 1]
            for model in (original, mine)
        ]
        assert kernels[0] == kernels[1]
        blurs = [
            [layer.get_weights()[0] for layer in model.layers if "trainable" in layer.get_config()
             and isinstance(layer, tf.keras.layers.DepthwiseConv2D) and not layer.trainable]
            for model in (original, mine)
        ]  # fmt: skip
        assert len(blurs[1]) == 3
        for one, other in zip(*blurs, strict=True):
            np.testing.assert_allclose(one, other)


class TestDoor:
    """Networks of other packages."""

    def test_own_network(self, tiny):
        assert zoo.get_model("tiny") is tiny
        assert "tiny" in zoo.list_models()
        assert tiny(method="recu", width=2).output_shape == (None, 10)

    def test_by_path(self):
        assert zoo.get_model("zoo.vgg_small:VGGSmall") is zoo.VGGSmall
        with pytest.raises(UserError, match="'numpy:save' builds no network: it must be a function with"):
            zoo.get_model("numpy:save")
        with pytest.raises(UserError, match="the module 'os', which is not installed"):
            zoo.get_model("os:system")

    def test_without_tensorflow(self):
        code = "import sys, zoo; zoo.list_models(); zoo.get_model('vgg_small'); zoo.recipes;"
        code += "assert not {'tensorflow', 'larq'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_another_package_of_this_name(self, tmp_path):
        (tmp_path / "zoo").mkdir()
        (tmp_path / "zoo" / "__init__.py").write_text("animals = 3")
        path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

        def errors(*arguments):
            command = [sys.executable, *arguments]
            done = subprocess.run(
                command, env=os.environ | path, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 1
            return done.stderr.strip().splitlines()

        hidden = f"bnn-tf's package 'zoo' is hidden by {tmp_path / 'zoo'}"
        assert errors("-c", "import bnn_tf")[-1].startswith(f"ImportError: {hidden}")
        (line,) = errors("-m", "bnn_tf", "models")
        assert line.startswith(f"bnn-tf: {hidden}")


def test_a_method_with_options_is_taken_in_every_form():
    for method in (methods.SubBit(bits=4), {"name": "subbit", "bits": 4}):
        model = zoo.VGGSmall(method=method)
        assert binary_layers(model)[0].kernel_quantizer.codebook.shape == (16, 9)


@pytest.mark.sample(1)
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


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [(None, None), (30, 23)])
def test_open_and_odd_sizes(size, rng):
    model = zoo.CifarResNet20(input_shape=(*size, 3))
    assert model(rng.normal(size=(1, *(side or 29 for side in size), 3)).astype("f")).shape == (1, 10)


class TestWeights:
    @pytest.mark.sample(1)
    @pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
    def test_round_trip(self, tmp_path, suffix, rng):
        path = tmp_path / f"vgg{suffix}"
        saved = zoo.VGGSmall(method="recu")
        saved.save_weights(path)
        loaded = zoo.VGGSmall(method="recu", weights=path)
        images = rng.normal(size=(2, 32, 32, 3)).astype("f")
        np.testing.assert_array_equal(loaded(images), saved(images))

    def test_no_such_file(self, tmp_path):
        with pytest.raises(UserError, match="there are no weights at .*nothing.weights.h5"):
            zoo.VGGSmall(weights=tmp_path / "nothing.weights.h5")

    def test_no_weights_file(self, tmp_path):
        (tmp_path / "text.weights.h5").write_text("not HDF5")
        with pytest.raises(UserError, match="does not fit the network vgg_small"):
            zoo.VGGSmall(weights=str(tmp_path / "text.weights.h5"))

    def test_of_another_network(self, tmp_path, tiny):
        tiny().save_weights(tmp_path / "tiny.weights.h5")
        with pytest.raises(UserError, match="does not fit the network vgg_small"):
            zoo.VGGSmall(weights=str(tmp_path / "tiny.weights.h5"))

    def test_of_other_classes(self, tmp_path, tiny):
        tiny(num_classes=4).save_weights(tmp_path / "four.weights.h5")
        with pytest.raises(UserError, match="does not fit the network tiny"):
            tiny(num_classes=3, weights=tmp_path / "four.weights.h5")
