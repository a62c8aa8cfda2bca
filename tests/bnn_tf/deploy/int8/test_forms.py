import collections
import dataclasses
import json

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Int8, Interpreter, int8, proof
from bnn_tf.deploy.fold import fold_graph
from bnn_tf.deploy.graph import outputs_of, read_frozen
from bnn_tf.deploy.graph import read as graph_of
from bnn_tf.deploy.int8 import FakeQuant, FakeQuantConv2D, FakeQuantDense
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.errors import UsageError
from bnn_tf.layers import HardTanh, LearnableBias
from zoo import blocks

layers = tf.keras.layers


def one_padded(conv):
    """Binary convolutions: with a shortcut, with a strided real one, and two of which one gives bits."""

    def trunk(x):
        y = layers.BatchNormalization()(conv("conv1")(x))
        x = layers.add([x, y])
        y = layers.BatchNormalization()(conv("conv2", strides=2)(x))
        shortcut = layers.Conv2D(32, 1, use_bias=False, name="shortcut")(layers.AveragePooling2D()(x))
        x = layers.add([y, layers.BatchNormalization()(shortcut)])
        x = layers.BatchNormalization()(conv("conv3")(x))
        return layers.BatchNormalization()(conv("conv4")(x))

    return trunk


def with_pooled_head(network, trunk):
    """The network with a whole-map average pool, as the zoo's have."""
    body = network(trunk)
    x = next(layer for layer in body.layers[::-1] if layer.output.shape.rank == 4).output
    x = layers.Flatten()(layers.AveragePooling2D(x.shape[1:3], name="pool")(x))
    model = tf.keras.Model(body.input, layers.Dense(10, name="logits")(x))
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(0, 0.2, model.layers[-1].kernel.shape))
    return model


def kinds(path):
    """Operators with the type of their output."""
    return collections.Counter(f"{op.name}:{op.outputs[0].type}" for op in LceFile(path).operators)


@pytest.fixture
def calibration(rng):
    return rng.standard_normal((32, 8, 8, 3), np.float32)


@pytest.fixture
def to_int8(images, calibration, tmp_path):
    """`to_int8(model, form)`: the report of a conversion."""

    def convert(model, form):
        path = tmp_path / "model.tflite"
        return bnn_tf.convert(model, path, images=images, int8=form, calibration=calibration)

    return convert


def quantized(model, calibration, form):
    graph = read_frozen(model)
    fold_graph(graph)
    names = int8.quantize_graph(graph, [calibration], Int8(form)).layers
    return graph, names


def test_mixed_leaves_the_trunk_alone(network, residual, to_int8):
    model = with_pooled_head(network, residual)  # conv2 pads with zeros
    report = to_int8(model, "mixed")
    assert report.int8.layers == ["stem", "logits"]
    names = [op.name for op in LceFile(report.path).operators]
    assert names[:2] == ["QUANTIZE", "CONV_2D"]
    assert names[-3:] == ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]
    trunk = LceFile(report.path).operators[3:-3]
    assert {op.name for op in trunk} == {"LceQuantize", "LceBconv2d", "ADD", "AVERAGE_POOL_2D", "MUL"}
    assert not any(tensor.type == "INT8" for op in trunk for tensor in op.outputs)
    assert report.actual_binary_convs == 2


@pytest.mark.slow
def test_full_leaves_no_float_tensor_inside(network, conv, to_int8):
    model = with_pooled_head(network, one_padded(conv))
    report = to_int8(model, "full")
    assert report.int8.layers == ["stem", "shortcut", "logits"]
    operators = kinds(report.path)
    assert operators["LceBconv2d:INT8"] == 3
    assert operators["LceBconv2d:INT32"] == 1  # only a sign reads conv3
    assert operators["ADD:INT8"] == 2
    assert operators["QUANTIZE:INT8"] == operators["DEQUANTIZE:FLOAT32"] == 1  # input and output
    assert not any(name.endswith("FLOAT32") for name in operators if not name.startswith("DEQUANTIZE"))


def test_full_averages_a_sum_for_the_classifier_in_float(network, conv, to_int8):
    """Between 8-bit levels lies what a folded normalization makes much of."""

    def trunk(x):
        return layers.add([x, layers.BatchNormalization()(conv("conv1")(x))])

    model = with_pooled_head(network, trunk)
    report = to_int8(model, "full")
    assert report.int8.layers == ["stem", "logits"]
    counts = kinds(report.path)
    assert counts["CONV_2D:INT8"] == counts["LceBconv2d:INT8"] == counts["FULLY_CONNECTED:INT8"] == 1
    assert counts["AVERAGE_POOL_2D:FLOAT32"] == 1
    assert not counts["ADD:INT8"]


