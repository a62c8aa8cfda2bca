"""Gradient transforms: the authors' 60 steps, properties, and which variables take part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from bnn_tf import codebook, layers, quantizers, transforms
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError
from bnn_tf.optimizers import SGD


def binary_kernel(value):
    return lq.quantized_variable.QuantizedVariable.from_variable(
        tf.Variable(np.asarray(value, np.float32)), quantizer=quantizers.IdentitySign()
    )


def one_of_each():
    """The kinds of variables of a model, by name."""
    conv = lq.layers.QuantConv2D(2, 3, kernel_quantizer=quantizers.SubBit(bits=3))
    real, batch_norm, scale = (
        tf.keras.layers.Conv2D(2, 1),
        tf.keras.layers.BatchNormalization(),
        layers.OutputScale(),
    )
    prelu = tf.keras.layers.PReLU("ones", shared_axes=[1, 2])
    for layer in (conv, real, batch_norm, scale, prelu):
        layer.build((None, 5, 5, 2))
    return {
        "binary kernel": conv.kernel,
        "codebook": conv.kernel_quantizer.codebook,
        "real kernel": real.kernel,
        "bias": real.bias,
        "gamma": batch_norm.gamma,
        "alpha": scale.scale,
        "slopes": prelu.alpha,
    }


def norms(x):
    return np.sqrt((np.asarray(x, float) ** 2).sum(tuple(range(x.ndim - 1))))


# The authors' arrays


@pytest.mark.parametrize("graph", [False, True])
def test_ovsw_steps(golden, graph):
    a = dict(golden("ovsw_steps"))
    kernel = binary_kernel(a["w0"])
    silence = transforms.SilenceDecay(
        float(a["dampen_weight"]), float(a["track_momentum"]), float(a["track_threshold"])
    )
    optimizer = SGD(
        float(a["lr"]),
        float(a["momentum"]),
        transforms=[
            transforms.AdaptiveGradientScale(float(a["delta"])),
            silence,
            transforms.WeightDecay(float(a["weight_decay"])),
        ],
    )

    def step(gradient):
        optimizer.apply_gradients([(gradient, kernel)])

    step = tf.function(step) if graph else step
    for t in range(60):
        step(tf.constant(a["G"][t]))
        np.testing.assert_allclose(kernel.latent_variable, a["W"][t], rtol=1e-5, atol=2e-7)
        np.testing.assert_allclose(silence.tracker(kernel), a["tracker"][t], rtol=1e-5, atol=2e-7)


def test_ovsw_gradients_of_every_step(golden):
    """Both transforms apart, from the authors' own state before each step."""
    a = dict(golden("ovsw_steps"))
    delta = float(a["delta"])
    silence = transforms.SilenceDecay(
        float(a["dampen_weight"]), float(a["track_momentum"]), float(a["track_threshold"])
    )
    kernel = binary_kernel(a["w0"])
    for t in range(60):
        scaled = transforms.adaptive_gradient_scale(
            tf.constant(a["G"][t]), tf.convert_to_tensor(kernel), delta
        )
        np.testing.assert_allclose(scaled, a["grad_after_ags"][t], rtol=1e-5, atol=1e-7)
        active = (scaled.numpy() != a["G"][t]).any((0, 1, 2))
        np.testing.assert_array_equal(active, a["ags_active"][t])
        [(final, _)] = silence([(tf.constant(a["grad_after_ags"][t]), kernel)])
        np.testing.assert_allclose(final, a["grad_final"][t], rtol=1e-5, atol=1e-7)
        kernel.latent_variable.assign(a["W"][t])


# Adaptive gradient scaling


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 2.0), st.floats(-4, 2))
def test_ags_properties(seed, delta, exponent):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(3, 3, 4, 6))
    gradient = rng.normal(size=kernel.shape) * 10.0**exponent * 10 ** rng.uniform(-2, 2, 6)
    scaled = transforms.adaptive_gradient_scale(tf.constant(gradient), tf.constant(kernel), delta).numpy()

    before, after = norms(gradient) / norms(kernel), norms(scaled) / norms(kernel)
    assert (after >= before * (1 - 1e-12)).all()
    untouched = before >= delta
    np.testing.assert_array_equal(scaled[..., untouched], gradient[..., untouched])
    np.testing.assert_allclose(after[~untouched], delta, rtol=1e-12)
    np.testing.assert_array_equal(np.sign(scaled), np.sign(gradient))


