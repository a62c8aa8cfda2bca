"""The report, what concerns the whole model, and networks as they come."""

import itertools
import json

import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.lint import Finding, LintReport, Severity

layers = tf.keras.layers


def errors(model):
    return [(finding.code, finding.layer) for finding in bnn_tf.lint(model).errors]


@pytest.fixture
def report():
    findings = [
        Finding("bad", Severity.ERROR, "a", "it breaks", "Mend it"),
        *(Finding("slow", Severity.WARNING, f"l{i}", "it is slow", "Speed it up") for i in range(6)),
    ]
    return LintReport("net", tuple(findings))


def test_report_is_readable(report):
    assert str(report).splitlines() == [
        "error bad: a",
        "    it breaks",
        "    → Mend it",
        "warning slow: l0, l1, l2, l3 and 2 more",
        "    it is slow",
        "    → Speed it up",
        "net: 1 error, 6 warnings, 0 notes",
    ]
    assert str(report.errors[0]) == "error bad: a: it breaks. Mend it."


def test_report_is_json(report):
    plain = json.loads(json.dumps(report.to_dict()))
    assert (plain["model"], plain["errors"], plain["warnings"], plain["infos"]) == ("net", 1, 6, 0)
    assert plain["findings"][0] == {
        "code": "bad", "severity": "error", "layer": "a", "reason": "it breaks", "remedy": "Mend it",
    }  # fmt: skip


def refused(model, tmp_path):
    """Whether conversion refuses what lint calls an error of the whole model."""
    with pytest.raises(ConversionError):
        convert(model, tmp_path / "model.tflite", parity=False)
    return True


def test_subclassed_and_unbuilt_models(tmp_path):
    class Own(tf.keras.Model):
        def call(self, inputs):
            return inputs

    unbuilt = tf.keras.Sequential([layers.Dense(3)], name="unbuilt")
    for model in (Own(name="own"), unbuilt):
        assert errors(model) == [("not-functional", model.name)]
        assert refused(model, tmp_path)


def test_a_subclassed_model_inside_a_functional_one(tmp_path):
    class Own(tf.keras.Model):
        def call(self, inputs):
            return 2 * inputs

    image = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(image, Own(name="own")(image))
    assert errors(model) == [("not-functional", "own")]
    assert refused(model, tmp_path)


def test_integer_input(tmp_path):
    image = tf.keras.Input((4, 4, 3), dtype="uint8")
    model = tf.keras.Model(image, tf.cast(image, "float32"))
    assert errors(model) == [("integer-input", model.name)]
    assert refused(model, tmp_path)


def test_unknown_size(conv, tmp_path):
    image = tf.keras.Input((None, None, 32))
    model = tf.keras.Model(image, layers.BatchNormalization()(conv("conv")(image)))
    assert errors(model) == [("unknown-size", model.name)]
    assert refused(model, tmp_path)


def test_layers_without_configuration(network, conv):
    class Own(lq.quantizers.Quantizer):
        precision = 1

        def __init__(self, function, name):
            super().__init__(name=name)

        def call(self, inputs):
            return lq.math.sign(inputs)

    model = network(conv("conv", input_quantizer=Own(lq.math.sign, "mine")))
    assert errors(model) == [("no-configuration", "conv")]


def test_mixed_precision_is_no_problem(network, residual):
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        report = bnn_tf.lint(network(residual))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert not report.errors
    assert "mixed-precision" in [finding.code for finding in report.infos]


def test_nested_models_name_their_layers(network, conv):
    def trunk(x):
        image = tf.keras.Input((8, 8, 32))
        inner = conv("conv", input_quantizer="ste_heaviside")
        return tf.keras.Model(image, layers.BatchNormalization()(inner(image)), name="block")(x)

    assert errors(network(trunk)) == [("zero-one-activations", "block/conv")]


def test_layers_inside_layers(network, conv):
    @tf.keras.utils.register_keras_serializable("test_linter")
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = conv("inner", kernel_quantizer="ste_tern")

        def call(self, inputs):
            return self.inner(inputs)

    report = bnn_tf.lint(network(Block(name="block")))
    assert [(f.code, f.layer) for f in report.errors] == [("ternary-weights", "block/inner")]
    assert ("hidden-layer", "block/inner") in [(f.code, f.layer) for f in report.infos]


def test_frozen_models(network, residual):
    model = bnn_tf.deploy.freeze(network(residual))
    before = [weight.copy() for weight in model.get_weights()]
    assert [(f.code, f.layer) for f in bnn_tf.lint(model).warnings if "pad" in f.code] == [
        ("zero-padding", "conv2")
    ]
    assert not errors(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (old == new).all()


def test_quantizers_with_weights(network, conv):
    class Threshold(lq.quantizers.Quantizer):
        precision = 1

        def build(self, shape):
            self.threshold = self.add_weight("threshold", shape=(shape[-1],), initializer="zeros")

        def call(self, inputs):
            return lq.math.sign(inputs - self.threshold)

    trunk = conv("conv", input_quantizer=Threshold())
    assert not errors(network(lambda x: layers.BatchNormalization()(trunk(x))))


def test_the_worst_comes_first_then_the_order_of_layers(network, conv):
    def trunk(x):
        for name, settings in (("a", {"pad_values": 0.0}), ("b", {"input_quantizer": "ste_heaviside"})):
            x = layers.BatchNormalization()(conv(name, **settings)(x))
        return layers.BatchNormalization()(conv("c", pad_values=0.0)(x))

    report = bnn_tf.lint(network(trunk))
    assert [(f.code, f.layer) for f in report.findings[:3]] == [
        ("zero-one-activations", "b"), ("zero-padding", "a"), ("zero-padding", "c"),
    ]  # fmt: skip


METHODS = ("bireal", "recu", "subbit", "ovsw", "real")
FAMILIES = ("cifar_resnet18a", "cifar_resnet20", "vgg_small", "bireal_net18", "react_resnet18", "resnet18")


QUICK = {*((family, "recu") for family in FAMILIES), *(("cifar_resnet18a", method) for method in METHODS)}


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(FAMILIES, METHODS)
    ],
)
def test_the_zoo_has_no_errors(family, method):
    import zoo

    options = {} if family.startswith(("cifar", "vgg")) else {"input_shape": (64, 64, 3)}
    report = bnn_tf.lint(zoo.get_model(family)(method=method, pad_values=1.0, **options))
    assert report.errors == ()
    assert "zero-padding" not in {finding.code for finding in report.warnings}
    known = {"input-channels", "activation-order"}
    assert {finding.code for finding in report.warnings} <= known
