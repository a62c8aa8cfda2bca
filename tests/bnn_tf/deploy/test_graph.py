import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import graph as graphs

layers = tf.keras.layers


def outputs(model, inputs):
    return tf.nest.map_structure(np.asarray, model(inputs, training=False))


def rebuilt(model):
    return graphs.read(model).build()


def same(first, second, *inputs):
    inputs = list(inputs) if len(inputs) > 1 else inputs[0]
    for a, b in zip(
        tf.nest.flatten(outputs(first, inputs)),
        tf.nest.flatten(outputs(second, inputs)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_operators_keywords_and_constants(images):
    image = tf.keras.Input((8, 8, 3))
    x = 2.0 * image - 1.0
    x = tf.concat([x, tf.nn.relu(image)], axis=-1)
    x = tf.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [1, 2]], constant_values=3.0)
    x = layers.Add()([x, x])
    a, b = tf.split(x, [2, 7], axis=-1)
    model = tf.keras.Model(image, layers.Concatenate()([b, a]))
    same(model, rebuilt(model), images)


def test_several_inputs_and_outputs(images):
    first, second = tf.keras.Input((8, 8, 3)), tf.keras.Input((8, 8, 3))
    shared = layers.Conv2D(4, 3)
    outputs = [shared(first), shared(second), layers.Subtract()([first, second])]
    model = tf.keras.Model([first, second], outputs)
    copy = rebuilt(model)
    same(model, copy, images, images[::-1])
    assert len(copy.layers) == len(model.layers)
    assert len(copy.weights) == 2


def test_nested_models_are_inlined(images):
    inner_image = tf.keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="conv")
    inner = tf.keras.Model(inner_image, conv(inner_image), name="inner")
    image = tf.keras.Input((8, 8, 3))
    x = inner(inner(image))
    x = tf.keras.Sequential([layers.ReLU(), layers.Conv2D(2, 1, name="conv")], name="tail")(x)
    model = tf.keras.Model(image, x)
    copy = rebuilt(model)
    same(model, copy, images)
    assert not any(isinstance(layer, tf.keras.Model) for layer in copy.layers)
    assert {layer.name for layer in copy.layers} >= {"inner/conv", "tail/conv"}
    assert len(copy.weights) == 4


def test_weights_follow_their_names_not_their_order(images):
    image = tf.keras.Input((8, 8, 3))
    norm = layers.BatchNormalization(trainable=False)
    model = tf.keras.Model(image, norm(layers.Conv2D(2, 3, trainable=False)(image)))
    norm.set_weights([np.float32([i, i + 1]) for i in range(1, 5)])
    same(model, rebuilt(model), images)


def test_adapted_preprocessing(images):
    normalize = layers.Normalization()
    normalize.adapt(images * 3 + 1)
    image = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model(image, normalize(image))
    same(model, rebuilt(model), images)


def test_a_fixed_batch_size_is_dropped(images):
    image = tf.keras.Input((8, 8, 3), batch_size=4)
    assert rebuilt(tf.keras.Model(image, layers.ReLU()(image))).input_shape == (None, 8, 8, 3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_low_precision_becomes_float32(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        image = tf.keras.Input((8, 8, 3))
        model = tf.keras.Model(image, layers.BatchNormalization()(layers.Conv2D(2, 3)(image)))
        copy = rebuilt(model)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    assert copy.output.dtype == tf.float32
    np.testing.assert_array_equal(copy.layers[1].kernel.numpy(), model.layers[1].kernel.numpy())


@pytest.fixture
def chain():
    """A graph of input → a → b, with b also reading the input."""
    image = tf.keras.Input((2,))
    a = layers.Activation("relu", name="a")(image)
    model = tf.keras.Model(image, layers.Add(name="b")([a, image]))
    return graphs.read(model)


def test_insert_and_remove(chain):
    x = np.float32([[-1, 2]])
    source, a, _ = chain.calls
    name = graphs.unique_name(chain, "a")
    assert name == "a_1"
    call = chain.insert_after(
        a.outputs[0], graphs.Spec(layers.Activation, {"name": name, "activation": "tanh"})
    )
    np.testing.assert_allclose(outputs(chain.build(), x), [[-1, 2 + np.tanh(2)]], rtol=1e-6)
    chain.remove(call)
    np.testing.assert_allclose(outputs(chain.build(), x), [[-1, 4]])
    chain.remove(a)
    np.testing.assert_allclose(outputs(chain.build(), x), [[-2, 4]])
    chain.insert_after(
        chain.outputs[0], graphs.Spec(layers.Activation, {"name": "last", "activation": "relu"})
    )
    np.testing.assert_allclose(outputs(chain.build(), x), [[0, 4]])


def test_a_layer_without_its_name_is_refused():
    class Own(layers.Layer):
        def __init__(self, factor=2):
            super().__init__(name="own")
            self.factor = factor

        def call(self, x):
            return x * self.factor

    with pytest.raises(graphs.ConversionError, match="the layer 'own' .Own. cannot be made again"):
        graphs.read(tf.keras.Sequential([tf.keras.Input((2,)), Own()]))


def test_sole_consumer(chain):
    source, a, b = chain.calls
    assert chain.sole_consumer(a.outputs[0]) is None  # b reads the input, too
    assert chain.sole_consumer(source.outputs[0]) is None  # two readers
    assert chain.sole_consumer(b.outputs[0]) is None  # the network's output
    call = chain.insert_after(
        a.outputs[0], graphs.Spec(layers.Activation, {"name": "c", "activation": "relu"})
    )
    assert chain.sole_consumer(a.outputs[0]) is call
