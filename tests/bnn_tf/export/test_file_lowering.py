"""Converted `.tflite` files as programs, against LCE's interpreter and the programs of their models."""

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Normalization
from bnn_tf.deploy.lce_file import LceFile, _packed, to_flatbuffer, with_int8_ends
from bnn_tf.export import check, exporting, file_lowering
from bnn_tf.export.program import compile_network
from bnn_tf.export.source import Labels, write_source
from bnn_tf.training import set_seeds

L = tf.keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
pytestmark = pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")


def branches():
    image = tf.keras.Input((6, 5, 12))
    a, b = L.Conv2D(12, 3, padding="same")(image), L.Conv2D(12, 1)(image)
    gate = L.Reshape((1, 1, 12))(L.Dense(12, activation="sigmoid")(L.GlobalAveragePooling2D()(b)))
    joined = L.Concatenate()([L.Multiply()([a, gate]), L.Maximum()([a, b]) - image, 1.0 - b])
    binary = lq.layers.QuantConv2D(9, 3, padding="same", **SIGNS)
    return tf.keras.Model(image, [binary(joined), L.Flatten()(joined[:, 1:4, ::2])])


def test_branches_and_outputs(settled, tmp_path):
    report = bnn_tf.export_c(to_flatbuffer(settled(branches())), tmp_path / "net.c")
    assert report.proof.difference is None
    assert "float *output1" in (tmp_path / "net.c").read_text()


NETWORKS = {
    "cifar_resnet20": (zoo.CifarResNet20, "recu", 16, {}),
    "vgg_small": (zoo.VGGSmall, "bireal", 16, {"pad_values": 1.0}),
    "bireal_net18_quick": (zoo.BiRealNet18Quick, "ovsw", 64, {}),
    "react_resnet18": (zoo.ReActResNet18, "recu", 96, {}),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_same_as_the_program_of_the_run(name, settled, tmp_path):
    """The program of the file computes what that of the model computes; only signs at ties may move."""
    build, method, size, options = NETWORKS[name]
    model = settled(build(method=method, input_shape=(size, size, 3), num_classes=10, **options))
    bnn_tf.convert(model, tmp_path / "net.tflite", parity=False)
    file = LceFile(tmp_path / "net.tflite")
    images = np.random.default_rng(1).standard_normal((8, *model.input_shape[1:]), np.float32)
    report = bnn_tf.export_c(file, tmp_path / "file.c", images=images)
    of_model = bnn_tf.export_c(model, tmp_path / "model.c", check=False)
    assert report.proof.difference is None
    assert report.reference == "LCE's interpreter"
    assert report.binary_convolutions == of_model.binary_convolutions
    assert report.flash <= of_model.flash * 1.05
    outputs = []
    for source in (file_lowering.lower_file(file), exporting.lower(model)[0]):
        program = compile_network(source)
        text = write_source(program, "net", Labels()).text
        outputs.append(check.run(program, text, "net", images).outputs[0])
    close = np.abs(outputs[0] - outputs[1]).max(axis=1) <= 1e-4 * outputs[1].std()
    assert close.mean() >= 0.5


def test_pixels(settled, tmp_path, tiny):
    """A file that normalizes pixels itself is given them by `net_run_u8` as they are."""
    model = settled(tiny())
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    bnn_tf.convert(model, tmp_path / "net.tflite", input="uint8", normalization=normalization, parity=False)
    report = bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "net.c")
    assert report.parity.agrees
    assert "net_mean[] = {0.0f, 0.0f, 0.0f}" in (tmp_path / "net.c").read_text()


