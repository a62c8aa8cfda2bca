"""How the weights of every kind of layer start, for each method's network, against the authors' rules."""

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.training import set_seeds
from bnn_tf.training.run import build_network
from zoo import recipes

NORMAL, UNIFORM = "normal", "uniform"


def layer_kinds(model):
    """The arrays of the network's layers by kind: stem, binary, shortcut, classifier, bias."""
    kinds = {}
    for layer in model.layers:
        if getattr(layer, "kernel_quantizer", None) is not None:
            kinds.setdefault("binary", []).append(bnn_tf.transforms.latent_value(layer.kernel).numpy())
        elif type(layer) in (tf.keras.layers.Conv2D, lq.layers.QuantConv2D):
            kind = "stem" if layer.name == "stem_conv" else "shortcut"
            kinds.setdefault(kind, []).append(layer.kernel.numpy())
        elif isinstance(layer, tf.keras.layers.Dense):
            kinds["classifier"], kinds["bias"] = [layer.kernel.numpy()], [layer.bias.numpy()]
    return kinds


def fans(shape):
    places = int(np.prod(shape[:-2]))
    return places * shape[-2], places * shape[-1]


def pytorch(shape, fan_in):
    """Uniform in ±1/√fan_in."""
    return UNIFORM, -(fan_in**-0.5), fan_in**-0.5


def kaiming_normal(shape, fan_in):
    """Normal with deviation √(2/fan_in)."""
    return NORMAL, 0.0, np.sqrt(2 / fan_in)


def fan_out_normal(shape, fan_in):
    """Normal with deviation √(2/fan_out)."""
    return NORMAL, 0.0, np.sqrt(2 / fans(shape)[1])


def tiny(shape, fan_in):
    """Uniform in [0, 0.001)."""
    return UNIFORM, 0.0, 0.001


def hundredth(shape, fan_in):
    """Normal with deviation 0.01."""
    return NORMAL, 0.0, 0.01


def zeros(shape, fan_in):
    return UNIFORM, 0.0, 0.0


SMALL = {"stages": (1, 1, 1, 1)}
RULES = {
    "bireal_net18-bireal": (SMALL, pytorch, tiny, pytorch, pytorch, pytorch),
    "react_resnet18-subbit": (SMALL, pytorch, tiny, pytorch, pytorch, pytorch),
    "resnet18-recu": (SMALL, *[kaiming_normal] * 3, pytorch, pytorch),
    "cifar_resnet20-recu": ({}, *[kaiming_normal] * 3, pytorch, pytorch),
    "resnet18-ovsw": (SMALL, pytorch, kaiming_normal, pytorch, pytorch, pytorch),
    "cifar_resnet18a-ovsw": ({"shortcut": "conv"}, pytorch, kaiming_normal, None, pytorch, pytorch),
    "vgg_small-recu": ({}, fan_out_normal, fan_out_normal, None, hundredth, zeros),
    "vgg_small-ovsw": ({}, fan_out_normal, fan_out_normal, None, hundredth, zeros),
}


@pytest.mark.parametrize("network", RULES)
def test_every_kind_of_layer(network):
    set_seeds(7)
    name, method = network.split("-")
    options, *rules = RULES[network]
    kinds = layer_kinds(zoo.get_model(name)(method=method, **options))
    for kind, rule in zip(("stem", "binary", "shortcut", "classifier", "bias"), rules, strict=True):
        assert (rule is None) <= (kind not in kinds)
        for array in kinds.get(kind, ()):
            fan_in = kinds["classifier"][0].shape[0] if kind == "bias" else fans(array.shape)[0]
            shape, low, high = rule(array.shape, fan_in)
            if shape == UNIFORM:
                assert low <= array.min()
                assert array.max() <= high
                mean, deviation = (low + high) / 2, (high - low) / np.sqrt(12)
            else:
                mean, deviation = low, high
                # Not truncated: some of many normal numbers lie beyond 2.27 σ.
                assert array.size < 2000 or np.abs(array).max() > 2.5 * deviation
            error = 5 / np.sqrt(array.size)
            assert array.std() == pytest.approx(deviation, rel=error, abs=1e-9), (kind, array.shape)
            assert array.mean() == pytest.approx(mean, abs=error * max(deviation, 1e-9)), (kind, array.shape)


def test_the_figures_that_were_measured():
    """Standard deviations of the authors' fresh models."""
    set_seeds(0)
    ovsw, bireal = (
        layer_kinds(zoo.CifarResNet20(method="ovsw")),
        layer_kinds(zoo.BiRealNet18(stages=(1, 1, 1, 1))),
    )
    assert ovsw["classifier"][0].std() == pytest.approx(0.072, abs=0.003)
    assert ovsw["stem"][0].std() == pytest.approx(0.110, abs=0.008)
    assert bireal["stem"][0].std() == pytest.approx(0.0475, abs=0.001)
    assert bireal["classifier"][0].std() == pytest.approx(0.0255, abs=0.001)
    assert [kernel.std() for kernel in bireal["shortcut"]] == pytest.approx([0.072, 0.051, 0.036], abs=0.001)


@pytest.mark.parametrize(
    ("method", "variant", "stem", "inner"),
    [
        ("subbit", "default", pytorch, pytorch),
        ("bireal", "multistep", pytorch, pytorch),
        ("recu", "two-stage", kaiming_normal, kaiming_normal),
    ],
)
def test_real_valued_phases_start_as_the_binary_ones(method, variant, stem, inner):
    """The phase with binary weights takes the others over: stem, downsampling and classifier."""
    set_seeds(7)
    model = {"bireal": "bireal_net18"}.get(method, "react_resnet18")
    recipe = recipes.find(method, model, "imagenet2012", variant)
    recipe = recipes.override(recipe, "model.stages", (1, 1, 1, 1))
    network = build_network(recipe, 1000, recipe.phases[0])
    (classifier,) = (layer for layer in network.layers if isinstance(layer, tf.keras.layers.Dense))
    assert classifier.kernel.numpy().std() == pytest.approx(0.0255, abs=0.001)
    assert classifier.bias.numpy().std() == pytest.approx(0.0255, abs=0.002)
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            rule = stem if layer.name == "stem_conv" else inner
            _, low, high = rule(layer.kernel.shape, fans(layer.kernel.shape)[0])
            deviation = high if rule is kaiming_normal else (high - low) / np.sqrt(12)
            assert layer.kernel.numpy().std() == pytest.approx(deviation, rel=0.05), layer.name


def test_the_former_start_is_an_option():
    method = bnn_tf.methods.BiReal(start="glorot_normal")
    kernel = layer_kinds(zoo.CifarResNet20(method=method))["binary"][-1]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.05)
    assert kernel.min() < 0


def test_a_seed_decides_it():
    def weights():
        set_seeds(3)
        return zoo.CifarResNet20(method="recu").get_weights()

    for one, other in zip(weights(), weights(), strict=True):
        np.testing.assert_array_equal(one, other)
