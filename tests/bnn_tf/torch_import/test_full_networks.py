"""The authors' networks at their own depth and width; names as `golden/models.json` lists them."""

import functools

import numpy as np
import pytest

import zoo
from bnn_tf.torch_import import Checkpoint, Request, import_arrays
from bnn_tf.torch_import.names import our_key, unused
from bnn_tf.training import Run
from bnn_tf.training.start import variables

CIFAR = (64, 128, 256, 512)


def full(authors):
    """Forward pass, model and options of each network of the reference data."""
    two, four, many = (2, 2, 2, 2), (4, 4, 4, 4), (6, 8, 12, 6)
    wide = authors.WIDTHS
    two_stage = {"react": True, "conv_name": "conv", "bn": "bn", "act": "nonlinear", "stem": ("conv", "bn")}
    sign = {"method": "real", "settings": (("method.activation_name", "sign"),)}
    react = functools.partial(authors.single, four, wide, react=True)
    return {
        "recu_cifar_resnet18_1w1a": (authors.cifar18(CIFAR, authors.recu_conv), "cifar_resnet18", {}),
        "recu_cifar_resnet18A_1w1a": (
            authors.cifar18((32, 32, 64, 128), authors.recu_conv),
            "cifar_resnet18a",
            {},
        ),
        "recu_cifar_resnet18B_1w1a": (
            authors.cifar18((32, 64, 128, 256), authors.recu_conv),
            "cifar_resnet18b",
            {},
        ),
        "recu_cifar_resnet18C_1w1a": (
            authors.cifar18((64, 64, 128, 256), authors.recu_conv),
            "cifar_resnet18c",
            {},
        ),
        "recu_cifar_resnet20_1w1a": (authors.cifar20(authors.recu_conv), "cifar_resnet20", {}),
        "recu_cifar_vgg_small_1w1a": (authors.vgg(authors.recu_conv), "vgg_small", {}),
        "recu_imagenet_resnet18_1w1a": (authors.pairs(two, wide, authors.recu_conv), "resnet18", {}),
        "recu_imagenet_resnet34_1w1a": (authors.pairs((3, 4, 6, 3), wide, authors.recu_conv), "resnet34", {}),
        "recu_twostage_resnet18_1w1a": (
            authors.single(four, wide, authors.recu_conv, **two_stage),
            "react_resnet18",
            {},
        ),
        "recu_twostage_resnet34_1w1a": (
            authors.single(many, wide, authors.recu_conv, **two_stage),
            "react_resnet34",
            {},
        ),
        "ovsw_ResNet18_1w1a": (authors.pairs(two, wide, authors.ovsw_conv), "resnet18", {}),
        "ovsw_ResNet34_1w1a": (authors.pairs((3, 4, 6, 3), wide, authors.ovsw_conv), "resnet34", {}),
        "ovsw_VGGSmall_1w1a": (authors.vgg(authors.ovsw_conv, prelu=True), "vgg_small", {}),
        "ovsw_cResNet18_1w1a": (
            authors.cifar18(CIFAR, authors.ovsw_conv, True, True),
            "cifar_resnet18",
            {},
        ),
        "ovsw_cResNet20_1w1a": (authors.cifar20(authors.ovsw_conv), "cifar_resnet20", {}),
        "bireal_birealnet18": (authors.single(four, wide, authors.bireal_conv), "bireal_net18", {}),
        "bireal_birealnet34": (authors.single(many, wide, authors.bireal_conv), "bireal_net34", {}),
        "bireal_birealnet50": (authors.bireal50, "bireal_net50", {}),
        "snn_step1_birealnet18": (react(binary=authors.real_conv), "react_resnet18", sign),
        "snn_step2_birealnet18_bit5": (react(binary=authors.snn_conv(5)), "react_resnet18", {}),
        "reactnet_resnet_step2_birealnet18": (
            react(binary=functools.partial(authors.bireal_conv, flat=False)),
            "react_resnet18",
            {"method": "bireal"},
        ),
    }


NAMES = [
    "recu_cifar_resnet18_1w1a", "recu_cifar_resnet18A_1w1a", "recu_cifar_resnet18B_1w1a",
    "recu_cifar_resnet18C_1w1a", "recu_cifar_resnet20_1w1a", "recu_cifar_vgg_small_1w1a",
    "recu_imagenet_resnet18_1w1a", "recu_imagenet_resnet34_1w1a", "recu_twostage_resnet18_1w1a",
    "recu_twostage_resnet34_1w1a", "ovsw_ResNet18_1w1a", "ovsw_ResNet34_1w1a", "ovsw_VGGSmall_1w1a",
    "ovsw_cResNet18_1w1a", "ovsw_cResNet20_1w1a", "bireal_birealnet18", "bireal_birealnet34",
    "bireal_birealnet50", "snn_step1_birealnet18", "snn_step2_birealnet18_bit5",
    "reactnet_resnet_step2_birealnet18",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits(name, authors, tmp_path):
    forward, model, options = full(authors)[name]
    state, images, logits = authors.example(forward, 32, 10, images=1, candidates=4)
    settings = (("image_size", (32, 32)), *options.get("settings", ()))
    request = Request(tmp_path / "net.pth", tmp_path / "run", model, **{**options, "settings": settings})
    result = import_arrays(request, Checkpoint(state))
    network = Run.open(result.run.path).load_network()
    np.testing.assert_allclose(network(images), logits, rtol=0, atol=1e-4)


def listed(network):
    """The names of the state dict whose layers `golden/models.json` lists, and the kernels' shapes."""
    for layer in [*network["conv_layers"], *network["linear_layers"]]:
        size = (layer["k"], layer["k"]) if layer["k"] else ()
        field = "weights" if layer["cls"] == "HardBinaryConv" else "weight"
        yield f"{layer['name']}.{field}", (*size, layer["in"], layer["out"])
    for leaf in network["leaf_sequence"]:
        name, kind = leaf.split(":")
        if kind.startswith("BatchNorm"):
            for field in ("weight", "bias", "running_mean", "running_var"):
                yield f"{name}.{field}", None
        elif kind == "LearnableBias":
            yield f"{name}.bias", None
        elif kind == "PReLU":
            yield f"{name}.weight", None


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_authors_networks(name, golden_networks, authors):
    """All that the authors' networks are known to hold has its place, and nothing of ours is left."""
    network = golden_networks[name]
    _, model, options = full(authors)[name]
    method = options.get("method", "subbit" if "step2" in name else name.split("_")[0])
    build_options = {"shortcut": "conv"} if name == "ovsw_cResNet18_1w1a" else {}
    if name == "ovsw_VGGSmall_1w1a":
        build_options = {"last_activation": "prelu"}
    build_network = zoo.get_model(model)
    expected = variables(
        build_network(
            method=method, input_shape=(32, 32, 3), num_classes=network["num_classes"], **build_options
        )
    )
    placed = {}
    for torch_name, shape in listed(network):
        key = our_key(model, torch_name)
        assert key in expected, torch_name
        if shape is not None and len(expected[key].shape) == len(shape):
            assert tuple(expected[key].shape) == shape
        placed[key] = torch_name
    assert unused(next(iter(network["params_never_used_in_forward"]), "num_batches_tracked"))
    left = {key for key in expected if key not in placed and key != ("logits", "bias")}
    assert {variable for _, variable in left} <= {"tau", "scale", "codebook", "memory", "step"}