def test_plus_leaves_sums_float(network, conv, to_int8):
    model = with_pooled_head(network, one_padded(conv))
    report = to_int8(model, "plus")
    assert report.int8.layers == ["stem", "shortcut", "logits"]
    operators = kinds(report.path)
    assert operators["CONV_2D:INT8"] == 2
    assert operators["ADD:FLOAT32"] == 3  # two sums, and what balances the classifier's inputs
    assert operators["FULLY_CONNECTED:INT8"] == 1
    assert report.actual_binary_convs == 4


def test_classifier_leaves_all_else_float(network, residual, to_int8):
    report = to_int8(with_pooled_head(network, residual), "classifier")
    assert report.int8.layers == ["logits"]
    operators = kinds(report.path)
    assert {name for name in operators if name.endswith("INT8")} == {"QUANTIZE:INT8", "FULLY_CONNECTED:INT8"}


def test_the_file_computes_what_the_fake_quantized_network_does(network, conv, images, calibration, to_int8):
    model = with_pooled_head(network, one_padded(conv))
    graph, _ = quantized(model, calibration, "full")
    settings = Int8("full", int8_input=True, int8_output=True)
    report = to_int8(model, settings)
    expected = np.asarray(graph.build()(images, training=False))
    logits = Interpreter(report.path).predict(images)
    step = [layer for layer in graph.build().layers if isinstance(layer, FakeQuant)][-1].step
    assert np.median(np.abs(logits - expected)) <= 1.01 * step
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", ["mixed", "full"])
def test_layers_agree_up_to_a_step_and_errors_are_found(network, conv, images, calibration, form):
    model = with_pooled_head(network, one_padded(conv))
    graph, _ = quantized(model, calibration, form)
    file = LceFile(to_flatbuffer(graph.build()))
    evidence = proof.prove(graph_of(graph.build()), graph, file, [images])
    assert evidence.divergence is None
    assert len(evidence.layers) == 4
    assert all(layer.wrong == 0 for layer in evidence.layers)
    stem = next(call.layer for call in graph.calls if call.layer.name == "stem")
    stem.weights["kernel"] = 1.2 * stem.weights["kernel"]
    evidence = proof.prove(graph_of(graph.build()), graph, file, [images])
    assert evidence.divergence.sources == ("stem",)


def rounded_often(conv):
    """A pool with ties, a convolution of it and a sum: integers may go astray at each."""

    def trunk(x):
        y = layers.BatchNormalization()(conv("conv1", strides=2)(x))
        shortcut = layers.Conv2D(32, 1, use_bias=False, name="shortcut")(layers.AveragePooling2D()(x))
        x = layers.PReLU(shared_axes=[1, 2])(layers.add([y, layers.BatchNormalization()(shortcut)]))
        return layers.add([x, layers.BatchNormalization()(conv("conv2")(x))])

    return trunk


def test_single_levels_may_be_off_but_errors_are_found(network, conv, images, calibration):
    graph, _ = quantized(network(rounded_often(conv)), calibration, "full")
    file = LceFile(to_flatbuffer(graph.build()))
    assert proof.prove(graph_of(graph.build()), graph, file, [images]).divergence is None
    shortcut = next(call.layer for call in graph.calls if call.layer.name == "shortcut")
    right = shortcut.weights["bias"]
    for wrong in (right + 0.5 * right.std(), right * 0.5):
        shortcut.weights["bias"] = wrong
        evidence = proof.prove(graph_of(graph.build()), graph, file, [images])
        assert evidence.divergence.place == "the 8-bit output of 'shortcut'"
        assert evidence.divergence.sources == ("shortcut",)


