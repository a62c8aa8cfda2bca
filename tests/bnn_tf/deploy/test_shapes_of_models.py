"""Models of other shapes: several inputs and outputs, one dimension, dense, one channel, batches, pixels."""

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import Interpreter, LceFile, Normalization, contract
from bnn_tf.deploy.convert import convert

layers = tf.keras.layers
SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "magnitude_aware_sign"}


@pytest.fixture
def trained(randomized, rng):
    """`trained(model)`: the model after an epoch on random data, so that its statistics have settled."""

    def train(model, *targets):
        randomized(model)
        images = [rng.standard_normal((64, *tensor.shape[1:]), np.float32) for tensor in model.inputs]
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = 0.0
        model.compile(optimizer=tf.keras.optimizers.SGD(1e-4), loss="mse")
        labels = [rng.standard_normal((64, *tensor.shape[1:]), np.float32) for tensor in model.outputs]
        fed = images if len(images) > 1 else images[0]
        model.fit(fed, labels if len(labels) > 1 else labels[0], batch_size=64, verbose=0)
        return model, images

    return train


def test_a_detector_with_two_outputs(conv, trained, tmp_path):
    x = image = tf.keras.Input((16, 16, 3), name="photo")
    x = layers.BatchNormalization()(layers.Conv2D(32, 3, padding="same")(x))
    for number in range(2):
        x = layers.add([x, layers.BatchNormalization()(conv(f"conv{number}")(x))])
    outputs = [layers.Conv2D(channels, 1, name=name)(x) for channels, name in ((5, "scores"), (4, "boxes"))]
    model, images = trained(tf.keras.Model(image, outputs))
    report = convert(model, tmp_path / "model.tflite", images=images, allow_disagreement=True)
    assert report.actual_binary_convs == report.expected_binary_convs == 2
    assert [output["name"] for output in report.contract["outputs"]] == ["scores", "boxes"]
    assert [one.output for one in report.outputs_parity] == ["scores", "boxes"]
    file = LceFile(report.path)
    assert (file.input_names, file.output_names) == (("photo",), ("scores", "boxes"))
    assert contract.read(file) == report.contract
    results = Interpreter(file).predict_all([images[0][:8]])
    assert results["scores"].shape == (8, 16, 16, 5)
    for result, expected in zip(
        results.values(), map(np.asarray, model(images[0][:8], training=False)), strict=True
    ):
        assert np.median(np.abs(result - expected)) < 1e-3 * expected.std()


def test_two_inputs_keep_their_order(trained, tmp_path):
    inputs = [tf.keras.Input((8,), name=name) for name in ("zebra", "apple")]
    x = layers.Concatenate()([layers.Dense(4)(inputs[0]), inputs[1]])
    model, arrays = trained(tf.keras.Model(inputs, layers.Dense(3, name="result")(x)))
    report = convert(model, tmp_path / "model.tflite", images=arrays)
    assert [one["name"] for one in report.contract["inputs"]] == ["zebra", "apple"]
    (result,) = Interpreter(report.path).predict_all(arrays).values()
    np.testing.assert_allclose(result, np.asarray(model(arrays, training=False)), atol=1e-4)


def one_dimensional():
    x = image = tf.keras.Input((24, 4))
    x = layers.BatchNormalization()(layers.Conv1D(32, 3, padding="same")(x))
    for number, settings in enumerate(
        ({"padding": "same", "pad_values": 1.0}, {"padding": "same", "strides": 2}, {"dilation_rate": 2})
    ):
        convolution = lq.layers.QuantConv1D(
            32, 3, name=f"conv{number}", use_bias=number == 1, **settings, **SIGNS
        )
        x = layers.BatchNormalization()(convolution(x))
    return tf.keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def dense():
    x = image = tf.keras.Input((40,))
    x = layers.BatchNormalization()(layers.Dense(64)(x))
    for number, units in enumerate((64, 32)):
        x = layers.BatchNormalization()(lq.layers.QuantDense(units, name=f"dense{number}", **SIGNS)(x))
    return tf.keras.Model(image, layers.Dense(4)(x))


def one_channel():
    x = image = tf.keras.Input((12, 12, 1))
    x = layers.BatchNormalization()(layers.Conv2D(32, 3)(x))
    x = lq.layers.QuantConv2D(32, 3, name="conv", **SIGNS)(x)
    return tf.keras.Model(image, layers.Dense(4)(layers.Flatten()(layers.BatchNormalization()(x))))


