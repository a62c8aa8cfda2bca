"""The small layers: values by hand, gradients, configuration, mixed precision."""

import copy

import numpy as np
import pytest

from bnn_tf import layers, math, methods, quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError
from bnn_tf.training.strategies import precision

LAYERS = {
    "output_scale": layers.OutputScale,
    "output_scale_ones": lambda: layers.OutputScale("ones"),
    "learnable_bias": layers.LearnableBias,
    "hard_tanh": layers.HardTanh,
    "leaky_clip": layers.LeakyClip,
    "leaky_clip_steep": lambda: layers.LeakyClip(slope=0.25),
    "batch_normalization": layers.BatchNormalization,
    "flip": layers.Flip,
    "channel_pad": lambda: layers.ChannelPad(1, 2),
}
X = np.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0], np.float32).reshape(1, 7, 1, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_round_trip(name):
    layer = LAYERS[name]()
    again = tf.keras.utils.deserialize_keras_object(tf.keras.utils.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_known_before_any_data(name):
    inputs = tf.keras.Input((None, None, 4))
    channels = 7 if name == "channel_pad" else 4
    assert LAYERS[name]()(inputs).shape.as_list() == [None, None, None, channels]


@pytest.mark.parametrize("name", LAYERS)
def test_half_precision(name):
    layer = type(LAYERS[name]()).from_config({**LAYERS[name]().get_config(), "dtype": "mixed_float16"})
    with tf.GradientTape() as tape:
        y = layer(tf.constant(X))
        loss = tf.reduce_sum(tf.cast(y, tf.float32))
    assert y.dtype == tf.float16
    assert all(g.dtype == tf.float32 for g in tape.gradient(loss, layer.trainable_weights))


def test_output_scale(value_and_gradients):
    layer = layers.OutputScale()
    layer.build((None, 4, 4, 500))
    alpha = layer.scale.numpy()
    assert alpha.shape == (500,)
    assert 0 <= alpha.min() < 0.05 < 0.95 < alpha.max() < 1

    layer = layers.OutputScale(tf.keras.initializers.Constant([2.0, -3.0]))
    x = np.ones((1, 2, 2, 2), np.float32)
    with tf.GradientTape() as tape:
        y = layer(x)
    np.testing.assert_array_equal(y, x * [2, -3])
    np.testing.assert_array_equal(tape.gradient(y, layer.scale), [4, 4])


def test_output_scale_starts_differently_in_every_layer():
    first, second = layers.OutputScale(), layers.OutputScale()
    for layer in (first, second):
        layer.build((None, 8))
    assert not np.array_equal(first.scale, second.scale)


def test_learnable_bias():
    layer = layers.LearnableBias()
    np.testing.assert_array_equal(layer(X), X)
    layer.bias.assign([0.25])
    with tf.GradientTape() as tape:
        y = layer(X)
    np.testing.assert_array_equal(y, X + 0.25)
    np.testing.assert_array_equal(tape.gradient(y, layer.bias), [7])


@pytest.mark.parametrize(
    ("layer", "values", "slopes"),
    [
        (layers.HardTanh(), [-1, -1, -0.5, 0, 0.5, 1, 1], [0, 0, 1, 1, 1, 0, 0]),
        (layers.LeakyClip(), [-1.2, -1, -0.5, 0, 0.5, 1, 1.2], [0.1, 1, 1, 1, 1, 1, 0.1]),
        (layers.LeakyClip(0.5), [-2, -1, -0.5, 0, 0.5, 1, 2], [0.5, 1, 1, 1, 1, 1, 0.5]),
    ],
)
def test_clips(layer, values, slopes, value_and_gradients):
    training = {"training": True} if isinstance(layer, layers.HardTanh) else {}
    value, (gradient,) = value_and_gradients(lambda x: layer(x, **training), X, upstream=np.float32(1))
    np.testing.assert_allclose(value.ravel(), values, rtol=1e-6)
    np.testing.assert_allclose(gradient.ravel(), slopes, rtol=1e-6)


def test_channel_pad(rng):
    x = rng.normal(size=(2, 3, 3, 4)).astype(np.float32)
    y = layers.ChannelPad(2, 1)(x).numpy()
    assert y.shape == (2, 3, 3, 7)
    np.testing.assert_array_equal(y[..., 2:6], x)
    np.testing.assert_array_equal(y[..., [0, 1, 6]], np.zeros((2, 3, 3, 3)))


def test_flip(rng):
    x = rng.normal(size=(2, 3, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(layers.Flip()(x), x[:, ::-1, ::-1])


def step_of(layer, x, upstream, graph=True):
    """Output and gradients of a training step through one layer."""

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        return y, tape.gradient(loss, [x, *layer.trainable_weights])

    return (tf.function(step) if graph else step)(tf.constant(x))


TRAINED = {
    "output_scale": lambda **kw: layers.OutputScale(tf.keras.initializers.RandomUniform(-1, 1, seed=0), **kw),
    "learnable_bias": layers.LearnableBias,
    "hard_tanh": layers.HardTanh,
    "batch_normalization": lambda **kw: layers.BatchNormalization(epsilon=1e-5, momentum=0.9, **kw),
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_steps_in_graphs_compute_the_same(name, rng):
    """There they are compiled."""
    x, upstream = rng.normal(0.5, 2, size=(2, 8, 16, 16, 3)).astype(np.float32)
    assert x.size >= math.SMALLEST_COMPILED
    layer = TRAINED[name]()
    eager, graph = step_of(layer, x, upstream, graph=False), step_of(layer, x, upstream)
    for a, b in zip(tf.nest.flatten(graph), tf.nest.flatten(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sums_in_half_precision_are_single_precision(name, policy, rng):
    """4,096 gradients of 20 overflow float16, and bfloat16 stops counting at 256."""
    x, upstream = rng.uniform(0.5, 1.5, (4, 32, 32, 2)).astype(np.float32), np.float32(20)
    single, half = TRAINED[name](), TRAINED[name](dtype=policy)
    (y, expected), (z, actual) = step_of(single, x, upstream), step_of(half, x, upstream)
    assert z.dtype == half.compute_dtype
    np.testing.assert_allclose(tf.cast(z, tf.float32), y, atol=0.05)
    for a, b in zip(actual[1:], expected[1:], strict=True):
        assert a.dtype == tf.float32
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=5)


@pytest.fixture(params=[True, False], ids=["oneDNN", "own kernels"])
def onednn(request, monkeypatch):
    """Whether layers take it that TensorFlow computes with oneDNN."""
    monkeypatch.setattr(layers.util_port, "IsMklEnabled", lambda: request.param)
    return request.param


@pytest.mark.usefixtures("onednn")
def test_batch_normalization_is_keras(rng):
    x = rng.normal([3, -4, 0.1], [2, 0.5, 3], size=(8, 16, 16, 3)).astype(np.float32)
    upstream = rng.normal(size=x.shape).astype(np.float32)
    own, keras = (
        cls(epsilon=1e-5, momentum=0.9, gamma_initializer=tf.keras.initializers.Constant([1.5, -0.5, 2.0]))
        for cls in (layers.BatchNormalization, tf.keras.layers.BatchNormalization)
    )
    for _ in range(3):
        actual, expected = (step_of(layer, x, upstream) for layer in (own, keras))
        for a, b in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    for a, b in zip(own.weights, keras.weights, strict=True):
        assert a.name.split("/")[-1] == b.name.split("/")[-1]
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(own(x), keras(x), rtol=1e-3, atol=1e-3)
    frozen = [w.numpy() for w in own.weights]
    own.trainable = False
    step_of(own, x, upstream)
    for a, b in zip(own.weights, frozen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("onednn", [False], indirect=True)
@pytest.mark.usefixtures("onednn")
def test_batch_normalization_is_closer_than_keras(rng):
    """To the formulas in float64, also where gradients have a mean and sums cancel."""
    x, upstream = rng.normal([3, -4, 1, 0], [2, 0.5, 1, 3], size=(2, 64, 32, 32, 4)).astype(np.float32)
    wide, axes = x.astype(float), (0, 1, 2)
    normalized = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-5)
    exact = normalized, (upstream * normalized).sum(axes)
    errors = []
    for cls in (layers.BatchNormalization, tf.keras.layers.BatchNormalization):
        y, (_, to_gamma, _) = step_of(cls(epsilon=1e-5), x, upstream)
        errors.append([np.abs(a - b).max() for a, b in zip((y, to_gamma), exact, strict=True)])
    assert errors[0][0] < 1e-5
    assert (np.array(errors[0]) <= errors[1]).all()


def test_inference_holds_plain_operations_alone(rng):
    model = tf.keras.Sequential([tf.keras.Input((64, 64, 3)), *(make() for make in TRAINED.values())])
    x = tf.constant(rng.normal(size=(2, 64, 64, 3)).astype(np.float32))

    def compiled(training):
        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = model(x, training=training)
            return tape.gradient(y, x)

        graph = gradient.get_concrete_function(x).graph
        return [
            op for op in graph.get_operations() if op.type in ("PartitionedCall", "StatefulPartitionedCall")
        ]

    assert compiled(training=True)
    assert not compiled(training=False)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_larqs_summary_and_saving_take_them_all(tmp_path, rng):
    model = tf.keras.Sequential([tf.keras.Input((5, 5, 2)), *(make() for make in LAYERS.values())])
    lq.models.summary(model, print_fn=(lines := []).append)
    assert "channel_pad" in "".join(lines)
    x = rng.normal(size=(2, 5, 5, 2)).astype(np.float32)
    for name in ("model.keras", "model.h5", "saved_model"):
        model.save(tmp_path / name, **({"save_format": "tf"} if name == "saved_model" else {}))
        again = tf.keras.models.load_model(tmp_path / name)
        np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (layers.LeakyClip, {"slope": float("nan")}, "slope must be a number at least 0, not nan"),
        (layers.LeakyClip, {"slope": -0.1}, "slope must be a number at least 0"),
        (layers.ChannelPad, {"before": -1, "after": 1}, "before must be a whole number at least 0, not -1"),
        (layers.ChannelPad, {"before": 1, "after": 0.5}, "after must be a whole number at least 0, not 0.5"),
    ],
)
def test_nonsense_is_refused(layer, arguments, message):
    with pytest.raises(UsageError, match=message):
        layer(**arguments)


class TestRecomputedSigns:
    """What a training step computes does not depend on whether signs are kept; what it keeps does."""

    @staticmethod
    def convolution(recompute, quantizer="approx_sign", **options):
        conv = lq.layers.QuantConv2D(
            6, 3, use_bias=False, input_quantizer=quantizer, kernel_quantizer="scaled_sign", **options
        )
        if recompute:
            layers.recompute_signs(conv)
        return conv

    @staticmethod
    def graph(conv, x, training=True):
        """The graph of a step that gives the output and the gradients to input and kernel."""

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = conv(x, training=training)
                loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 3)
            return y, *tape.gradient(loss, (x, conv.trainable_weights[0]))

        return step.get_concrete_function(x)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"padding": "same", "strides": 2},
            {"padding": "same", "pad_values": 1.0, "strides": 2},
            {"padding": "same", "pad_values": 1.0, "dilation_rate": 2},
            {"padding": "same", "dilation_rate": 2},
            {"quantizer": quantizers.ApproxSign(normalize=True)},
            {"quantizer": quantizers.ApproxSign(normalize=True, stop_gradient=True)},
            {"quantizer": "ste_sign"},
            {"kind": "float16"},
            {"kind": "bfloat16"},
        ],
        ids=[
            "plain",
            "stride",
            "ones",
            "ones dilated",
            "dilated",
            "normalized",
            "normalized stopped",
            "ste_sign",
            "float16",
            "bfloat16",
        ],  # fmt: skip
    )
    @pytest.mark.parametrize("side", [5, 40], ids=["small", "compiled"])
    def test_output_and_gradients_are_equal(self, options, side, rng):
        options = dict(options)
        x = tf.constant(rng.normal(size=(2, side, side, 4)).astype("f"))
        with precision(options.pop("kind", "float32")):
            plain, sparing = (self.convolution(recompute, **options) for recompute in (False, True))
        for conv in (plain, sparing):
            conv.build(x.shape)
        sparing.set_weights(plain.get_weights())
        for expected, actual in zip(self.graph(plain, x)(x), self.graph(sparing, x)(x), strict=True):
            assert actual.dtype == expected.dtype
            np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(sparing(x, training=True), plain(x, training=True))  # eagerly

    def test_only_what_the_signs_were_taken_of_is_kept(self, rng):
        x = tf.constant(rng.normal(size=(2, 40, 40, 4)).astype("f"))
        for recompute in (False, True):
            graph = self.graph(self.convolution(recompute), x).graph
            operations = {op.type: op for op in graph.get_operations()}
            forward = next(op for op in graph.get_operations() if op.type == "Conv2D")
            signs = operations["Conv2DBackpropFilter"].inputs[0]
            assert (signs is not forward.inputs[0]) == recompute
            if recompute:  # from the input alone, and not before the gradient has come
                behind = [signs.op]
                for op in behind:
                    behind += [tensor.op for tensor in op.inputs if tensor.op not in behind]
                assert graph.inputs[0].op in behind
                assert forward not in behind
                assert any(op.control_inputs for op in behind)

    @pytest.mark.parametrize("training", [False, None])
    def test_inference_has_larqs_graph(self, training):
        def operations(recompute):
            conv, x = self.convolution(recompute, padding="same", pad_values=1.0), tf.ones((2, 6, 6, 4))
            conv(x)
            graph = tf.function(lambda x: conv(x, training=training)).get_concrete_function(x).graph
            return [op.type for op in graph.get_operations()]

        assert operations(True) == operations(False)

    def test_networks_of_all_methods_have_it_where_their_activations_are_signs(self):
        def has_it(method):
            image = tf.keras.Input((6, 6, 4))
            conv = tf.keras.Model(image, method.binary_conv(image, 8, name="conv")).get_layer("conv")
            return "call" in vars(conv)

        for method in (
            methods.BiReal(),
            methods.ReCU(),
            methods.OvSW(),
            methods.SubBit(),
            methods.Real("sign"),
        ):
            assert has_it(method), method
        assert not has_it(methods.Real("relu"))

    def test_a_quantizer_that_is_not_known_for_its_signs_is_left_alone(self):
        class Noisy(quantizers.ApproxSign):
            def call(self, inputs, training=None):
                return super().call(inputs + tf.random.normal(tf.shape(inputs)), training=training)

        class Own(methods.BiReal):
            def input_quantizer(self):
                return Noisy()

        image = tf.keras.Input((6, 6, 4))
        model = tf.keras.Model(image, Own().binary_conv(image, 8, name="conv"))
        assert "call" not in vars(model.get_layer("conv"))

    def test_copies_and_configurations(self):
        conv = self.convolution(True)
        twin = copy.deepcopy(conv)
        assert twin.call.__self__ is twin
        assert type(conv).from_config(conv.get_config()).name == conv.name
        assert conv.get_config().keys() == self.convolution(False).get_config().keys()
