"""What users of Larq and LCE reported in public, each with the right behaviour, and its whole kind."""

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, Interpreter, int8, proof
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.fold import folded
from bnn_tf.training import set_seeds

layers = tf.keras.layers


def unet(x, conv):
    """The first convolution's output goes round the network into a Concatenate."""
    first = x
    x = layers.MaxPooling2D()(x)
    x = layers.BatchNormalization()(conv("deep")(x))
    return layers.Concatenate()([first, layers.UpSampling2D()(x)])


def dense_block(x, conv):
    for number in range(2):
        x = layers.Concatenate()([x, layers.BatchNormalization()(conv(f"conv{number}")(x))])
    return x


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", ["mixed", "plus"])
@pytest.mark.parametrize("trunk", [unet, dense_block])
def test_int8_where_the_stem_reaches_a_concatenation(network, conv, images, tmp_path, trunk, form):
    model = network(lambda x: trunk(x, conv))
    report = convert(
        model,
        tmp_path / "model.tflite",
        images=images,
        int8=form,
        calibration=images,
        allow_disagreement=True,
    )
    assert report.parity.median_difference < 0.05 * report.parity.deviation
    assert "stem" in report.int8.layers
    result, expected = Interpreter(report.path).predict(images), model.predict(images, verbose=0)
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.9


def test_int8_where_the_first_kernel_is_binary_but_not_its_input(conv, images, randomized, tmp_path):
    x = image = tf.keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(conv("first", input_quantizer=None, pad_values=0.0)(x))
    x = layers.BatchNormalization()(conv("second")(x))
    model = randomized(tf.keras.Model(image, layers.Dense(4, name="logits")(layers.Flatten()(x))))
    report = convert(
        model, tmp_path / "model.tflite", images=images, int8="mixed", calibration=images,
        allow_disagreement=True,
    )  # fmt: skip
    assert report.int8.layers == ["first", "logits"]
    assert report.expected_binary_convs == report.actual_binary_convs == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("layer", [layers.RandomCrop(6, 6), layers.RandomFlip(), layers.RandomRotation(0.1)])
def test_augmentation_inside_the_model(layer, rng, tmp_path):
    image = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model(image, layers.Dense(3)(layers.Flatten()(layer(image))))
    images = rng.standard_normal((8, 8, 8, 3), np.float32)
    report = convert(model, tmp_path / "model.tflite", images=images)
    assert report.parity.agreement == 1


@pytest.mark.parametrize("name", ["ste_sign", "approx_sign", "magnitude_aware_sign", "swish_sign"])
def test_a_sign_by_its_name_as_larq_documents_it(name, tmp_path):
    """Keras called the class that Larq registered with the tensor, and an error without sense came."""
    image = tf.keras.Input((4,))
    model = tf.keras.Model(image, layers.Activation(name)(image))
    assert isinstance(model.layers[-1].activation, lq.quantizers.Quantizer)
    values = np.float32([[-2, -0.1, 0.1, 2]])
    np.testing.assert_array_equal(np.sign(model(values)), [[-1, -1, 1, 1]])
    for file in ("model.keras", "model.h5"):
        model.save(tmp_path / file)
        np.testing.assert_array_equal(bnn_tf.load_model(tmp_path / file)(values), model(values))


def test_a_sign_by_its_name_runs_on_bits(network, conv, tmp_path):
    model = network(lambda x: conv("a", input_quantizer=None)(layers.Activation("ste_sign")(x)))
    report = convert(model, tmp_path / "model.tflite")
    assert report.actual_binary_convs == report.expected_binary_convs == 1


def test_lstm_that_lce_computes_wrongly(tmp_path):
    def model(layer):
        image = tf.keras.Input((6, 4))
        return tf.keras.Model(image, layers.Dense(3)(layer(image)))

    (finding,) = bnn_tf.lint(model(layers.LSTM(8, name="lstm"))).errors
    assert (finding.code, finding.layer) == ("lstm", "lstm")
    assert "unroll=True" in finding.remedy
    with pytest.raises(ConversionError, match="unroll=True"):
        convert(model(layers.LSTM(8)), tmp_path / "model.tflite")
    for layer in (layers.LSTM(8, unroll=True), layers.GRU(8, unroll=True)):
        assert convert(model(layer), tmp_path / "model.tflite").parity.agreement == 1


def test_one_sigmoid_unit_is_compared_with_one_half():
    keras = np.float32([[0.1], [0.6], [0.9], [0.2]])
    lite = np.float32([[0.2], [0.4], [0.8], [0.3]])
    assert proof.compare(keras, lite).agreement == 0.75
    assert proof.compare(10 * (keras - 0.5), 10 * (lite - 0.5)).agreement == 0.75


def test_a_saved_model_by_its_path(network, residual, tmp_path):
    model = network(residual)
    for name in ("model.h5", "model.keras"):
        model.save(tmp_path / name)
        report = bnn_tf.convert(tmp_path / name, tmp_path / "model.tflite", parity=False)
        assert report.actual_binary_convs == 2


def unsettled(conv, momentum):
    """Larq's BinaryNet in small, after one step: with a momentum, no statistic has moved from its start."""
    set_seeds(0)
    x = image = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same")(x)
    for number in range(3):
        x = layers.BatchNormalization(momentum=momentum, scale=False)(x)
        x = conv(f"conv{number}", pad_values=0.0, kernel_quantizer="ste_sign")(x)
    x = layers.Flatten()(layers.BatchNormalization(momentum=momentum, scale=False)(x))
    model = tf.keras.Model(image, layers.Dense(10)(x))
    images = np.random.default_rng(1).standard_normal((64, 8, 8, 3)).astype(np.float32)
    model(images, training=True)
    return model, images