def signs_before_dense_layers():
    x = image = tf.keras.Input((10, 10, 3))
    x = layers.BatchNormalization()(layers.Conv2D(32, 3)(x))
    x = layers.MaxPooling2D()(layers.Activation(lq.quantizers.SteSign())(x))
    options = {"kernel_quantizer": "magnitude_aware_sign"}
    x = lq.layers.QuantConv1D(32, 3, name="line", **options)(layers.Reshape((16, 32))(x))
    x = layers.Activation(lq.quantizers.SteSign())(layers.BatchNormalization()(x))
    x = lq.layers.QuantDense(32, name="flat", **options)(layers.Flatten()(x))
    x = layers.Activation(lq.quantizers.SteSign())(layers.BatchNormalization()(x))
    x = lq.layers.QuantDense(32, name="straight", **options)(x)
    return tf.keras.Model(image, layers.Dense(4)(layers.BatchNormalization()(x)))


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("make", "count"),
    [(one_dimensional, 3), (dense, 2), (one_channel, 1), (signs_before_dense_layers, 3)],
)
def test_all_binary_layers_run_on_bits(make, count, trained, tmp_path):
    model, images = trained(make())
    assert not bnn_tf.lint(model).errors
    report = convert(model, tmp_path / "model.tflite", images=images)
    assert report.expected_binary_convs == report.actual_binary_convs == count
    assert len(report.parity.layers) == count
    result, expected = (
        Interpreter(report.path).predict(images[0]),
        np.asarray(model(images[0], training=False)),
    )
    assert np.median(np.abs(result - expected)) < 1e-3 * expected.std()


def test_batches(network, residual, images, tmp_path):
    model = network(residual)
    report = convert(model, tmp_path / "model.tflite", images=images[:10], batch=4)
    interpreter = Interpreter(report.path)
    assert interpreter.input_shape == (4, 8, 8, 3)
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(interpreter.predict(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.sample(2)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("int8", [None, "mixed"])
def test_raw_pixels(conv, randomized, rng, tmp_path, padding, int8):
    x = image = tf.keras.Input((12, 12, 3))
    x = layers.BatchNormalization()(layers.Conv2D(32, 3, padding=padding)(x))
    x = layers.Flatten()(layers.BatchNormalization()(conv("conv")(x)))
    model = randomized(tf.keras.Model(image, layers.Dense(4)(x)))
    normalization = Normalization((0.49, 0.48, 0.44), (0.2, 0.21, 0.26))
    pixels = rng.integers(0, 256, (16, 12, 12, 3), np.uint8)
    report = convert(
        model, tmp_path / "model.tflite", images=pixels, input="uint8", normalization=normalization,
        int8=int8, calibration=pixels, allow_disagreement=int8 is not None,
    )  # fmt: skip
    assert report.contract["inputs"][0]["type"] == "uint8"
    result = Interpreter(report.path).predict(pixels)
    expected = np.asarray(model(normalization.apply(pixels), training=False))
    if int8 is None:
        assert report.parity.agrees
        assert np.median(np.abs(result - expected)) < 1e-4 * expected.std()
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.9


def test_raw_pixels_need_the_normalization(network, residual, tmp_path):
    with pytest.raises(bnn_tf.deploy.ConversionError, match="needs the normalization"):
        convert(network(residual), tmp_path / "model.tflite", input="uint8")


def test_a_file_without_known_images_describes_itself(tmp_path):
    image = tf.keras.Input((4, 4, 3), name="photo")
    model = tf.keras.Model(image, layers.Dense(1, "sigmoid", name="yes")(layers.Flatten()(image)))
    report = convert(model, tmp_path / "model.tflite")
    file = LceFile(report.path)
    assert (file.input_names, file.output_names) == (("photo",), ("yes",))
    (output,) = contract.read(file)["outputs"]
    assert output == {"name": "yes", "shape": [1, 1], "type": "float32", "meaning": "probabilities"}
    assert contract.read(file) == report.contract
    assert b"photo" in file.metadata["TFLITE_METADATA"]


def test_the_contract_stands_in_the_file(network, residual, images, tmp_path):
    known = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "labels": ["cat", "dog"], "resize": "crop"}
    report = convert(network(residual), tmp_path / "model.tflite", images=images, contract=known)
    file = LceFile(report.path)
    assert contract.read(file) == report.contract == {**report.contract, **known}
    assert report.contract["inputs"][0] == {
        "name": "input_1", "shape": [1, 8, 8, 3], "type": "float32", "layout": "NHWC",
    } | {"name": report.contract["inputs"][0]["name"]}  # fmt: skip
    metadata = file.metadata["TFLITE_METADATA"]
    assert metadata[4:8] == b"M001"
    assert np.float32(255 * 0.4).tobytes() in metadata
    np.testing.assert_allclose(
        Interpreter(file).predict(images),
        np.asarray(network(residual)(images, training=False)),
        rtol=1e-3,
        atol=1e-3,
    )
