"""Every error is shown to be one: the offending network is converted, and does what the finding says."""

import collections

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import Interpreter, fold, proof
from bnn_tf.deploy.graph import read_frozen
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.errors import UserError

layers = tf.keras.layers


class Own(lq.quantizers.Quantizer):
    """A quantizer that claims one bit."""

    precision = 1

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def get_config(self):
        return {"function": self.function}


def normalized(convolution):
    return lambda x: layers.BatchNormalization(name="bn")(convolution(x))


def per_input_channel(kernel):
    return lq.math.sign(kernel) * tf.reduce_mean(tf.abs(kernel), [0, 1, 3], keepdims=True)


def uneven(kernel):
    return lq.math.sign(kernel) * tf.random.stateless_uniform(kernel.shape, (1, 2), 0.5, 1.0)


def codes(findings):
    return [(finding.code, finding.layer) for finding in findings]


def deployed(model):
    """The content of the file that `convert` would make, unchecked."""
    graph = read_frozen(model)
    fold.fold_graph(graph)
    return to_flatbuffer(graph.build())


def count(content):
    return collections.Counter(operator.name for operator in LceFile(content).operators)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (tf.math.erf, "Erf"),
        (lambda x: tf.image.resize(x, (4, 4), "bicubic"), "ResizeBicubic"),
        (lambda x: tf.math.cumprod(x, 1), "Cumprod"),
        (lambda x: layers.Activation("softsign")(x), "Softsign"),
        (lambda x: layers.Conv2D(8, 1, activation="softsign")(x), "Softsign"),
        (lambda x: layers.UpSampling2D(interpolation="bicubic")(x), "ResizeBicubic"),
        (lambda x: layers.Lambda(tf.math.erf)(x), "Erf"),
    ],
)
def test_operators_that_lce_lacks(network, function, operator):
    pytest.importorskip("larq_compute_engine", reason="its interpreter says what it lacks")
    model = network(function)
    (finding,) = bnn_tf.lint(model).errors
    assert finding.code == "unknown-operator"
    assert finding.reason.endswith(f"it does not know {operator}")
    with pytest.raises(UserError, match=operator):
        Interpreter(deployed(model), trusted=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.image.resize(x, (4, 4)),
        lambda x: tf.where(x >= 0, x, 0.5 * x),
        lambda x: tf.reshape(x, (tf.shape(x)[0], 4, 16, 32)),
        lambda x: layers.Activation("gelu")(x),
    ],
)
def test_operators_that_lce_has(network, function):
    assert not bnn_tf.lint(network(function)).errors


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("code", "settings"),
    [
        ("zero-one-activations", {"input_quantizer": "ste_heaviside"}),
        ("activations-not-signs", {"input_quantizer": Own(lambda x: 0.5 * lq.math.sign(x))}),
        ("activations-not-signs", {"input_quantizer": lq.quantizers.DoReFa(k_bit=2)}),
        ("ternary-weights", {"kernel_quantizer": "ste_tern"}),
        ("per-input-channel-scale", {"kernel_quantizer": Own(per_input_channel)}),
        ("uneven-weights", {"kernel_quantizer": Own(uneven)}),
        ("unrecognized-sign", {"input_quantizer": Own(tf.sign)}),
        (
            "unrecognized-sign",
            {"input_quantizer": Own(lambda x: 2 * tf.cast(x >= 0, tf.float32) - 1)},
        ),
        ("grouped-convolution", {"groups": 2}),
    ],
)
def test_what_stays_float(network, conv, code, settings):
    model = network(normalized(conv("bad", **settings)))
    assert codes(bnn_tf.lint(model).errors) == [(code, "bad")]
    counts = count(deployed(model))
    assert counts["LceBconv2d"] == 0
    assert counts["CONV_2D"] == 2


def test_channels_first(conv):
    image = tf.keras.Input((32, 8, 8))
    model = tf.keras.Model(image, conv("bad", data_format="channels_first")(image))
    assert ("channels-first", "bad") in codes(bnn_tf.lint(model).errors)
    assert count(deployed(model))["LceBconv2d"] == 0