def of_other_levels(graph, file, images):
    """For each tensor that is rounded: the share of values that the file has at another level, by layer.

    The levels in the file go into the layers behind them, so that no difference adds to another.
    """
    calls = [call for call in graph.calls if call.layer.kind is FakeQuant]
    rounding = [call.layer.build() for call in calls]
    places = [
        proof.Levels(one.name, call.outputs[0].shape, one.step, -128 - round(one.minimum / one.step))
        for call, one in zip(calls, rounding, strict=True)
    ]
    seen, _ = proof.look(file, places, [images])
    known = {call: one.values for call, one in zip(calls, seen, strict=True) if one is not None}
    shares = {}
    for call, values in known.items():
        others = [other for other in known if other is not call]
        inputs = [*graph.inputs, *(other.outputs[0] for other in others)]
        part = dataclasses.replace(graph, inputs=inputs, outputs=call.outputs)
        (expected,) = outputs_of(part, [images, *(known[other] for other in others)])
        maker = graph.producer(call.inputs[0]).layer.name
        shares[maker] = float(np.mean(np.abs(values - expected) > 1e-6))
    return shares


def twice(layer):
    return lambda x: layer(layers.ReLU()(layer(x)))


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["plus", "full"])
@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), ["between"]),
        (twice(layers.Conv2D(32, 3, padding="same", name="between")), ["between", "between_1"]),
        (layers.Conv2DTranspose(16, 3, strides=2, activation="relu"), ["between"]),
        (layers.Conv2D(16, 3, groups=4), ["between"]),
        (lq.layers.QuantConv2D(16, 3, padding="same", pad_values=1.0), ["between"]),
        (layers.Dense(16), ["between"]),
    ],
    ids=["depthwise", "shared", "transposed", "grouped", "one-padding", "dense"],
)
def test_every_kernel_between_8_bit_tensors_is_rounded(
    network, randomized, images, calibration, layer, named, form
):
    """The converter makes such a layer int8 whether it knows its range or not."""
    if isinstance(layer, tf.keras.layers.Layer):
        layer._name = "between"
    model = network(lambda x: layers.Conv2D(16, 1, name="last")(layers.BatchNormalization()(layer(x))))
    graph, names = quantized(model, calibration, form)
    assert names == ["stem", *named, "last", "logits"]
    file = LceFile(to_flatbuffer(graph.build()))
    assert proof.prove(graph, graph, file, [images]).divergence is None
    shares = of_other_levels(graph, file, images[:8])
    # TFLite multiplies in fixed point and rounds twice: at most 2^-7 of the values change level. A kernel
    # that stays float in Keras changes 7 to 24 % of them. Pools have ties, and the output is no integer.
    exact = [share for place, share in shares.items() if "pool" not in place and "logits" not in place]
    assert len(exact) >= 3
    assert max(exact) < 2**-7


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", ["plus", "full"])
def test_a_stem_of_three_convolutions(conv, randomized, images, calibration, form):
    image = tf.keras.Input((8, 8, 3))
    net = blocks.Builder(bnn_tf.methods.BiReal())
    x = layers.BatchNormalization()(blocks.quick_stem(net, image, 32))
    x = layers.BatchNormalization()(conv("conv")(x))
    model = randomized(tf.keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten()(x))))
    model.get_layer("stem_depthwise_conv").depthwise_kernel.assign(
        np.random.default_rng(3).normal(0, 0.3, (3, 3, 8, 1))
    )
    graph, names = quantized(model, calibration, form)
    assert names == ["stem_reduce_conv", "stem_depthwise_conv", "stem_conv", "logits"]
    file = LceFile(to_flatbuffer(graph.build()))
    assert proof.prove(graph, graph, file, [images]).divergence is None
    wrong = next(call.layer for call in graph.calls if call.layer.name == "stem_depthwise_conv")
    wrong.weights["depthwise_kernel"] = 1.05 * wrong.weights["depthwise_kernel"]
    divergence = proof.prove(graph, graph, file, [images]).divergence
    assert divergence.place == "the 8-bit output of 'stem_depthwise_conv'"
    assert divergence.sources == ("stem_depthwise_conv",)


def test_channels_that_folding_turned_around(network, conv, to_int8):
    """Behind a max pool, negative scales turn signs and add channels; the file is compared with that."""

    def trunk(x):
        x = layers.BatchNormalization()(layers.MaxPooling2D()(conv("conv1")(x)))
        return layers.BatchNormalization()(conv("conv2")(HardTanh()(x)))

    model = network(trunk)
    report = to_int8(model, "full")
    assert kinds(report.path)["LceBMaxPool2d:INT32"] == 1
    assert [(layer.layer, layer.wrong) for layer in report.parity.layers] == [("conv1", 0), ("conv2", 0)]


