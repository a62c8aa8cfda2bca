"""The networks against the authors' own: parameter counts and logits."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import zoo
from bnn_tf import methods

_path = Path(__file__).with_name("authors_weights.py")
_spec = importlib.util.spec_from_file_location("authors_weights", _path)
authors_weights = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(authors_weights)

SIGN = {"name": "real", "activation_name": "sign"}
NETWORKS = {
    "recu_cifar_resnet18_1w1a": (zoo.CifarResNet18, {"method": "recu"}),
    "recu_cifar_resnet18A_1w1a": (zoo.CifarResNet18A, {"method": "recu"}),
    "recu_cifar_resnet18B_1w1a": (zoo.CifarResNet18B, {"method": "recu"}),
    "recu_cifar_resnet18C_1w1a": (zoo.CifarResNet18C, {"method": "recu"}),
    "recu_cifar_resnet20_1w1a": (zoo.CifarResNet20, {"method": "recu"}),
    "recu_cifar_vgg_small_1w1a": (zoo.VGGSmall, {"method": "recu"}),
    "recu_imagenet_resnet18_1w1a": (zoo.ResNet18, {"method": "recu"}),
    "recu_imagenet_resnet34_1w1a": (zoo.ResNet34, {"method": "recu"}),
    "recu_twostage_resnet18_1w1a": (zoo.ReActResNet18, {"method": "recu"}),
    "recu_twostage_resnet34_1w1a": (zoo.ReActResNet34, {"method": "recu"}),
    "ovsw_ResNet18_1w1a": (zoo.ResNet18, {"method": "ovsw"}),
    "ovsw_ResNet34_1w1a": (zoo.ResNet34, {"method": "ovsw"}),
    "ovsw_VGGSmall_1w1a": (zoo.VGGSmall, {"method": "ovsw", "last_activation": "prelu"}),
    "ovsw_cResNet18_1w1a": (zoo.CifarResNet18, {"method": "ovsw", "shortcut": "conv"}),
    "ovsw_cResNet20_1w1a": (zoo.CifarResNet20, {"method": "ovsw"}),
    "bireal_birealnet18": (zoo.BiRealNet18, {"method": "bireal"}),
    "bireal_birealnet34": (zoo.BiRealNet34, {"method": "bireal"}),
    "bireal_birealnet50": (zoo.BiRealNet50, {"method": "bireal"}),
    "snn_step1_birealnet18": (zoo.ReActResNet18, {"method": SIGN}),
    "snn_step2_birealnet18_bit5": (zoo.ReActResNet18, {"method": "subbit"}),
}


# Building takes seconds; these repeat the blocks of another network at another depth, width or method.
DEEPER = {
    "recu_cifar_resnet18B_1w1a", "recu_cifar_resnet18C_1w1a", "recu_imagenet_resnet34_1w1a",
    "recu_twostage_resnet18_1w1a", "recu_twostage_resnet34_1w1a", "ovsw_ResNet34_1w1a", "bireal_birealnet34",
}  # fmt: skip


def _binary_kernels(model):
    return [v for v in model.trainable_weights if getattr(v, "precision", None) == 1]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in DEEPER else n for n in NETWORKS]
)
def test_parameter_counts(name, golden_networks):
    expected = golden_networks[name]
    build, options = NETWORKS[name]
    model = build(**options)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
    unused = sum(expected["params_never_used_in_forward"].values())
    assert count == expected["total_trainable_params"] - unused
    kernels = _binary_kernels(model)
    assert len(kernels) == expected["num_binary_convs"]
    assert sum(int(np.prod(v.shape)) for v in kernels) == expected["binary_conv_params"]


def _small(builder, stages, method):
    return builder(stages=stages, method=method, input_shape=(64, 64, 3), num_classes=20)


FORWARD = {
    "recu_cifar_resnet20": (lambda: zoo.CifarResNet20(method="recu"), "short", "stage{}_block3b_clip"),
    "recu_cifar_resnet18A": (lambda: zoo.CifarResNet18A(method="recu"), "inside", "stage{}_block2_clip"),
    "ovsw_cResNet20": (lambda: zoo.CifarResNet20(method="ovsw"), "short", "stage{}_block3b_clip"),
    "recu_imagenet_resnet18": (
        lambda: _small(zoo.ResNet18, (2, 2, 2, 2), "recu"),
        "two",
        "stage{}_block2_clip",
    ),
    "bireal_birealnet18": (
        lambda: _small(zoo.BiRealNet18, (1, 1, 1, 1), "bireal"),
        "one",
        "stage{}_block1_add",
    ),
    "snn_step2_birealnet18_bit5": (
        lambda: _small(zoo.ReActResNet18, (1, 1, 1, 1), methods.SubBit(bits=5)),
        "one",
        "stage{}_block1_bias_after",
    ),
}


@pytest.mark.parametrize("name", FORWARD)
def test_logits(name, golden):
    arrays = golden(f"forward_{name}")
    build, convs_per_block, tap = FORWARD[name]
    model = build()
    authors_weights.assign(model, arrays, convs_per_block)
    import tensorflow as tf

    stages = [key for key in arrays.files if key.startswith("tap_layer")]
    taps = [model.get_layer(tap.format(key[-1])).output for key in stages]
    *values, logits = tf.keras.Model(model.input, [*taps, model.output])(arrays["input"], training=False)
    for key, value in zip(stages, values, strict=True):
        np.testing.assert_allclose(value, arrays[key], rtol=1e-4, atol=1e-4, err_msg=key)
    np.testing.assert_allclose(logits, arrays["logits"], rtol=1e-4, atol=1e-4)
