"""What is slow: each rule fires, and stays silent on the form that is recommended."""

import collections

import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import fold
from bnn_tf.deploy.graph import read_frozen
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.layers import HardTanh

layers = tf.keras.layers


def norm(x, name=None):
    return layers.BatchNormalization(name=name)(x)


def lint_codes(model, severity="warnings"):
    return [(finding.code, finding.layer) for finding in getattr(bnn_tf.lint(model), severity)]


def count(model):
    graph = read_frozen(model)
    fold.fold_graph(graph)
    return collections.Counter(operator.name for operator in LceFile(to_flatbuffer(graph.build())).operators)


@pytest.fixture
def pooled(conv):
    """A clean network around `trunk(x)`: nothing to find but what the trunk adds."""

    def build(trunk, channels=128):
        x = image = tf.keras.Input((8, 8, 3))
        x = trunk(norm(layers.Conv2D(channels, 3, padding="same", name="stem")(x)))
        x = layers.Flatten()(layers.AveragePooling2D(tuple(x.shape[1:3]))(x))
        return tf.keras.Model(image, layers.Dense(10, name="logits")(x))

    return build


def test_a_clean_network(pooled, conv):
    report = bnn_tf.lint(pooled(lambda x: norm(conv("good", 128)(x))))
    assert report.findings == ()


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"pad_values": 0.0}, "zero-padding"),
        ({"pad_values": -1.0}, None),
        ({"pad_values": 0.0, "kernel_size": 1}, None),
        ({"pad_values": 0.0, "padding": "valid"}, None),
        ({"kernel_quantizer": None}, "half-quantized"),
        ({"input_quantizer": None}, "half-quantized"),
        ({"input_quantizer": None, "kernel_quantizer": None}, None),
        ({"input_quantizer": lq.quantizers.NoOp(32), "kernel_quantizer": lq.quantizers.NoOp(32)}, None),
    ],
)
def test_settings(pooled, conv, settings, code):
    model = pooled(lambda x: norm(conv("layer", 128, **settings)(x)))
    assert lint_codes(model) == ([(code, "layer")] if code else [])
    assert not bnn_tf.lint(model).errors


@pytest.mark.parametrize(
    ("inputs", "outputs", "codes"),
    [
        (128, 20, ["output-channels"]),
        (24, 16, ["input-channels"]),
        (96, 8, []),
        (16, 4, ["input-", "output-"]),
    ],
)
def test_channels(pooled, conv, inputs, outputs, codes):
    model = pooled(lambda x: norm(conv("layer", outputs)(x)), channels=inputs)
    assert [code.replace("channels", "") for code, _ in lint_codes(model)] == [
        code.replace("channels", "") for code in codes
    ]


@pytest.mark.parametrize(("channels", "noted"), [(128, False), (64, False), (32, True)])
def test_kernel_volume(pooled, conv, channels, noted):
    model = pooled(lambda x: norm(conv("layer", 32)(x)), channels=channels)
    assert lint_codes(model, "infos") == ([("kernel-volume", "layer")] if noted else [])


@pytest.mark.parametrize(("axes", "warned"), [([1, 2], False), (None, True), ([1], True)])
def test_prelu_axes(pooled, conv, axes, warned):
    model = pooled(lambda x: layers.PReLU(shared_axes=axes, name="prelu")(norm(conv("layer", 128)(x))))
    assert lint_codes(model) == ([("prelu-axes", "prelu")] if warned else [])


def prelu(x):
    return layers.PReLU(shared_axes=[1, 2], name="act")(x)


def tanh(x):
    """Keeps what stands before it from being folded into the classifier."""
    return layers.Activation("tanh")(x)


ORDERS = {
    "conv, norm, relu": (lambda conv, x: layers.ReLU(name="act")(norm(conv(x))), True, "RELU"),
    "conv, relu, norm": (lambda conv, x: norm(layers.ReLU(name="act")(conv(x))), False, "RELU"),
    "conv, prelu, norm": (lambda conv, x: tanh(norm(prelu(conv(x)))), True, "MUL"),
    "conv, norm, prelu": (lambda conv, x: tanh(prelu(norm(conv(x)))), False, "MUL"),
    "scaled conv, clip, norm": (lambda conv, x: norm(HardTanh(name="act")(conv(x))), True, "RELU_N1_TO_1"),
}  # fmt: skip


@pytest.mark.parametrize(("trunk", "warned", "operator"), ORDERS.values(), ids=ORDERS)
def test_activation_order(network, conv, trunk, warned, operator):
    """The operator that the order costs stands in the file exactly where lint warns."""
    model = network(lambda x: trunk(conv("layer"), x))
    assert (("activation-order", "act") in lint_codes(model)) == warned
    assert (operator in count(model)) == warned


def test_clips_before_signs_are_folded_away(pooled, conv):
    def trunk(x):
        x = HardTanh(name="clip")(norm(conv("first", 128)(x)))
        return norm(conv("second", 128)(x))

    assert lint_codes(pooled(trunk)) == []
    assert ("clip-before-sign", "clip") in lint_codes(pooled(trunk), "infos")


def test_clips_that_others_read_are_not_reported(pooled, conv):
    def trunk(x):
        x = HardTanh(name="clip")(x)
        return layers.add([x, norm(conv("first", 128)(x))])

    assert ("clip-before-sign", "clip") not in lint_codes(pooled(trunk), "infos")


POOLS = (
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    lambda: layers.GlobalAveragePooling2D(keepdims=True),
    lambda: lambda x: tf.reduce_mean(x, [1, 2]),
)


@pytest.mark.parametrize("make", POOLS)
def test_global_pooling(network, make):
    """Reported as a warning unless folding makes a pool of it."""

    def build():
        image = tf.keras.Input((8, 8, 3))
        return tf.keras.Model(image, layers.Dense(3)(layers.Flatten()(make()(image))))

    report = bnn_tf.lint(build())
    (finding,) = report.findings
    assert finding.code == "global-pooling"
    reduced = any(name in count(build()) for name in ("MEAN", "REDUCE_MAX"))
    assert (finding in report.warnings) == reduced


def test_padding_before_a_pool(network):
    model = network(lambda x: layers.MaxPool2D(3, 2)(layers.ZeroPadding2D(1, name="pad")(x)))
    assert ("explicit-padding", "pad") in lint_codes(model, "infos")
    assert "PAD" in count(model)
