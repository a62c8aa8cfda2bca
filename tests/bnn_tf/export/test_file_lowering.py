"""Converted `.tflite` files as programs, against LCE's interpreter and the programs of their models."""

import dataclasses

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Normalization
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.export import check, exporting, file_lowering
from bnn_tf.export.program import compile_network
from bnn_tf.export.source import Labels, write_source
from bnn_tf.layers import ChannelPad, Flip, HardTanh

L = tf.keras.layers
pytestmark = pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")


def network(*layers, shape=(9, 7, 5)):
    image = value = tf.keras.Input(shape)
    for layer in layers:
        value = layer(value)
    return tf.keras.Model(image, value)


def binary(filters, size=3, **options):
    options = {"padding": "same", "use_bias": False, **options}
    return lq.layers.QuantConv2D(
        filters, size, input_quantizer="ste_sign", kernel_quantizer="ste_sign", **options
    )


def norm():
    return L.BatchNormalization()


LAYERS = {
    "thresholds": [binary(40), norm(), binary(24, pad_values=1.0), norm(), binary(33, pad_values=1.0)],
    "thresholds, valid, stride": [binary(40, padding="valid"), norm(), binary(24, strides=2, pad_values=1.0)],
    "pooled signs": [binary(40), norm(), L.MaxPooling2D(2), binary(24, pad_values=1.0), norm(), binary(8)],
    "fused relu": [binary(16, pad_values=1.0), L.ReLU(), norm()],
    "fused clip": [binary(16, pad_values=1.0), HardTanh(), norm()],
    "dilation, bias": [binary(16, dilation_rate=(1, 2), use_bias=True), binary(9, (3, 2), strides=(2, 1))],
    "constant filters": [binary(32, kernel_initializer="ones", pad_values=1.0)],
    "sign as values": [L.Activation(lq.quantizers.SteSign()), L.Conv2D(6, 3)],
    "convolutions": [L.Conv2D(20, 5, 2, "same", activation="relu"),
                     L.Conv2D(6, 3, dilation_rate=2, padding="same")],
    "groups": [L.Conv2D(12, 1), L.Conv2D(18, 3, groups=3, padding="same", activation="relu6")],
    "depthwise": [L.DepthwiseConv2D(3, padding="same", strides=2), L.SeparableConv2D(11, 3)],
    "multiplier": [L.DepthwiseConv2D(3, depth_multiplier=3, activation="relu")],
    "dense": [L.Flatten(), L.Dense(19, activation="tanh"), L.Dense(4), L.Softmax()],
    "dense on a map": [L.Dense(6)],
    "pools": [L.MaxPooling2D(3, 2, "same"), L.AveragePooling2D(2, 1, "same"), L.GlobalAveragePooling2D()],
    "global max": [L.GlobalMaxPooling2D(keepdims=True)],
    "moved": [L.ZeroPadding2D(((1, 2), (0, 3))), L.Cropping2D(((2, 1), (0, 2))), ChannelPad(2, 3)],
    "flip": [Flip()],
    "upsampled": [L.UpSampling2D((2, 3)), L.UpSampling2D(2, interpolation="bilinear")],
    "prelu": [L.PReLU(shared_axes=[1, 2], alpha_initializer="uniform"), L.PReLU(alpha_initializer="uniform")],
    "activations": [L.Activation(a) for a in ("relu6", "swish", "sigmoid", "elu", "hard_sigmoid")],
    "leaky": [L.LeakyReLU(0.2), L.Rescaling(2.0, -0.5)],
    "strided slice": [L.MaxPooling2D(1, 2), L.Conv2D(3, 1)],
}  # fmt: skip


@pytest.mark.sample(8)
@pytest.mark.parametrize("case", LAYERS)
def test_layer(case, settled, tmp_path):
    content = to_flatbuffer(settled(network(*LAYERS[case])))
    report = bnn_tf.export_c(content, tmp_path / "net.c")
    assert report.proof.difference is None
    assert report.proof.tensors


