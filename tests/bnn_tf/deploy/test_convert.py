import json

import numpy as np
import pytest

import bnn_tf
from bnn_tf import data, deploy
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Interpreter
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.lce_file import to_flatbuffer
from bnn_tf.errors import UserError


def test_convert_writes_a_file_that_computes_the_same(network, residual, images, tmp_path):
    model = network(residual)
    report = bnn_tf.convert(model, tmp_path / "model.tflite", images=images)
    assert report.path.stat().st_size == report.size
    assert report.expected_binary_convs == report.actual_binary_convs == report.operators["LceBconv2d"] == 2
    assert report.parity.agrees
    assert report.parity.images == len(images)
    assert report.parity.layers_agree
    logits = Interpreter(report.path).predict(images)
    np.testing.assert_allclose(logits, np.asarray(model(images, training=False)), rtol=1e-3, atol=1e-3)
    assert list(tmp_path.iterdir()) == [report.path]


def test_report_is_readable_and_json(network, residual, tmp_path, capfd):
    report = convert(network(residual), str(tmp_path / "model.tflite"))
    assert report.parity.images == 64
    assert "2 of 2 as LceBconv2d" in str(report)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["operators"]["LceBconv2d"] == 2
    assert plain["parity"]["agrees"] is True
    assert capfd.readouterr() == ("", "")


def test_the_model_is_left_as_it_was(network, residual, tmp_path):
    model = network(residual)
    before = [weight.copy() for weight in model.get_weights()]
    convert(model, tmp_path / "model.tflite", parity=False)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv1").kernel_quantizer is not None


def refuse(model, folder, match, **options):
    """Asserts that conversion fails with one message and touches nothing."""
    existing = folder / "model.tflite"
    existing.write_bytes(b"the old model")
    with pytest.raises(ConversionError, match=match) as caught:
        convert(model, existing, **options)
    assert existing.read_bytes() == b"the old model"
    assert list(folder.iterdir()) == [existing]
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"input_quantizer": "ste_heaviside"}, "zero-one-activations"),
        ({"kernel_quantizer": "ste_heaviside"}, "ternary-weights"),
        ({"kernel_quantizer": "ste_tern"}, "ternary-weights"),
        ({"groups": 2}, "grouped-convolution"),
    ],
)
def test_what_lint_calls_an_error_is_refused(network, conv, tmp_path, settings, code):
    def trunk(x):
        x = tf.keras.layers.BatchNormalization()(conv("good")(x))
        return tf.keras.layers.BatchNormalization()(conv("bad", **settings)(x))

    model = network(trunk)
    assert [(one.code, one.layer) for one in bnn_tf.lint(model).errors] == [(code, "bad")]
    message = refuse(model, tmp_path, rf"cannot be converted: 'bad' \({code}\)")
    assert "'good'" not in message


def test_convolutions_that_stay_float_unexpectedly_are_named(network, residual, tmp_path, monkeypatch):
    converted = to_flatbuffer(network(lambda x: x))
    monkeypatch.setattr(deploy.convert, "to_flatbuffer", lambda *_: converted)
    message = refuse(network(residual), tmp_path, "2 of 2 binary convolutions stayed float")
    assert "'conv1', 'conv2'" in message


def test_dead_filters_convert_only_when_folded(network, residual, images, tmp_path):
    model = network(residual)
    kernel = model.get_layer("conv1").kernel
    dead = np.ones(32, np.float32)
    dead[[3, 17]] = 0, 1e-9
    kernel.assign(kernel.latent_variable * dead)
    report = convert(model, tmp_path / "folded.tflite", images=images)
    assert report.actual_binary_convs == 2
    (tmp_path / "folded.tflite").unlink()
    message = refuse(
        model, tmp_path, "'conv1' .tiny-filters.: 2 of its filters have a scale of nearly 0", fold=False
    )
    assert "'conv2'" not in message


def test_real_kernels_and_dense_layers_are_not_expected_to_be_binary(network, conv, tmp_path):
    def trunk(x):
        x = conv("real_kernel", kernel_quantizer=None)(x)
        return conv("real_input", input_quantizer=None)(tf.keras.layers.BatchNormalization()(x))

    report = convert(network(trunk), tmp_path / "model.tflite")
    assert report.expected_binary_convs == 0


def test_a_shared_layer_counts_once_for_each_use(network, conv, tmp_path):
    def trunk(x):
        shared = conv("shared")
        x = tf.keras.layers.BatchNormalization()(shared(x))
        return tf.keras.layers.BatchNormalization()(shared(x))

    report = convert(network(trunk), tmp_path / "model.tflite")
    assert report.expected_binary_convs == report.actual_binary_convs == 2


def test_nested_models(network, conv, tmp_path):
    def block(name, channels):
        x = image = tf.keras.Input((8, 8, channels))
        y = tf.keras.layers.BatchNormalization()(conv("conv")(x))
        return tf.keras.Model(image, tf.keras.layers.add([x, y]), name=name)

    def trunk(x):
        layers = [conv("inner", kernel_quantizer="ste_sign"), tf.keras.layers.BatchNormalization()]
        return tf.keras.Sequential(layers, name="tail")(block("b", 32)(block("a", 32)(x)))

    report = convert(network(trunk), tmp_path / "model.tflite")
    assert report.expected_binary_convs == report.actual_binary_convs == 3
    assert report.parity.agrees


def test_mixed_precision_is_rebuilt_in_float32(network, residual, tmp_path):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = network(residual)
        assert model.get_layer("conv1").compute_dtype == "bfloat16"
        report = convert(model, tmp_path / "model.tflite")
        assert tf.keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert report.actual_binary_convs == 2
    assert report.parity.agrees