def test_ags_bounds_tiny_norms():
    """A vanished gradient or kernel makes no infinity: ‖G‖ counts as 1e-6, ‖W‖ as 1e-3, at least."""
    gradient = tf.constant([[0.0, 1e-9, 1.0]])
    kernel = tf.constant([[1.0, 1.0, 0.0]])
    scaled = transforms.adaptive_gradient_scale(gradient, kernel, 0.5)
    np.testing.assert_allclose(scaled, [[0.0, 1e-9 * 0.5 * 1 / 1e-6, 1.0]], rtol=1e-6)


# Silence-aware decay


def test_silence_decay_by_hand():
    kernel = binary_kernel([[1.0, -2.0]])
    silence = transforms.SilenceDecay(decay=0.5, momentum=0.5, threshold=0.25)
    zero = tf.zeros((1, 2))
    expected = [  # sign of the second weight, tracker, addition to its gradient
        (-2.0, 0.0, -1.0),  # the first step sees no flip
        (2.0, 0.5, 0.0),  # flipped: protected
        (2.0, 0.25, 0.0),  # half of it is not below the threshold yet
        (2.0, 0.125, 1.0),
        (-2.0, 0.5625, 0.0),
    ]
    for value, tracker, addition in expected:
        kernel.latent_variable.assign([[1.0, value]])
        [(gradient, variable)] = silence([(zero, kernel)])
        assert variable is kernel
        np.testing.assert_allclose(silence.tracker(kernel), [[0.0, tracker]])
        np.testing.assert_allclose(gradient, [[0.5, addition]])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.99))
def test_silence_decay_spares_weights_that_flip(seed, momentum):
    rng = np.random.default_rng(seed)
    flips = np.abs(rng.normal(size=(4, 3))).astype(np.float32)
    kernel = binary_kernel(flips)
    silence = transforms.SilenceDecay(decay=1.0, momentum=momentum, threshold=(1 - momentum) / 2)
    gradient = tf.constant(rng.normal(size=(4, 3)).astype(np.float32))
    often = rng.random((4, 3)) < 0.5
    silence([(gradient, kernel)])
    for step in range(1, 6):
        value = np.where(often, flips * (-1) ** step, flips)
        kernel.latent_variable.assign(value)
        [(decayed, _)] = silence([(gradient, kernel)])
        np.testing.assert_array_equal(decayed.numpy()[often], gradient.numpy()[often])
        np.testing.assert_allclose(decayed.numpy()[~often], (gradient.numpy() + value)[~often], rtol=1e-5)


def test_trackers_that_start_at_one_spare_everything_at_first():
    kernel, gradient = binary_kernel([[1.0]]), tf.zeros((1, 1))
    silence = transforms.SilenceDecay(decay=1.0, momentum=0.9, threshold=0.85, initial=1.0)
    additions = [float(silence([(gradient, kernel)])[0][0][0, 0]) for _ in range(3)]
    np.testing.assert_allclose(silence.tracker(kernel), [[0.9**3]], rtol=1e-6)
    assert additions == [0.0, 1.0, 1.0]


def test_a_flip_across_zero_counts_from_the_sign_of_zero():
    kernel, gradient = binary_kernel([[0.0]]), tf.zeros((1, 1))
    silence = transforms.SilenceDecay(decay=1.0, momentum=0.0)
    for value, flipped in [(0.0, 0), (1.0, 0), (-1.0, 1), (0.0, 1), (0.0, 0)]:
        kernel.latent_variable.assign([[value]])
        silence([(gradient, kernel)])
        assert float(silence.tracker(kernel)[0, 0]) == flipped