def test_full_refuses_zero_padding(network, residual, calibration, tmp_path):
    with pytest.raises(ConversionError, match="1 pad with zeros: 'conv2'.*Train with pad_values=1"):
        bnn_tf.convert(network(residual), tmp_path / "model.tflite", int8="full", calibration=calibration)
    assert not list(tmp_path.iterdir())


def test_full_becomes_plus_where_slopes_stay_float(network, residual, calibration):
    """And then zero padding does no harm."""
    graph, names = quantized(network(lambda x: residual(layers.PReLU()(x))), calibration, "full")
    assert names == ["stem", "logits"]


def test_full_takes_convolutions_that_do_not_pad(network, conv, calibration):
    def trunk(x):
        x = layers.BatchNormalization()(conv("point", kernel_size=1, pad_values=0.0)(x))
        return layers.BatchNormalization()(conv("valid", padding="valid", pad_values=0.0)(x))

    _, names = quantized(network(trunk), calibration, "full")
    assert names == ["stem", "logits"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("ends", [(True, False), (False, True), (True, True)])
def test_int8_input_and_output_are_real(network, residual, images, calibration, tmp_path, ends, to_int8):
    model = network(residual)
    settings = Int8(int8_input=ends[0], int8_output=ends[1])
    plain = bnn_tf.convert(
        model, tmp_path / "plain.tflite", images=images, int8="mixed", calibration=calibration
    )
    report = to_int8(model, settings)
    names = {True: "int8", False: "float32"}
    interpreter = Interpreter(report.path)
    assert (report.int8.input_type, report.int8.output_type) == tuple(names[end] for end in ends)
    assert (interpreter.input_type, interpreter.output_type) == tuple(names[end] for end in ends)
    operators = LceFile(report.path).operators
    assert operators[0].inputs[0].type == names[ends[0]].upper()
    assert operators[-1].outputs[0].type == names[ends[1]].upper()
    logits = interpreter.predict(images)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, Interpreter(plain.path).predict(images))


def test_int8_images_are_taken_as_they_are(network, residual, images, to_int8):
    interpreter = Interpreter(to_int8(network(residual), Int8(int8_input=True)).path)
    scale, zero = interpreter.input_quantization
    levels = np.clip(np.round(images / scale) + zero, -128, 127)
    np.testing.assert_array_equal(
        interpreter.predict(levels.astype(np.int8)), interpreter.predict((levels - zero) * scale)
    )


def test_an_output_that_cannot_be_int8_is_refused(network, residual, calibration, tmp_path):
    base = network(residual)
    model = tf.keras.Model(base.input, layers.Activation("exponential")(base.output))
    with pytest.raises(ConversionError, match="the output of the file stayed float32"):
        bnn_tf.convert(model, tmp_path / "model.tflite", int8=Int8(int8_output=True), calibration=calibration)
    assert not list(tmp_path.iterdir())


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "last", [layers.Softmax(), layers.Activation("softmax"), layers.Activation("sigmoid")]
)
def test_probabilities_become_int8(network, residual, last, to_int8):
    base = network(residual)
    model = tf.keras.Model(base.input, last(base.output))
    report = to_int8(model, Int8(int8_output=True))
    assert report.int8.output_type == "int8"
    assert Interpreter(report.path).output_quantization == (1 / 256, -128)
    assert report.parity.median_difference <= 1 / 256


def test_an_input_that_cannot_be_int8_is_refused(conv, calibration, tmp_path):
    image = tf.keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(conv("first")(image))
    model = tf.keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ConversionError, match="the input of the file stayed float32"):
        bnn_tf.convert(model, tmp_path / "model.tflite", int8=Int8(int8_input=True), calibration=calibration)


def test_a_network_without_real_layers_is_refused(conv, calibration, tmp_path):
    image = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model(image, layers.BatchNormalization()(conv("first")(image)), name="binary")
    with pytest.raises(ConversionError, match="'binary' has no convolution or dense layer"):
        bnn_tf.convert(model, tmp_path / "model.tflite", int8="mixed", calibration=calibration)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass some as calibration="),
        ({"calibration": np.zeros((0, 8, 8, 3), np.float32)}, "no images to measure the ranges"),
        ({"calibration": np.zeros((4, 9, 9, 3), np.float32)}, r"images of shape \(8, 8, 3\)"),
        ({"calibration": np.zeros((4, 8, 8, 3), np.float32), "fold": False}, "needs a folded network"),
    ],
)
def test_missing_or_wrong_calibration_is_refused(network, residual, tmp_path, options, message):
    with pytest.raises(ConversionError, match=message):
        bnn_tf.convert(network(residual), tmp_path / "model.tflite", int8="mixed", **options)


