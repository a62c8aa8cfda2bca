"""Symmetric padding before a stride: what lint says of it, and what LCE makes of it."""

import itertools

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Interpreter, graph, proof
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.lce_file import to_flatbuffer

layers = tf.keras.layers


def padded(kernel=3, padding=1, strides=2, between=lambda x: x):
    def trunk(x):
        x = between(layers.ZeroPadding2D(padding)(x))
        return layers.Conv2D(32, kernel, strides=strides, name="strided")(x)

    return trunk


def one_padded_signs(strides):
    pads = [[0, 0], [1, 1], [1, 1], [0, 0]]

    def trunk(x):
        x = tf.pad(lq.quantizers.ApproxSign()(x), pads, constant_values=1.0)
        x = lq.layers.QuantConv2D(32, 3, strides=strides, kernel_quantizer="ste_sign", name="strided")(x)
        return layers.BatchNormalization()(x)

    return trunk


WRONG = {
    "3x3": padded(),
    "7x7": padded(7, 3),
    "stride 3": padded(3, 1, 3),
    "dropout between": padded(between=layers.Dropout(0.5)),
    "depthwise": lambda x: layers.DepthwiseConv2D(3, 2, name="strided")(layers.ZeroPadding2D(1)(x)),
    "separable": lambda x: layers.SeparableConv2D(8, 3, 2, name="strided")(layers.ZeroPadding2D(1)(x)),
    "tf.pad": lambda x: layers.Conv2D(8, 3, 2, name="strided")(
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    ),
    "binary": one_padded_signs(2),
}  # fmt: skip
RIGHT = {
    "stride 1": padded(strides=1),
    "as same pads": padded(padding=((0, 1), (0, 1))),
    "at the start": padded(padding=((1, 0), (1, 0))),
    "even kernel": padded(4),
    "another size": padded(2, 1),
    "relu between": padded(between=layers.ReLU()),
    "reflected": lambda x: layers.Conv2D(8, 3, 2)(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
    "ones": lambda x: layers.Conv2D(8, 3, 2)(
        tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)
    ),
    "max pool": lambda x: layers.MaxPool2D(3, 2)(layers.ZeroPadding2D(1)(x)),
    "average pool": lambda x: layers.AveragePooling2D(3, 2)(layers.ZeroPadding2D(1)(x)),
    "transposed": lambda x: layers.Conv2DTranspose(8, 3, 2)(layers.ZeroPadding2D(1)(x)),
    "same": lambda x: layers.Conv2D(8, 3, 2, padding="same")(x),
    "signs at stride 1": one_padded_signs(1),
}  # fmt: skip


def computes_right(model, images):
    content = to_flatbuffer(graph.freeze(model))
    logits = Interpreter(content).predict(images)
    return proof.compare(np.asarray(model(images, training=False)), logits).moved_share == 0


@pytest.mark.sample(3)
@pytest.mark.parametrize("trunk", WRONG.values(), ids=WRONG)
def test_what_lce_miscomputes_is_an_error(network, images, trunk):
    model = network(trunk)
    (finding,) = bnn_tf.lint(model).errors
    assert (finding.code, finding.layer) == ("strided-padding", "strided")
    assert "padding='same'" in finding.remedy
    assert not computes_right(model, images)


@pytest.mark.sample(5)
@pytest.mark.parametrize("trunk", RIGHT.values(), ids=RIGHT)
def test_what_lce_computes_right_is_none(network, images, trunk):
    model = network(trunk)
    assert not bnn_tf.lint(model).errors
    assert computes_right(model, images)


def test_several_readers_keep_the_padding(network, images):
    def trunk(x):
        x = layers.ZeroPadding2D(1)(x)
        return layers.add([layers.Conv2D(8, 3, 2)(x), layers.Conv2D(8, 3, 2)(x)])

    model = network(trunk)
    assert not bnn_tf.lint(model).errors
    assert computes_right(model, images)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("kernel", "strides"), [(3, 2), (3, 3), (5, 2)])
def test_the_size_decides(network, rng, kernel, strides):
    """On some sizes `same` happens to pad both sides alike."""
    verdicts = {}
    for size in (8, 9):
        model = network(padded(kernel, kernel // 2, strides), size=size)
        images = rng.standard_normal((4, size, size, 3), "float32")
        verdicts[size] = not bnn_tf.lint(model).errors
        assert verdicts[size] == computes_right(model, images)
    assert verdicts == ({8: False, 9: True} if strides == 2 else {8: False, 9: False})


@pytest.mark.parametrize(("height", "width"), itertools.product((8, 9), repeat=2))
def test_one_wrong_axis_is_enough(height, width):
    image = tf.keras.Input((height, width, 3))
    model = tf.keras.Model(image, padded()(image))
    assert bool(bnn_tf.lint(model).errors) == (height == 8 or width == 8)


def test_unknown_sizes_are_taken_for_wrong():
    image = tf.keras.Input((None, None, 3))
    model = tf.keras.Model(image, padded()(image))
    assert [finding.code for finding in bnn_tf.lint(model).errors] == ["unknown-size", "strided-padding"]


def test_a_broken_model_is_refused(network, conv, images, tmp_path):
    def trunk(x):
        x = layers.BatchNormalization()(padded()(x))
        return layers.BatchNormalization()(conv("next")(x))

    with pytest.raises(ConversionError, match=r"'strided' \(strided-padding\)"):
        convert(network(trunk), tmp_path / "model.tflite", images=images)
    assert not list(tmp_path.iterdir())
