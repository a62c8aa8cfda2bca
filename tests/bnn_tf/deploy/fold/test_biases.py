import numpy as np
import pytest

import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.fold import fold
from bnn_tf.layers import ChannelPad, LearnableBias

layers = tf.keras.layers


def biases(model):
    return [layer.name for layer in model.layers if isinstance(layer, LearnableBias)]


def assert_same(model, images):
    folded = fold(model)
    expected = tf.nest.flatten(model(images, training=False))
    results = tf.nest.flatten(folded(images, training=False))
    for before, after in zip(expected, results, strict=True):
        difference = np.abs(before - after).max(axis=tuple(range(1, before.shape.rank)))
        assert np.median(difference) < 1e-5 * np.std(before)
    return folded


def test_react_blocks_keep_their_thresholds_alone(randomized, rng):
    model = randomized(
        zoo.ReActResNet18(method="bireal", input_shape=(48, 48, 3), num_classes=10, pad_values=1.0)
    )
    folded = assert_same(model, rng.standard_normal((8, 48, 48, 3), np.float32))
    assert len(biases(model)) == 48
    assert biases(folded) == [f"stage{s}_block{b}_threshold" for s in (1, 2, 3, 4) for b in (1, 2, 3, 4)]


TAKEN = {
    "norm": lambda x: layers.BatchNormalization()(LearnableBias()(layers.ReLU()(x))),
    "real convolution": lambda x: layers.Conv2D(8, 3)(LearnableBias()(x)),
    "convolution with activation": lambda x: layers.Conv2D(8, 1, activation="relu")(LearnableBias()(x)),
    "pool and classifier": lambda x: layers.AveragePooling2D()(LearnableBias()(layers.ReLU()(x))),
    "max pool": lambda x: layers.MaxPooling2D(3, 2, "same")(LearnableBias()(layers.ReLU()(x))),
    "padded mean": lambda x: layers.AveragePooling2D(3, 2, "same")(LearnableBias()(layers.ReLU()(x))),
    "channel padding": lambda x: ChannelPad(3, 1)(LearnableBias()(layers.ReLU()(x))),
    "sums": lambda x: layers.add([LearnableBias()(layers.ReLU()(x)), LearnableBias()(x)]),
    "operator +": lambda x: LearnableBias()(layers.ReLU()(x)) + LearnableBias()(x),
    "back into the norm": lambda x: layers.PReLU(shared_axes=[1, 2])(
        LearnableBias()(layers.add([layers.BatchNormalization()(x), layers.ReLU()(x)]))
    ),
    "back into the convolution": lambda x: layers.ReLU()(
        LearnableBias()(layers.MaxPooling2D()(layers.Conv2D(4, 3)(x)))
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_biases_are_taken(network, images, name):
    model = network(TAKEN[name])
    assert biases(model)
    assert not biases(assert_same(model, images))


def threshold_and_activation(x):
    y = LearnableBias()(layers.ReLU()(x))
    return layers.concatenate([lq.quantizers.SteSign()(y), layers.ReLU()(y)])


def norm_read_thrice(x):
    y = layers.BatchNormalization()(x)
    return layers.concatenate([y, layers.ReLU()(LearnableBias()(y)), layers.ReLU()(y)])


LEFT = {
    "zeros are padded": lambda x: layers.Conv2D(8, 3, padding="same")(LearnableBias()(layers.ReLU()(x))),
    "rows are padded": lambda x: layers.ZeroPadding2D()(LearnableBias()(layers.ReLU()(x))),
    "before an activation": lambda x: layers.ReLU()(LearnableBias()(layers.ReLU()(x))),
    "one serves two": threshold_and_activation,
    "what is read elsewhere": norm_read_thrice,
}


@pytest.mark.parametrize("name", LEFT)
def test_biases_that_nothing_takes_stay(network, images, name):
    assert len(biases(assert_same(network(LEFT[name]), images))) == 1


def test_an_output_in_the_middle_keeps_its_value(network, images):
    model = network(lambda x: LearnableBias(name="shift")(layers.BatchNormalization()(x)))
    model = tf.keras.Model(model.input, [model.output, model.get_layer("shift").output])
    assert_same(model, images)


def test_shared_layers_keep_their_weights(network, images):
    def trunk(x):
        norm, shift = layers.BatchNormalization(), LearnableBias()
        return layers.add([norm(shift(layers.ReLU()(x))), norm(x), shift(x)])

    assert_same(network(trunk), images)


def test_biases_pass_concatenations(network, conv, images):
    """ReAct's blocks with shortcuts that double the channels: the map behind takes the bias."""

    def trunk(x):
        x = LearnableBias()(layers.ReLU()(x))
        x = layers.Concatenate()([layers.AveragePooling2D()(x), layers.AveragePooling2D()(x)])
        return layers.BatchNormalization()(x)

    assert not biases(assert_same(network(trunk), images))