def test_unknown_settings_are_refused():
    with pytest.raises(UsageError, match="no form of int8 called 'ful'; did you mean 'full'"):
        Int8("ful")


def test_report_is_readable_and_json(network, residual, to_int8):
    report = to_int8(network(residual), "mixed")
    plain = json.loads(json.dumps(report.to_dict()))["int8"]
    assert (plain["form"], plain["reason"], plain["calibration_images"]) == ("mixed", "", 32)
    assert 0.5 < plain["float_agreement"] <= 1
    assert "int8: mixed, 2 layers with int8 kernels" in str(report)
    assert "agreement with the model before quantization" in str(report)


def test_batch_norms_are_folded_into_real_kernels(network, conv, images, calibration):
    def trunk(x):
        x = layers.MaxPooling2D()(HardTanh()(layers.BatchNormalization()(x)))
        return layers.add([x, layers.BatchNormalization()(conv("conv")(x))])

    model = network(trunk)
    graph, _ = quantized(model, calibration, "mixed")
    built = graph.build()
    assert isinstance(built.get_layer("stem"), FakeQuantConv2D)
    assert isinstance(built.get_layer("logits"), FakeQuantDense)
    order = [type(layer) for layer in built.layers][:6]
    assert order[:5] == [layers.InputLayer, FakeQuant, FakeQuantConv2D, HardTanh, FakeQuant]
    clip = built.layers[4]
    assert -1.02 < clip.minimum <= -1
    assert 1 <= clip.maximum < 1.02


def test_activations_inside_layers_are_kept(conv, images, calibration):
    image = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, activation="relu", name="stem")(image)
    x = layers.BatchNormalization()(conv("conv")(x))
    x = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(x))
    model = tf.keras.Model(image, layers.Dense(4, name="logits")(x))
    graph, names = quantized(model, calibration, "mixed")
    assert names == ["stem", "hidden", "logits"]
    expected = np.asarray(model(images, training=False))
    result = np.asarray(graph.build()(images, training=False))
    assert np.corrcoef(expected.ravel(), result.ravel())[0, 1] > 0.9


def test_prelus_stay_float(network, conv, to_int8):
    def trunk(x):
        y = layers.BatchNormalization()(conv("conv1")(LearnableBias()(x)))
        x = layers.PReLU(shared_axes=[1, 2])(layers.add([x, y]))
        x = LearnableBias()(x)
        return layers.add([x, layers.BatchNormalization()(conv("conv2")(LearnableBias()(x)))])

    model = network(trunk)
    for layer in model.layers:
        if isinstance(layer, LearnableBias):
            layer.bias.assign(np.random.default_rng(2).normal(0, 0.3, layer.bias.shape))
    report = to_int8(model, "full")
    operators = kinds(report.path)
    assert operators["PRELU:FLOAT32"] == 1
    assert operators["PRELU:INT8"] == operators["ADD:INT8"] == 0
    assert (report.int8.form, report.int8.layers) == ("plus", ["stem", "logits"])
    assert "PReLU stays float" in report.int8.reason


def test_inputs_of_unlike_ranges_are_balanced(rng, tmp_path):
    """Folding a normalization into the classifier gives inputs that hardly vary large weights."""
    deviations = 10.0 ** rng.uniform(-3, 0, 32)
    images = (deviations * rng.standard_normal((64, 4, 4, 32))).astype(np.float32)
    image = tf.keras.Input((4, 4, 32))
    norm, logits = layers.BatchNormalization(), layers.Dense(10)
    model = tf.keras.Model(image, logits(norm(layers.Flatten()(layers.AveragePooling2D(4)(image)))))
    norm.set_weights([np.ones(32), np.zeros(32), np.zeros(32), np.square(deviations) / 16])
    report = bnn_tf.convert(
        model, tmp_path / "model.tflite", images=images, int8="classifier", calibration=images
    )
    step = LceFile(report.path).operators[-1].inputs[0].scales[0]
    difference = np.abs(Interpreter(report.path).predict(images) - np.asarray(model(images, training=False)))
    assert difference.max() <= 2 * step
    assert kinds(report.path)["MUL:FLOAT32"] == 1