def test_tracker_of_an_unknown_variable():
    with pytest.raises(KeyError, match="no tracker"):
        transforms.SilenceDecay(1e-3).tracker(tf.Variable(1.0, name="alpha"))


def test_trackers_of_equal_kernels_are_their_own():
    first, second = binary_kernel([[1.0]]), binary_kernel([[1.0]])
    silence = transforms.SilenceDecay(decay=1.0, momentum=0.0)
    silence.build([first, second])
    second.latent_variable.assign([[-1.0]])
    silence([(tf.zeros((1, 1)), second), (tf.zeros((1, 1)), first)])
    assert float(silence.tracker(first)[0, 0]) == 0
    assert float(silence.tracker(second)[0, 0]) == 1


# Weight decay and selection


@pytest.mark.parametrize(
    ("only", "decayed"),
    [
        (None, {"binary kernel", "codebook", "real kernel", "bias", "gamma", "alpha", "slopes"}),
        ("kernels", {"binary kernel", "real kernel"}),
        ("binary", {"binary kernel"}),
        (lambda v: "gamma" in v.name, {"gamma"}),
    ],
)
def test_weight_decay_selects(only, decayed):
    variables = one_of_each()
    pairs = transforms.WeightDecay(0.25, only)([(tf.ones_like(v), v) for v in variables.values()])
    changed = set()
    for (name, variable), (gradient, same) in zip(variables.items(), pairs, strict=True):
        assert same is variable
        latent = tf.convert_to_tensor(variable).numpy()
        if not np.array_equal(gradient, np.ones_like(latent)):
            changed.add(name)
            np.testing.assert_allclose(gradient, 1 + 0.25 * latent)
    # Biases are zero at the start, so decay leaves them as they are.
    assert changed == decayed - {"bias"}


@pytest.mark.parametrize("transform", [transforms.AdaptiveGradientScale(10.0), transforms.SilenceDecay(0.1)])
def test_ovsw_leaves_real_variables_alone(transform):
    variables = one_of_each()
    pairs = [(tf.fill(v.shape, 0.5), v) for v in variables.values()]
    result = transform(pairs)
    assert [v for _, v in result] == [v for _, v in pairs]
    changed = [
        name
        for name, (before, _), (after, _) in zip(variables, pairs, result, strict=True)
        if not np.array_equal(before, after)
    ]
    assert changed == ["binary kernel"]


def test_codebooks_and_vectors_are_no_kernels():
    variables = one_of_each()
    assert isinstance(variables["codebook"].constraint, codebook.Refinement)
    assert [name for name, v in variables.items() if transforms.is_kernel(v)] == [
        "binary kernel",
        "real kernel",
    ]


def test_latent_value_is_not_quantized():
    kernel = binary_kernel([[0.3]])
    with lq.context.quantized_scope(True):
        np.testing.assert_allclose(transforms.latent_value(kernel), [[0.3]])


# As Keras' gradient transformers, and as data


def test_keras_own_optimizers_take_them():
    kernel, plain = binary_kernel([[0.5, -1.0]]), tf.Variable([2.0])
    optimizer = tf.keras.optimizers.legacy.SGD(
        1.0, gradient_transformers=[transforms.SilenceDecay(0.5), transforms.WeightDecay(0.25)]
    )

    @tf.function
    def step():
        optimizer.apply_gradients([(tf.zeros((1, 2)), kernel), (tf.zeros(1), plain)])

    step()
    np.testing.assert_allclose(kernel.latent_variable, [[0.125, -0.25]])
    np.testing.assert_allclose(plain, [1.5])


@pytest.mark.parametrize(
    "transform",
    [
        transforms.WeightDecay(1e-4, only="kernels"),
        transforms.AdaptiveGradientScale(0.04),
        transforms.SilenceDecay(1e-3, momentum=0.9, threshold=0.1, initial=1.0),
    ],
)
def test_serialization(transform):
    again = transforms.deserialize(transforms.serialize(transform))
    assert type(again) is type(transform)
    assert again.get_config() == transform.get_config()
    assert transforms.deserialize(transform) is transform