def branches():
    image = tf.keras.Input((6, 5, 12))
    a, b = L.Conv2D(12, 3, padding="same")(image), L.Conv2D(12, 1)(image)
    gate = L.Reshape((1, 1, 12))(L.Dense(12, activation="sigmoid")(L.GlobalAveragePooling2D()(b)))
    joined = L.Concatenate()([L.Multiply()([a, gate]), L.Maximum()([a, b]) - image, 1.0 - b])
    return tf.keras.Model(image, [binary(9)(joined), L.Flatten()(joined[:, 1:4, ::2])])


def test_branches_and_outputs(settled, tmp_path):
    report = bnn_tf.export_c(to_flatbuffer(settled(branches())), tmp_path / "net.c")
    assert report.proof.difference is None
    assert "float *output1" in (tmp_path / "net.c").read_text()


NETWORKS = {
    "cifar_resnet20": (zoo.CifarResNet20, "recu", 16, {}),
    "vgg_small": (zoo.VGGSmall, "bireal", 16, {"pad_values": 1.0}),
}


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


def test_a_wrong_threshold_is_found(settled, tmp_path, monkeypatch):
    """A threshold decides whole numbers: one beside the right one is an error, however few signs it moves."""
    content = to_flatbuffer(settled(network(*LAYERS["thresholds"])))
    lower = file_lowering._FileLowering.map

    def shifted(self, operator, tensor, expression, *parameters):
        if expression == "t - {0}":
            parameters = (parameters[0] + 2.0,)
        return lower(self, operator, tensor, expression, *parameters)

    monkeypatch.setattr(file_lowering._FileLowering, "map", shifted)
    with pytest.raises(ConversionError, match="disagrees with LCE's interpreter"):
        bnn_tf.export_c(content, tmp_path / "net.c")


def test_refuses_what_it_does_not_know(tmp_path):
    content = to_flatbuffer(network(L.Conv2D(4, 3), L.Conv2DTranspose(4, 3, name="up"), L.Permute((2, 1, 3))))
    with pytest.raises(ConversionError, match="TRANSPOSE_CONV.*TRANSPOSE"):
        bnn_tf.export_c(content, tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_refuses_int8_values(settled, tmp_path, tiny):
    images = np.random.default_rng(0).standard_normal((16, 8, 8, 3), np.float32)
    bnn_tf.convert(settled(tiny()), tmp_path / "net.tflite", int8="mixed", calibration=images, parity=False)
    with pytest.raises(ConversionError, match="int8 values"):
        bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "net.c")


def test_refuses_other_files(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"something else")
    with pytest.raises(bnn_tf.errors.UserError, match="no TFLite model"):
        bnn_tf.export_c(tmp_path / "net.tflite", tmp_path / "net.c")
    batch = to_flatbuffer(network(L.Conv2D(4, 3)), batch=2)
    with pytest.raises(ConversionError, match="one image"):
        bnn_tf.export_c(batch, tmp_path / "net.c")


def test_values_are_forced(exported, settled):
    """What stands in place of a tensor is what the next steps read."""
    program, _, text = exported(settled(network(binary(8), norm(), binary(5))))
    images = np.random.default_rng(0).standard_normal((1, 9, 7, 5), np.float32)
    free = check.run(program, text, "net", images, trace=1)
    signs = {tensor: np.ones_like(array) for tensor, array in free.signs.items()}
    job = check.Job(program, text, "net", images, signs)
    (outcome,) = check.run_several([job], trace=1)
    assert all((outcome.signs[tensor] == free.signs[tensor]).all() for tensor in list(signs)[:1])
    assert (outcome.outputs[0] != free.outputs[0]).any()
    job = dataclasses.replace(job, forced=free.signs)
    (same,) = check.run_several([job], trace=1)
    assert (same.outputs[0] == free.outputs[0]).all()