@pytest.mark.parametrize(
    "layer",
    [
        lq.layers.QuantDepthwiseConv2D(
            3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", name="bad"
        ),
        lq.layers.QuantSeparableConv2D(
            32, 3, input_quantizer="ste_sign", depthwise_quantizer="ste_sign", pointwise_quantizer="ste_sign",
            name="bad",
        ),
        lq.layers.QuantConv2DTranspose(
            32, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign", name="bad"
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_without_a_binary_operator(network, layer):
    layer = type(layer).from_config(layer.get_config())  # its weights belong to one network
    model = network(layer)
    (finding,) = bnn_tf.lint(model).errors
    assert (finding.code, finding.layer) == ("unsupported-layer", "bad")
    assert type(layer).__name__ in finding.reason
    assert count(deployed(model))["LceBconv2d"] == 0


def test_groups_of_whole_words_do_not_run(network, conv):
    model = network(normalized(conv("bad", filters=64, groups=2)), channels=64)
    (finding,) = bnn_tf.lint(model).errors
    assert (finding.code, finding.layer) == ("grouped-convolution", "bad")
    assert "cannot run" in finding.reason
    content = deployed(model)
    assert count(content)["LceBconv2d"] == 1
    with pytest.raises(UserError, match="does not run on LCE's interpreter"):
        Interpreter(content)


@pytest.mark.parametrize(
    "sign",
    [
        tf.sign,
        layers.Activation(tf.sign),
        lambda x: tf.reverse(lq.quantizers.ApproxSign()(x), [1]),
    ],
)
def test_signs_outside_of_the_layer_that_are_not_recognized(network, conv, sign):
    model = network(lambda x: normalized(conv("bad", input_quantizer=None))(sign(x)))
    assert codes(bnn_tf.lint(model).errors) == [("unrecognized-sign", "bad")]
    assert count(deployed(model))["LceBconv2d"] == 0


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "sign",
    [
        layers.Activation(lq.quantizers.SteSign()),
        lambda x: tf.where(x >= 0, 1.0, -1.0),
        lambda x: lq.quantizers.ApproxSign()(layers.MaxPool2D(2)(x)),
        lambda x: layers.MaxPool2D(2)(lq.quantizers.ApproxSign()(x)),
        lambda x: layers.UpSampling2D()(layers.Activation(lq.quantizers.SteSign())(x)),
        lambda x: layers.Cropping2D(1)(lq.quantizers.SteSign()(x)),
    ],
)
def test_signs_outside_of_the_layer_that_are(network, conv, sign):
    model = network(lambda x: normalized(conv("good", input_quantizer=None))(sign(x)))
    assert not bnn_tf.lint(model).errors
    assert not [finding for finding in bnn_tf.lint(model).findings if finding.code == "half-quantized"]
    assert count(deployed(model))["LceBconv2d"] == 1


@pytest.mark.parametrize(
    "quantizer", [Own(lambda x: tf.where(x > 0, 1.0, -1.0)), lambda x: lq.math.sign(x - 0.5)]
)
def test_own_signs_that_are_recognized(network, conv, quantizer):
    model = network(normalized(conv("good", input_quantizer=quantizer)))
    assert not bnn_tf.lint(model).errors
    assert count(deployed(model))["LceBconv2d"] == 1


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_padding_between_sign_and_convolution(network, conv, value):
    def trunk(x):
        x = tf.pad(lq.quantizers.ApproxSign()(x), [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=value)
        return normalized(conv("bad", input_quantizer=None, padding="valid", pad_values=0.0))(x)

    model = network(trunk)
    assert codes(bnn_tf.lint(model).errors) == [("padded-signs", "bad")]
    assert count(deployed(model))["LceBconv2d"] == 0


def test_int8_output_of_a_zero_padded_convolution(network, conv):
    def trunk(pad_values):
        def build(x):
            x = normalized(conv("bad", pad_values=pad_values))(x)
            return tf.quantization.fake_quant_with_min_max_args(x, -6, 6)

        return build

    broken, fine = network(trunk(0.0)), network(trunk(1.0))
    assert codes(bnn_tf.lint(broken).errors) == [("int8-zero-padding", "bad")]
    with pytest.raises(UserError, match="does not run on LCE's interpreter"):
        Interpreter(deployed(broken))
    assert not bnn_tf.lint(fine).errors
    Interpreter(deployed(fine))


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("size", "settings"), [(2, {}), (2, {"strides": 2}), (4, {"kernel_size": 5}), (4, {"dilation_rate": 2})]
)
def test_maps_smaller_than_the_kernel(rng, conv, size, settings):
    def differs(size, **settings):
        image = tf.keras.Input((size, size, 32))
        model = tf.keras.Model(image, conv("bad", **settings)(image))
        images = rng.standard_normal((4, size, size, 32), np.float32)
        difference = np.asarray(model(images, training=False)) - Interpreter(deployed(model)).predict(images)
        return np.abs(difference).max() > 0.1, codes(bnn_tf.lint(model).errors)

    assert differs(size, pad_values=0.0, **settings) == (True, [("small-map", "bad")])
    assert differs(size + 1, pad_values=0.0, **settings) == (False, [])
    assert differs(size, pad_values=1.0, **settings) == (False, [])


def test_dead_filters_are_folded_away(network, residual, images):
    model = network(residual)
    kernel = model.get_layer("conv1").kernel
    dead = np.ones(32, np.float32)
    dead[[3, 17]] = 0, 1e-9
    kernel.assign(kernel.latent_variable * dead)
    report = bnn_tf.lint(model)
    assert not report.errors
    assert ("tiny-filters", "conv1") in codes(report.infos)
    content = deployed(model)
    assert count(content)["LceBconv2d"] == 2
    logits = Interpreter(content).predict(images)
    assert proof.compare(np.asarray(model(images, training=False)), logits).agrees


def test_a_shared_layer_with_dead_filters_is_not_folded(network, conv):
    def trunk(x):
        shared = conv("shared")
        x = layers.BatchNormalization()(shared(x))
        return layers.BatchNormalization()(shared(x))

    model = network(trunk)
    kernel = model.get_layer("shared").kernel
    kernel.assign(kernel.latent_variable * np.eye(32)[0].astype(np.float32))
    assert codes(bnn_tf.lint(model).errors) == [("tiny-filters", "shared")]
    assert count(deployed(model))["LceBconv2d"] == 0