def test_a_wrong_program_is_not_written(settled, tmp_path, monkeypatch, tiny):
    from bnn_tf.export import source

    content = to_flatbuffer(settled(tiny()))
    pack = source.pack_filters
    monkeypatch.setattr(source, "pack_filters", lambda kernel: 255 - pack(kernel))
    with pytest.raises(ConversionError, match="disagrees with LCE's interpreter: '"):
        bnn_tf.export_c(content, tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_refuses_what_it_does_not_know(tmp_path):
    content = to_flatbuffer(
        tf.keras.Sequential([L.Input((9, 7, 5)), L.Conv2DTranspose(4, 3), L.Permute((2, 1, 3))])
    )
    with pytest.raises(ConversionError, match="TRANSPOSE_CONV.*TRANSPOSE"):
        bnn_tf.export_c(content, tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def whole_numbers():
    """A network of which every kind of operator computes with int8 values in the form `full`."""
    set_seeds(0)
    image = tf.keras.Input((8, 8, 3))
    a = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    b = L.DepthwiseConv2D(3, padding="same", name="depth")(a)
    value = L.Concatenate()([L.Add()([a, b]), L.MaxPooling2D(3, 1, "same")(b)])
    value = lq.layers.QuantConv2D(32, 3, padding="same", pad_values=1.0, use_bias=False, **SIGNS)(value)
    value = L.AveragePooling2D(2)(L.BatchNormalization()(value))
    value = L.Dense(20, activation="relu6", name="hidden")(L.Flatten()(value))
    return tf.keras.Model(image, [L.Softmax()(L.Dense(5, name="logits")(value)), L.Dense(2)(value)])


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["classifier", "mixed", "plus", "full"])
def test_int8_values(form, settled, tmp_path):
    model = settled(whole_numbers())
    images = np.random.default_rng(0).standard_normal((64, 8, 8, 3), np.float32)
    bnn_tf.convert(model, tmp_path / "net.tflite", int8=form, calibration=images, parity=False)
    types = [o.inputs[0].type for o in LceFile(tmp_path / "net.tflite").operators if o.name == "CONV_2D"]
    assert types == (["FLOAT32"] if form == "classifier" else ["INT8"])
    report = bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "net.c", images=images[:16])
    assert report.proof.difference is None
    assert report.parity.agrees
    assert report.int8_kernels == {"classifier": 2, "mixed": 3, "plus": 4, "full": 5}[form]
    plain = bnn_tf.export_c(model, tmp_path / "plain.c", check=False)
    assert report.flash < plain.flash


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", ["mixed", "full"])
def test_int8_values_are_those_of_the_interpreter(form, settled, tmp_path):
    """Each operator rounds as TFLite's does, where it starts from LCE's values."""
    model, images = settled(whole_numbers()), np.random.default_rng(0).standard_normal((32, 8, 8, 3))
    images = images.astype(np.float32)
    bnn_tf.convert(model, tmp_path / "net.tflite", int8=form, calibration=images, parity=False)
    file = LceFile(tmp_path / "net.tflite")
    program = compile_network(file_lowering.lower_file(file))
    expected = file_lowering.reference(file, program, images)
    forced = file_lowering.forced(program, expected)
    job = check.Job(program, write_source(program, "net", Labels()).text, "net", images, forced)
    (outcome,) = check.run_several([job], trace=len(images))
    origins, makers, compared = program.network.origins, file.makers(), set()
    for tensor in forced.keys() & outcome.values.keys():
        info = origins[tensor]
        if info.type == "INT8":
            steps = (outcome.values[tensor].reshape(forced[tensor].shape) - forced[tensor]) / info.scales[0]
            assert np.abs(steps).max() <= 1.01
            assert (np.abs(steps) > 0.5).mean() <= 1e-4
            compared.add(makers[info.index].name)
    assert compared >= {"QUANTIZE", "CONV_2D", "FULLY_CONNECTED"}
    assert form == "mixed" or compared >= {"DEPTHWISE_CONV_2D", "ADD", "LceBconv2d", "AVERAGE_POOL_2D"}


def test_refuses_int8_ends(settled, tmp_path, tiny):
    images = np.random.default_rng(0).standard_normal((16, 8, 8, 3), np.float32)
    bnn_tf.convert(settled(tiny()), tmp_path / "net.tflite", int8="mixed", calibration=images, parity=False)
    content = (tmp_path / "net.tflite").read_bytes()
    for ends in ((True, False), (False, True)):
        with pytest.raises(ConversionError, match="int8 (images|values), but a program"):
            bnn_tf.export_c(with_int8_ends(content, *ends), tmp_path / "net.c")


def test_refuses_other_files(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"something else")
    with pytest.raises(bnn_tf.errors.UserError, match="no TFLite model"):
        bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "net.c")
    batch = to_flatbuffer(tf.keras.Sequential([L.Input((9, 7, 5)), L.Conv2D(4, 3)]), batch=2)
    with pytest.raises(ConversionError, match="one image"):
        bnn_tf.export_c(batch, tmp_path / "net.c")


def _without_inputs(operator):
    operator.inputs = []


def _without_stride(operator):
    operator.builtinOptions.strideH = 0


@pytest.mark.parametrize("damage", [_without_inputs, _without_stride])
def test_refuses_damaged_operators(damage):
    file = LceFile(to_flatbuffer(tf.keras.Sequential([L.Input((9, 7, 5)), L.Conv2D(4, 3, padding="same")])))
    _, parsed = file._objects()
    damage(parsed.subgraphs[0].operators[0])
    with pytest.raises(ConversionError, match=r"\(CONV_2D\): the file is damaged: "):
        file_lowering.lower_file(LceFile(_packed(parsed)))


def test_refuses_outputs_that_are_constants():
    file = LceFile(to_flatbuffer(tf.keras.Sequential([L.Input((9, 7, 5)), L.Conv2D(4, 3)])))
    _, parsed = file._objects()
    (operator,) = parsed.subgraphs[0].operators
    parsed.subgraphs[0].outputs = [operator.inputs[1]]
    with pytest.raises(ConversionError, match="an output that does not depend on the image"):
        file_lowering.lower_file(LceFile(_packed(parsed)))


def test_digits_lost_in_large_sums_are_no_error(rng, tmp_path):
    """Sums near 500 that the bias takes back to 0: rounding moves values further than elsewhere."""
    image = tf.keras.Input((8, 8, 64))
    x = lq.layers.QuantConv2D(
        8, 3, padding="same", pad_values=1.0, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
        use_bias=False, name="binary",
    )(image)  # fmt: skip
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    model = tf.keras.Model(image, tf.keras.layers.Flatten()(tf.clip_by_value(x, -1.0, 1.0)))
    model.get_layer("binary").set_weights([rng.uniform(0.5, 1.0, (3, 3, 64, 8))])
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(30.0, 50.0, 8), np.zeros(8), 574 + rng.uniform(-0.02, 0.02, 8), np.ones(8)])
    images = np.where(rng.random((8, 8, 8, 64)) < 1 / 576, np.float32(-1), np.float32(1))
    bnn_tf.convert(model, tmp_path / "net.tflite", images=images)
    assert bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "file.c", images=images).parity.agrees
    assert bnn_tf.export_c(model, tmp_path / "model.c", images=images).parity.agrees