def test_wrong_configurations_are_named():
    with pytest.raises(ValueError, match="'biases'"):
        transforms.WeightDecay(1.0, only="biases")
    with pytest.raises(ValueError, match="predicate"):
        transforms.WeightDecay(1.0, only=lambda v: True).get_config()
    with pytest.raises(ValueError, match="Momentum"):
        transforms.deserialize({"class_name": "Momentum", "config": {}})


class Gentle(transforms.SilenceDecay):
    """A subclass of a transform that somebody else might write."""


def test_subclasses_of_transforms_are_found_by_their_names():
    config = SGD(0.1, transforms=[Gentle(1e-4)]).get_config()
    assert config["transforms"][0]["class_name"] == "Gentle"
    (again,) = SGD.from_config(config).transforms
    assert (type(again), again.decay) == (Gentle, 1e-4)


def test_of_one_name_the_last_transform_counts():
    first, last = (type("Mine", (transforms.SilenceDecay,), {}) for _ in range(2))
    assert type(transforms.deserialize(transforms.serialize(first(0.1)))) is last


def test_a_name_of_the_package_is_refused():
    with pytest.raises(ValueError, match="there is a transform called 'SilenceDecay' already"):
        type("SilenceDecay", (transforms.Transform,), {})
    assert transforms.TRANSFORMS.get("SilenceDecay") is transforms.SilenceDecay


class TestWhatDecays:
    """The sets of the papers, by the names of a small network's variables."""

    @staticmethod
    def decayed(only, model):
        pairs = [(tf.zeros_like(v), v) for v in model.trainable_weights]
        for _, variable in pairs:
            variable.assign(tf.ones_like(variable))
        changed = transforms.WeightDecay(1.0, only=only)(pairs)
        return {v.name.removesuffix(":0") for g, v in changed if np.any(g.numpy() != 0)}

    def test_snn(self):
        model = zoo.ReActResNet18(
            method="subbit", stages=(1, 1, 1, 1), input_shape=(32, 32, 3), num_classes=3
        )
        decayed = self.decayed("convolutions", model)
        left = {v.name.removesuffix(":0") for v in model.trainable_weights} - decayed
        assert {name.rpartition("/")[2] for name in decayed} == {"kernel", "bias", "codebook"}
        assert {name for name in left if "bias" in name or "kernel" in name} == {
            "logits/kernel",
            "logits/bias",
        }
        assert {name.rpartition("/")[2] for name in left} == {"kernel", "bias", "gamma", "beta", "alpha"}
        assert {
            "stem_conv/kernel",
            "stage2_block1_shortcut_conv/kernel",
            "stage1_block1_threshold/bias",
        } <= decayed

    def test_recu_on_imagenet(self):
        model = zoo.ResNet18(method="recu", stages=(1, 1, 1, 1), input_shape=(32, 32, 3), num_classes=3)
        decayed = self.decayed("main_path", model)
        assert {name.rpartition("/")[2] for name in decayed} == {"kernel", "scale", "bias"}
        assert {
            "stem_conv/kernel",
            "logits/kernel",
            "logits/bias",
        } <= decayed
        assert len([name for name in decayed if name.endswith("/scale")]) == 4
        assert not [name for name in decayed if "shortcut" in name]

    def test_unknown_sets_and_rates(self):
        with pytest.raises(UsageError, match="no selection of variables for weight decay called 'kernel'"):
            transforms.WeightDecay(1.0, only="kernel")
        for rate in (-1.0, float("nan"), float("inf"), "1"):
            with pytest.raises(UsageError, match="rate must be a number at least 0"):
                transforms.WeightDecay(rate)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.5])
@pytest.mark.parametrize("argument", ["momentum", "initial"])
def test_a_flip_tracker_refuses_nonsense(argument, value):
    with pytest.raises(UsageError, match=f"{argument} must be .* at least 0 and at most 1, not {value}"):
        transforms.FlipTracker(**{"momentum": 0.9, argument: value})
