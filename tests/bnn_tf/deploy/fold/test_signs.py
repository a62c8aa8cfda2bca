"""What folding does before signs: activations, max pools, thresholds, minus signs."""

import numpy as np
import pytest

import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import facts
from bnn_tf.deploy.fold import fold
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.layers import HardTanh, LeakyClip, LearnableBias, OutputScale

layers = tf.keras.layers


def kinds(model):
    return [type(layer) for layer in model.layers]


def assert_same(model, images):
    folded = fold(model)
    before, after = (np.asarray(net(images, training=False)) for net in (model, folded))
    assert np.median(np.abs(before - after).max(axis=1)) < 1e-5 * before.std()
    return folded


DROPPED = {
    "hard-tanh": HardTanh,
    "leaky clip": LeakyClip,
    "PReLU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "LeakyReLU": layers.LeakyReLU,
    "Larq's hard-tanh": lambda: layers.Activation("hard_tanh"),
    "tanh": lambda: layers.Activation("tanh"),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("pool", [False, True])
def test_activations_before_signs_go(network, conv, images, name, pool):
    def trunk(x):
        x = DROPPED[name]()(layers.BatchNormalization()(conv("conv1")(x)))
        x = layers.MaxPooling2D()(x) if pool else x
        return layers.BatchNormalization()(conv("conv2")(DROPPED[name]()(x)))

    model = network(trunk)
    assert type(DROPPED[name]()) in kinds(model)
    assert type(DROPPED[name]()) not in kinds(assert_same(model, images))


def test_activations_inside_a_convolution_go_too(network, conv, images):
    def trunk(x):
        return conv("conv2")(conv("conv1", activation="hard_tanh", use_bias=True)(x))

    assert layers.Activation not in kinds(assert_same(network(trunk), images))


def read_by_a_sum(x, conv):
    x = HardTanh()(layers.BatchNormalization()(x))
    return layers.add([x, conv("conv1")(x)])


def given_to_a_norm(x, conv):
    return conv("conv1")(layers.BatchNormalization()(HardTanh()(x)))


def before_a_mean(x, conv):
    return conv("conv1")(layers.AveragePooling2D()(HardTanh()(x)))


def not_monotone(x, conv):
    return conv("conv1")(HardTanh()(layers.ReLU()(layers.BatchNormalization()(x))))


@pytest.mark.parametrize("trunk", [read_by_a_sum, given_to_a_norm, before_a_mean, not_monotone])
def test_activations_that_matter_stay(network, conv, images, trunk):
    folded = assert_same(network(lambda x: trunk(x, conv)), images)
    assert {HardTanh, layers.ReLU} & set(kinds(folded))


def test_an_output_keeps_its_activation(network, conv, images):
    model = network(lambda x: conv("conv1")(HardTanh(name="clip")(x)))
    model = tf.keras.Model(model.input, [model.output, model.get_layer("clip").output])
    clipped = fold(model)(images)[1]
    np.testing.assert_allclose(clipped, model(images)[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("quantizer", "expected"),
    [
        (lq.quantizers.SteSign(), True),
        (lq.quantizers.ApproxSign(), True),
        (lq.math.sign, True),
        (lq.quantizers.SteHeaviside(), False),
        (lq.quantizers.SteTern(), False),
        (lq.quantizers.DoReFa(), False),
        (tf.sign, False),
        (lambda x: lq.math.sign(x - tf.reduce_mean(x)), False),
        (None, False),
    ],
)
def test_signs_are_recognised_by_what_they_do(quantizer, expected):
    assert facts.is_sign(quantizer) is expected


def pooled(conv, pad_values, pool=layers.MaxPooling2D):
    def trunk(x):
        x = conv("conv1", pad_values=pad_values)(x)
        x = HardTanh()(layers.BatchNormalization(name="bn")(pool()(x)))
        return layers.BatchNormalization()(conv("conv2", pad_values=pad_values)(x))

    return trunk


def order(model, *names):
    present = [layer.name for layer in model.layers]
    return sorted(names, key=present.index)


@pytest.mark.parametrize("scale", ["positive", "zeros", "mixed"])
@pytest.mark.parametrize("pad_values", [0.0, 1.0])
def test_norms_move_before_max_pools(network, conv, images, scale, pad_values):
    model = network(pooled(conv, pad_values, lambda: layers.MaxPooling2D(name="pool")))
    gamma = model.get_layer("bn").gamma
    if scale != "mixed":
        gamma.assign(tf.abs(gamma) * ([0.0, 1.0] * 16 if scale == "zeros" else 1.0))
    folded = assert_same(model, images)
    assert order(folded, "bn", "pool") == ["bn", "pool"]
    assert (folded.get_layer("bn").gamma.numpy() >= 0).all()


def test_ties_keep_their_sign_where_the_minus_moves(network, conv, images):
    # even sums against an even threshold: the norm gives exactly 0, of which the sign is +1
    def trunk(x):
        x = conv("conv1", kernel_quantizer="ste_sign", pad_values=0.0)(x)
        x = layers.BatchNormalization(name="bn", epsilon=0.0)(layers.MaxPooling2D()(x))
        return layers.BatchNormalization()(conv("conv2", pad_values=0.0)(x))

    model = network(trunk)
    norm = model.get_layer("bn")
    norm.set_weights([-np.ones(32), np.full(32, 4.0), np.zeros(32), np.ones(32)])
    before = tf.keras.Model(model.input, norm.output)(images)
    assert np.mean(before == 0) > 0.01
    assert_same(model, images)


@pytest.mark.parametrize("pool", [layers.AveragePooling2D, layers.MaxPooling2D])
def test_real_convolutions_take_norms_behind_pools(network, images, pool):
    def trunk(x):
        return layers.BatchNormalization(name="bn")(pool(name="pool")(layers.Conv2D(8, 3)(x)))

    model = network(trunk)
    folded = assert_same(model, images)
    assert order(folded, "bn", "pool") == ["bn", "pool"]


def test_norms_before_signs_become_thresholds(network, conv, images):
    def trunk(x):
        y = layers.BatchNormalization(name="bn")(x)
        y = layers.BatchNormalization()(conv("conv1", pad_values=0.0)(HardTanh()(y)))
        y = OutputScale(tf.keras.initializers.RandomUniform(0.5, 1))(layers.add([x, y]))
        return layers.add([x, layers.BatchNormalization()(conv("conv2")(y))])

    folded = assert_same(network(lambda x: trunk(layers.ReLU()(x))), images)
    assert isinstance(folded.get_layer("bn"), LearnableBias)
    assert OutputScale not in kinds(folded)


@pytest.mark.slow
def test_vgg_small_stays_bit_packed(randomized, rng):
    model = randomized(zoo.VGGSmall(method="recu", input_shape=(16, 16, 3), pad_values=1.0))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):  # some scales stay negative, as after training
            gamma = np.abs(layer.gamma)
            layer.gamma.assign(gamma * np.where(np.arange(gamma.size) % 16, 1, -1))
    folded = assert_same(model, rng.standard_normal((8, 16, 16, 3), np.float32))
    operators = [operator.name for operator in LceFile(to_flatbuffer(folded)).operators]
    assert operators == [
        "CONV_2D", "LceQuantize", "LceBconv2d", "LceBMaxPool2d", "LceBconv2d", "LceBconv2d", "LceBMaxPool2d",
        "LceBconv2d", "LceBconv2d", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED",
    ]  # fmt: skip