def test_quantizers_are_traced_in_inference(network, conv, tmp_path):
    class Normalized(lq.quantizers.Quantizer):
        precision = 1

        def call(self, inputs, training=None):
            return lq.math.sign(inputs - 1.0) if training else lq.quantizers.approx_sign(inputs)

    def trunk(x):
        x = conv("conv", input_quantizer=Normalized())(x)
        return tf.keras.layers.Dropout(0.5)(tf.keras.layers.BatchNormalization()(x))

    report = convert(network(trunk), tmp_path / "model.tflite")
    assert report.actual_binary_convs == 1
    assert report.parity.agrees


class LookUp(lq.quantizers.Quantizer):
    """A kernel quantizer that LCE's converter could not fold to a constant, with a variable."""

    precision = 1

    def build(self, shape):
        self.patterns = self.add_weight(
            "patterns", shape=(4, 9), initializer="glorot_normal", trainable=False
        )

    def call(self, inputs):
        patterns = lq.math.sign(self.patterns)
        flat = tf.reshape(tf.transpose(inputs, [2, 3, 0, 1]), [-1, 9])
        nearest = tf.argmax(tf.matmul(flat, patterns, transpose_b=True), axis=1)
        chosen = tf.reshape(tf.gather(patterns, nearest), [*inputs.shape[2:], 3, 3])
        return tf.transpose(chosen, [2, 3, 0, 1])


def test_unregistered_quantizers_with_variables(network, conv, tmp_path):
    model = network(
        lambda x: tf.keras.layers.BatchNormalization()(conv("conv", kernel_quantizer=LookUp())(x))
    )
    report = convert(model, tmp_path / "model.tflite")
    assert report.actual_binary_convs == 1
    assert report.parity.agrees


def test_own_functions(network, conv, tmp_path):
    def swish(x):
        return x * tf.nn.sigmoid(x)

    def trunk(x):
        x = tf.keras.layers.Conv2D(32, 1, activation=swish)(x)
        x = tf.keras.layers.Activation(lq.quantizers.SteSign())(x)
        x = conv("conv", input_quantizer=None)(x)
        return tf.keras.layers.Activation(lambda x: 2 * x)(x)

    report = convert(network(trunk), tmp_path / "model.tflite")
    assert report.operators["LceBconv2d"] == 1
    assert report.parity.agrees


def test_operators_that_tflite_lacks_are_named(network, tmp_path):
    refuse(
        network(lambda x: tf.linalg.inv(tf.matmul(x, x, transpose_a=True))),
        tmp_path,
        r"unknown-operator.: LCE's interpreter refuses it: it does not know MatrixInverse",
    )


def test_integer_images_are_refused(tmp_path):
    image = tf.keras.Input((4, 4, 3), dtype="uint8")
    refuse(tf.keras.Model(image, tf.cast(image, "float32")), tmp_path, "takes uint8 images")


def test_any_size_is_refused(tmp_path):
    image = tf.keras.Input((None, None, 3), name="image")
    model = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(image))
    refuse(model, tmp_path, "input_shape=.height, width, channels")


def test_subclassed_and_unbuilt_models_are_refused(tmp_path):
    class Own(tf.keras.Model):
        pass

    refuse(Own(name="own"), tmp_path, "'own' .not-functional.: it is subclassed or not built yet")
    refuse(tf.keras.Sequential([tf.keras.layers.Dense(3)]), tmp_path, "not built yet")


def test_outputs_that_inference_makes_the_same_are_refused(tmp_path):
    image = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, name="conv")(image)
    model = tf.keras.Model(image, [x, tf.keras.layers.Dropout(0.5, name="drop")(x)])
    for fold in (True, False):
        refuse(model, tmp_path, "the outputs 'conv' and 'drop' of .* leave out all but one", fold=fold)


def test_calibration_images_for_another_number_of_inputs_are_refused(network, tmp_path):
    two = [np.zeros((4, 8, 8, 3), np.float32)] * 2
    model = network(lambda x: tf.keras.layers.Conv2D(4, 3)(x))
    words = "has 1 inputs; pass an array of calibration images for each"
    refuse(model, tmp_path, words, int8="classifier", calibration=two)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((float("nan"),), (1.0,)),
        ((0.5,), (0.0,)),
        ((0.5,), (float("inf"),)),
        ((), ()),
        ((0.5,), (0.5, 0.5)),
        (0.5, 0.5),
    ],
)
def test_impossible_normalizations_are_refused(mean, std):
    with pytest.raises(UserError, match="a normalization"):
        deploy.Normalization(mean, std)


def test_normalization_is_that_of_training():
    images = data.Images(normalization="imagenet")
    pixels = np.arange(256 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    normalization = deploy.Normalization(images.mean, images.std)
    np.testing.assert_array_equal(normalization.apply(pixels), images.normalize(pixels))
    np.testing.assert_array_equal(normalization.from_images(normalization.apply(pixels)), pixels)


def test_an_unwritable_path_is_named(network, tmp_path):
    with pytest.raises(UserError, match="cannot write .*nowhere/model.tflite: No such file"):
        convert(network(lambda x: x), tmp_path / "nowhere" / "model.tflite", parity=False)


def test_wrong_images_are_refused(network, tmp_path):
    with pytest.raises(UserError, match=r"images of shape \(8, 8, 3\)"):
        convert(network(lambda x: x), tmp_path / "model.tflite", images=np.zeros((4, 9, 9, 3), np.float32))
    with pytest.raises(UserError, match="no images"):
        convert(network(lambda x: x), tmp_path / "model.tflite", images=np.zeros((0, 8, 8, 3), np.float32))
