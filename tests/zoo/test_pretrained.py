"""Weights that come with the package."""

import json

import numpy as np
import pytest

import zoo
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import RunConfig
from bnn_tf.training.start import load_source
from zoo import pretrained, recipes

NAME = "cifar_resnet20-recu"


@pytest.fixture(scope="module")
def network():
    """A network with random weights."""
    return zoo.CifarResNet20(method="recu")


@pytest.fixture
def shipped(network, tmp_path, monkeypatch):
    """The network whose weights are the only ones in the package."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    recipe = recipes.find("recu", "cifar_resnet20", "cifar10")
    config = RunConfig(recipe, class_names=tuple("0123456789"))
    checksum = pretrained.save(network, tmp_path / f"{NAME}.npz")
    note = {"config": config.to_dict(), "checksum": checksum}
    (tmp_path / f"{NAME}.json").write_text(json.dumps(note))
    return network


def test_every_name_is_loaded(shipped):
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    loaded = load_source(f"zoo:{NAME}")
    assert loaded.name == "cifar_resnet20"
    for value, expected in zip(loaded.get_weights(), shipped.get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)
    by_option = zoo.CifarResNet20(method="recu", weights="cifar10")
    np.testing.assert_array_equal(by_option(images), loaded(images))


def test_without_the_classifier_the_features_are_the_trained_ones(shipped):
    trunk = zoo.CifarResNet20(
        method="recu", weights="cifar10", include_top=False, num_classes=5, input_shape=(48, 48, 3)
    )
    assert trunk.output_shape == (None, 12, 12, 64)
    assert not {"head_bn", "logits"} & {layer.name for layer in trunk.layers}
    for layer in trunk.layers:
        for value, expected in zip(
            layer.get_weights(), shipped.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("method", "center", "spread"), [("bireal", 0, 1e-8), ("subbit", 1, 1e-4)])
def test_signs_are_kept_exactly(method, center, spread, tmp_path, monkeypatch):
    """Latent kernels next to where their signs turn, as oscillating training leaves them."""
    name = f"cifar_resnet20-{method}"
    network = zoo.CifarResNet20(method=method)
    kernels = [layer for layer in network.layers if getattr(layer, "kernel_quantizer", None)]
    rng = np.random.default_rng(0)
    for layer in kernels:
        near = center + rng.uniform(-spread, spread, layer.kernel.shape)
        layer.kernel.assign(rng.choice([-1, 1], layer.kernel.shape) * near)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    recipe = recipes.find(method, "cifar_resnet20", "cifar10")
    config = RunConfig(recipe, class_names=tuple("0123456789"))
    checksum = pretrained.save(network, tmp_path / f"{name}.npz")
    (tmp_path / f"{name}.json").write_text(json.dumps({"config": config.to_dict(), "checksum": checksum}))
    loaded = zoo.CifarResNet20(method=method, weights="cifar10")
    moved = 0
    for layer in kernels:
        copy, latent = loaded.get_layer(layer.name), layer.get_weights()[0]
        signs = np.sign(layer.kernel_quantizer(latent))
        np.testing.assert_array_equal(np.sign(copy.kernel_quantizer(copy.get_weights()[0])), signs)
        moved += (np.sign(layer.kernel_quantizer(np.float32(np.float16(latent)))) != signs).sum()
    assert moved > 0  # all of it as float16 would have turned signs


def test_a_network_without_weights():
    ours = "weights come with: cifar_resnet20-ovsw, cifar_resnet20-recu, cifar_resnet20-subbit$"
    with pytest.raises(UsageError, match=f"^vgg_small has no trained weights for recu on cifar10; {ours}"):
        zoo.VGGSmall(method="recu", weights="cifar10")
    with pytest.raises(UsageError, match=f"^cifar_resnet20 has no trained weights for bireal on .*; {ours}"):
        zoo.CifarResNet20(method="bireal", weights="cifar10")


@pytest.mark.slow
def test_other_networks_are_refused(shipped):
    with pytest.raises(UserError, match="are for 10 classes and not for 7: with include_top=False"):
        zoo.CifarResNet20(method="recu", weights="cifar10", num_classes=7)
    with pytest.raises(UserError, match=r"stem_conv/kernel is \(3, 3, 1, 16\) in it and \(3, 3, 3, 16\) in"):
        zoo.CifarResNet20(method="recu", weights="cifar10", input_shape=(32, 32, 1))
    with pytest.raises(UserError, match="no trained network in the zoo called 'cifar_resnet20-rec'"):
        load_source("zoo:cifar_resnet20-rec")


def test_a_damaged_file_is_refused(shipped, tmp_path):
    path = tmp_path / f"{NAME}.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        load_source(f"zoo:{NAME}")


@pytest.mark.parametrize("name", pretrained.names())
def test_what_ships_is_small_sound_and_documented(name):
    record = pretrained.record(name)
    path = pretrained.FOLDER / f"{name}.npz"
    assert path.stat().st_size < 1_000_000
    assert record["command"].startswith("bnn-tf train ")
    assert record["metrics"][-1]["epoch"] > 0
    assert abs(record["accuracy"]["keras"] - record["accuracy"]["lce"]) < 0.003
    assert load_source(f"zoo:{name}").count_params() > 0
