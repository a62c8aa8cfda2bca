"""The option `torch_padding`: behind a flip, strided layers see what PyTorch's see."""

import numpy as np
import pytest

import zoo
from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.layers import Flip
from bnn_tf.training.start import variables
from zoo import blocks


def windows(x, size, strides, padding, value=0.0):
    """All windows of a zero-padded NHWC map as PyTorch takes them: `(n, rows, columns, c, size, size)`."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=value)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::strides, ::strides]


def turned(x):
    return x[:, ::-1, ::-1]


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (17, 13)])
@pytest.mark.parametrize(("size", "padding"), [(7, 3), (3, 1), (1, 0)])
def test_strided_convolutions(shape, size, padding, rng):
    image = tf.keras.Input((*shape, 2))
    net = blocks.Builder(methods.Real(), torch_padding=True)
    x = Flip()(image)
    if size == 1:
        x = blocks.torch_phase(net, x, "crop")
    model = tf.keras.Model(image, net.conv(x, 3, size, "conv", strides=2))
    kernel = rng.normal(size=(size, size, 2, 3)).astype("f")
    model.set_weights([kernel[::-1, ::-1]])
    images = rng.normal(size=(2, *shape, 2)).astype("f")
    expected = np.einsum("nijcab,abco->nijo", windows(images, size, 2, padding), kernel)
    np.testing.assert_allclose(turned(model(images)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16)])
def test_max_pool_of_the_stem(shape, rng):
    pool = tf.keras.layers.MaxPool2D(3, strides=2, padding="same")
    images = rng.normal(size=(2, *shape, 2)).astype("f")
    expected = windows(images, 3, 2, 1, -np.inf).max(axis=(4, 5))
    np.testing.assert_array_equal(turned(pool(turned(images))), expected)


SMALL = {"stages": (1, 1, 1, 1), "num_classes": 3, "torch_padding": True, "method": "bireal"}


def resnet(size=(64, 64)):
    return zoo.ResNet18(**SMALL, input_shape=(*size, 3))


def cifar_resnet(shortcut, bottleneck):
    build = zoo.CifarResNet50 if bottleneck else zoo.CifarResNet18A
    return build(shortcut=shortcut, torch_padding=True)


NETWORKS = {
    "bireal": lambda: zoo.BiRealNet18(**SMALL, input_shape=(32, 32, 3)),
    "react": lambda: zoo.ReActResNet18(**SMALL, input_shape=(32, 32, 3)),
    "resnet": resnet,
    "cifar": lambda: cifar_resnet("pool", False),
    "vgg": lambda: zoo.VGGSmall(torch_padding=True),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_image_is_turned_before_the_first_convolution(name):
    model = NETWORKS[name]()
    assert [layer.name for layer in model.layers if isinstance(layer, Flip)] == ["flip"]
    assert model.get_layer("flip").input is model.input
    assert model.get_layer("stem_conv").input is model.get_layer("flip").output


@pytest.mark.slow
def test_the_option_changes_no_variable():
    plain, torch = zoo.CifarResNet20(), zoo.CifarResNet20(torch_padding=True)
    assert not any(isinstance(layer, Flip) for layer in plain.layers)
    shapes = [{key: v.shape for key, v in variables(model).items()} for model in (plain, torch)]
    assert shapes[0] == shapes[1]


def crops(model):
    return {
        layer.name: layer.cropping for layer in model.layers if isinstance(layer, tf.keras.layers.Cropping2D)
    }


@pytest.mark.slow
def test_only_strided_pointwise_convolutions_are_cropped():
    strided = [f"stage{stage}_block1_shortcut_crop" for stage in (2, 3, 4)]
    assert crops(resnet()) == dict.fromkeys(strided, ((1, 0), (1, 0)))
    assert crops(cifar_resnet("conv", False)) == dict.fromkeys(strided, ((1, 0), (1, 0)))
    # The first bottleneck's shortcut widens without a stride.
    assert crops(cifar_resnet("conv", True)) == dict.fromkeys(strided, ((1, 0), (1, 0)))
    assert crops(cifar_resnet("pool", False)) == {}


def test_odd_sizes_need_no_crop():
    assert crops(resnet((33, 64)))["stage2_block1_shortcut_crop"] == ((0, 0), (1, 0))


def test_sizes_that_cannot_be_exact_are_refused():
    with pytest.raises(ValueError, match="stage3_block1a_shortcut_pool, which halves 15×15 pixels"):
        zoo.CifarResNet20(input_shape=(30, 30, 3), torch_padding=True)
    with pytest.raises(ValueError, match="block4_pool, which halves 15×15"):
        zoo.VGGSmall(input_shape=(30, 30, 3), torch_padding=True)
    with pytest.raises(ValueError, match="torch_padding needs a known input size"):
        zoo.CifarResNet20(input_shape=(None, None, 3), torch_padding=True)
    with pytest.raises(ValueError, match="torch_padding needs a known input size"):
        resnet((None, None))