def test_the_reason_of_a_disagreement_is_told(conv, tmp_path):
    model, images = unsettled(conv, 0.999)
    path = tmp_path / "model.tflite"
    with pytest.raises(
        proof.Disagreement, match=r"as Keras does, less than 95%: the statistics of"
    ) as caught:
        convert(model, path, images=images)
    assert 0.5 < caught.value.report.agreement < 0.95
    assert caught.value.report.layers_agree
    assert "each layer by itself agrees" in str(caught.value)
    assert not path.exists()
    assert convert(model, path, images=images, allow_disagreement=True).path.is_file()


def test_settled_statistics_agree(conv, tmp_path):
    model, images = unsettled(conv, 0.0)
    assert convert(model, tmp_path / "model.tflite", images=images).parity.agreement == 1


def test_int8_is_compared_with_the_quantized_network(network, images, tmp_path, monkeypatch):
    compare = proof.compare

    def worse(keras, lite, output=""):
        return compare(keras, np.roll(lite, 1, axis=1), output)

    monkeypatch.setattr(proof, "compare", worse)
    options = {"images": images, "int8": "mixed", "calibration": images}
    with pytest.raises(proof.Disagreement, match="images as the fake-quantized network does"):
        convert(network(lambda x: x), tmp_path / "model.tflite", **options)


def two_on_one_sign(x, conv):
    signs = layers.Activation(lq.quantizers.SteSign())(x)
    settings = {"input_quantizer": None}
    return layers.add([conv("a", **settings)(signs), conv("b", kernel_size=1, **settings)(signs)])


def behind(layer):
    def trunk(x, conv):
        return conv("a", input_quantizer=None)(layer(layers.Activation(lq.quantizers.SteSign())(x)))

    return trunk


@pytest.mark.parametrize(
    ("trunk", "count"),
    [
        (two_on_one_sign, 2),
        (behind(layers.MaxPooling2D()), 1),
        (behind(layers.UpSampling2D()), 1),
        (behind(layers.Reshape((4, 16, 32))), 1),
    ],
)
def test_signs_are_counted_by_whatever_way_they_come(network, conv, images, tmp_path, trunk, count):
    model = network(lambda x: layers.BatchNormalization()(trunk(x, conv)))
    report = convert(model, tmp_path / "model.tflite", images=images)
    assert report.expected_binary_convs == report.actual_binary_convs == count


@pytest.mark.parametrize(
    ("trunk", "code"),
    [
        (behind(layers.ZeroPadding2D()), "padded-signs"),
        (behind(layers.AveragePooling2D()), "activations-not-signs"),
        (lambda x, conv: conv("a", input_quantizer=None)(tf.sign(x)), "unrecognized-sign"),
        (lambda x, conv: conv("a", kernel_quantizer="ste_tern")(x), "ternary-weights"),
        (
            lambda x, conv: conv("a", kernel_quantizer=None, input_quantizer="ste_tern")(x),
            "ternary-activations",
        ),
    ],
)
def test_no_float_file_is_written_silently(network, conv, tmp_path, trunk, code):
    model = network(lambda x: layers.BatchNormalization()(trunk(x, conv)))
    assert [finding.code for finding in bnn_tf.lint(model).errors] == [code]
    with pytest.raises(ConversionError, match=rf"'a' \({code}\)"):
        convert(model, tmp_path / "model.tflite")


def test_the_form_is_chosen_by_what_the_convolutions_cost(conv):
    def model(size, kernel):
        image = tf.keras.Input((size, size, 3))
        x = layers.Conv2D(64, kernel, strides=2, padding="same")(image)
        x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(conv("conv")(x)))
        return folded(tf.keras.Model(image, layers.Dense(10)(x)))

    assert int8.choose(model(224, 7)) == (
        "plus", "int8 form 'plus': its real convolutions take 118 million multiplications, "
        "which int8 makes cheaper",
    )  # fmt: skip
    assert int8.choose(model(32, 3))[0] == "classifier"
    assert int8.choose(model(32, 3), int8_input=True)[0] == "mixed"


@pytest.mark.parametrize(
    ("quantizer", "code"),
    [("ste_tern", "ternary-activations"), ("magnitude_aware_sign", "batch-dependent"), ("ste_sign", None)],
)
def test_quantized_activations_before_real_kernels(network, conv, quantizer, code):
    model = network(conv("a", kernel_quantizer=None, input_quantizer=quantizer))
    assert [finding.code for finding in bnn_tf.lint(model).errors] == ([code] if code else [])


def test_a_sign_of_sums_that_may_be_zero(network, conv):
    def signs(bias):
        def trunk(x):
            x = conv("a", use_bias=True, bias_initializer=bias)(x)
            return tf.keras.layers.ReLU()(tf.sign(layers.MaxPooling2D()(x)))

        return network(trunk)

    model = signs("zeros")
    model.get_layer("a").bias.assign(tf.zeros(32))
    assert [finding.code for finding in bnn_tf.lint(model).errors] == ["sign-of-sums"]
    assert not bnn_tf.lint(signs("ones")).errors
