"""Other people's networks in a method's form, as far as the converted file."""

import numpy as np
import pytest

import bnn_tf
from bnn_tf._tensorflow import lq, tf
from bnn_tf.errors import UsageError, UserError
from bnn_tf.training import set_seeds

layers = tf.keras.layers


def plain(size=16):
    """A usual Keras CNN: activations inside the convolutions, no BatchNorm behind the second one."""
    return tf.keras.Sequential(
        [
            layers.Input((size, size, 3)),
            layers.Conv2D(32, 3, activation="relu", padding="same", name="a"),
            layers.Conv2D(32, 3, activation="relu", padding="same", name="b"),
            layers.MaxPool2D(name="pool"),
            layers.Conv2D(64, 3, padding="same", name="c"),
            layers.BatchNormalization(name="c_norm"),
            layers.ReLU(name="c_relu"),
            layers.Dropout(0.1, name="drop"),
            layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False, name="d"),
            layers.BatchNormalization(name="d_norm"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(10, name="logits"),
        ]
    )


def binary_net():
    """The network of Larq's BinaryNet tutorial for CIFAR-10, narrower."""
    options = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
    inner = {"input_quantizer": "ste_sign", **options}
    norm = {"momentum": 0.999, "scale": False}
    net = [
        layers.Input((32, 32, 3)),
        lq.layers.QuantConv2D(32, 3, **options),
        layers.BatchNormalization(**norm),
    ]
    for filters, pool in ((32, True), (64, False), (64, True), (64, False), (64, True)):
        net.append(lq.layers.QuantConv2D(filters, 3, padding="same", **inner))
        net += [layers.MaxPool2D()] * 0 + ([layers.MaxPool2D(2)] if pool else [])
        net.append(layers.BatchNormalization(**norm))
    net.append(layers.Flatten())
    for units in (64, 10):
        net += [lq.layers.QuantDense(units, **inner), layers.BatchNormalization(**norm)]
    return tf.keras.Sequential([*net, layers.Activation("softmax")], name="binary_net")


def notes(model):
    return {layer.name: (layer.binary, layer.note) for layer in bnn_tf.binarize_report(model).layers}


def test_what_changes_in_a_plain_network(rng):
    model = plain()
    before = [w.copy() for w in model.get_weights()]
    mine = bnn_tf.binarize(model, method="recu")
    assert notes(mine) == {
        "a": (False, "the first layer; relu replaced by the method's activation: its signs are all +1"),
        "b": (True, "BatchNorm inserted; relu replaced by the method's activation: its signs are all +1"),
        "c": (True, ""),
        "c_relu": (False, "relu replaced by the method's activation: its signs are all +1"),
        "d": (True, ""),
        "logits": (False, "no convolution"),
    }
    assert bnn_tf.binarize_report(mine).binary == ("b", "c", "d")
    for name in "bcd":
        new, old = mine.get_layer(name), model.get_layer(name)
        assert type(new.kernel_quantizer) is bnn_tf.quantizers.ReCU
        np.testing.assert_array_equal(bnn_tf.transforms.latent_value(new.kernel), old.kernel)
        assert (new.strides, new.use_bias) == (old.strides, old.use_bias)
    for name in ("a", "logits", "d_norm"):
        for one, other in zip(mine.get_layer(name).weights, model.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(mine.get_layer("c_relu"), bnn_tf.layers.HardTanh)
    images = rng.normal(size=(4, 16, 16, 3)).astype("f")
    signs = tf.keras.Model(mine.input, mine.get_layer("d").input)(images).numpy()
    assert 0.1 < (signs < 0).mean() < 0.9


def test_a_method_with_real_kernels_makes_none_binary():
    model = plain()
    mine = bnn_tf.binarize(model, "real")
    assert bnn_tf.binarize_report(mine).binary == ()
    assert str(bnn_tf.binarize_report(mine)).startswith("0 binary convolutions, method Real(")
    real = "the method leaves its kernel real"
    assert notes(mine) == {
        "a": (False, "the first layer"),
        "b": (False, f"{real}; BatchNorm inserted"),
        "c": (False, real),
        "d": (False, real),
        "logits": (False, "no convolution"),
    }
    assert mine.get_layer("a").activation is tf.keras.activations.relu
    assert isinstance(mine.get_layer("c_relu"), layers.ReLU)


def test_a_method_of_signs_and_real_kernels_replaces_rectifiers():
    mine = bnn_tf.binarize(plain(), bnn_tf.methods.Real("sign"))
    assert notes(mine)["c"] == (False, "the method leaves its kernel real")
    assert isinstance(mine.get_layer("c_relu"), bnn_tf.layers.HardTanh)


def test_a_frozen_network_trains_what_has_changed():
    model = plain()
    model.trainable = False
    mine = bnn_tf.binarize(model, "recu")
    trained = {weight.name.split("/")[0] for weight in mine.trainable_weights}
    assert trained == {"b", "b_bn", "c", "c_norm", "d", "d_norm"}
    assert notes(mine)["c"] == (True, "trainable again")
    assert notes(mine)["c_norm"] == (False, "trainable again, because its input has changed")
    assert not model.get_layer("c").trainable


def test_functions_and_shared_layers_as_activations(rng):
    image = layers.Input((8, 8, 3))
    relu = layers.ReLU(name="relu")
    x = relu(layers.Conv2D(8, 3, name="a")(image))
    x = tf.nn.relu(layers.Conv2D(8, 3, name="b")(x))
    x = relu(layers.Conv2D(8, 3, name="c")(x))
    model = tf.keras.Model(image, layers.Conv2D(2, 1, name="d")(layers.Conv2D(8, 1, name="e")(x)))
    mine = bnn_tf.binarize(model, "bireal")
    assert bnn_tf.binarize_report(mine).binary == ("b", "c", "e")
    images = rng.normal(size=(4, 8, 8, 3)).astype("f")
    for name in "bce":
        signs = tf.keras.Model(mine.input, mine.get_layer(name).input)(images).numpy()
        assert 0 < (signs < 0).mean() < 1


def gated(x):
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="gate")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    return layers.multiply([layers.ReLU()(x), gate])


NEVER_NEGATIVE = {
    "noise": lambda x: layers.GaussianNoise(0.1)(layers.ReLU()(x)),
    "alpha dropout": lambda x: layers.AlphaDropout(0.1)(layers.ReLU()(x)),
    "reshape": lambda x: layers.Reshape((2, 18, 8))(layers.ReLU()(x)),
    "tf.reshape": lambda x: tf.reshape(layers.ReLU()(x), (-1, 2, 18, 8)),
    "sum": lambda x: layers.add([layers.ReLU()(x), tf.nn.relu(tf.reverse(x, [1]))]),
    "operators": lambda x: (2 * layers.ReLU()(x) + 1) / 3,
    "clip": lambda x: tf.clip_by_value(x, 0, 6),
    "maximum": lambda x: tf.maximum(x, 0.0),
    "mean": lambda x: layers.AveragePooling2D()(layers.Activation("softplus")(x)),
    "LeakyReLU": lambda x: layers.LeakyReLU()(layers.ReLU()(x)),
    "concatenation": lambda x: layers.concatenate([layers.ReLU()(x), x]),
    "gate": gated,
}


@pytest.mark.parametrize("name", NEVER_NEGATIVE)
def test_signs_differ_behind_whatever_is_never_negative(name, rng):
    image = layers.Input((8, 8, 3))
    x = NEVER_NEGATIVE[name](layers.Conv2D(8, 3, name="a")(image))
    x = layers.Conv2D(8, 1, name="b")(x)
    model = tf.keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    mine = bnn_tf.binarize(model, "bireal", keep=lambda layer: layer.name in ("a", "gate"))
    signs = tf.keras.Model(mine.input, mine.get_layer("b").input)(rng.normal(size=(4, 8, 8, 3))).numpy()
    share = (signs < 0).mean(axis=(0, 1, 2))
    assert (share > 0).all()
    assert (share < 1).all()
    assert any("its signs are all +1" in note for _, note in notes(mine).values())
    assert notes(mine).get("gate", (False, "kept on request")) == (False, "kept on request")


@pytest.mark.parametrize(
    "activation", [lambda x: x, lambda x: layers.add([layers.ReLU()(x), x]), lambda x: tf.nn.relu(x) - 1]
)
def test_activations_whose_signs_differ_stay(activation):
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, name="b")(activation(layers.Conv2D(8, 3, name="a")(image)))
    mine = bnn_tf.binarize(tf.keras.Model(image, layers.Conv2D(8, 1, name="c")(x)), "bireal")
    assert not any("replaced" in note for _, note in notes(mine).values())


@pytest.mark.parametrize(
    "between", [layers.GaussianNoise(0.1), layers.Activation("gelu"), layers.PReLU(), layers.MaxPool2D()]
)
def test_one_norm_is_enough(between):
    image = layers.Input((8, 8, 3))
    x = layers.BatchNormalization()(between(layers.Conv2D(8, 3, name="b")(layers.Conv2D(8, 1)(image))))
    mine = bnn_tf.binarize(tf.keras.Model(image, layers.Conv2D(2, 1)(x)), "bireal")
    assert notes(mine)["b"] == (True, "")


def test_a_function_of_the_users_inside_a_convolution():
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, activation=lambda x: 2 * x, name="b")(layers.Conv2D(8, 1)(image))
    mine = bnn_tf.binarize(tf.keras.Model(image, layers.Conv2D(2, 1)(x)), "bireal")
    assert mine.get_layer("b_function").activation(3) == 6


@pytest.mark.slow
def test_it_trains(rng):
    method = bnn_tf.methods.OvSW()
    mine = bnn_tf.binarize(plain(8), method)
    mine.compile(
        method.optimizer("sgd", learning_rate=0.05, momentum=0.9),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    labels = np.arange(32) % 2
    images = rng.normal(size=(32, 8, 8, 3)).astype("f") + labels[:, None, None, None]
    history = mine.fit(images, labels, epochs=6, verbose=0, callbacks=method.callbacks(6)).history
    assert history["loss"][-1] < history["loss"][0] / 2


def test_what_is_kept():
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="first")(image)
    side = layers.Conv2D(16, 1, strides=2, name="side")(x)
    pooled = layers.Conv2D(16, 1, name="pooled")(layers.AveragePooling2D()(x))
    y = layers.Conv2D(16, 3, strides=2, padding="same", name="main")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depth")(layers.add([y, side, pooled]))
    y = layers.Conv2D(16, 1, name="point")(y)
    y = layers.Conv2D(16, 3, groups=4, name="grouped")(y)
    model = tf.keras.Model(image, layers.Conv2D(5, 1, name="last")(y))

    def binary(**options):
        return set(bnn_tf.binarize_report(bnn_tf.binarize(model, "bireal", **options)).binary)

    assert binary() == {"main", "point"}
    assert binary(keep=("first", "last")) == {"main", "point", "side", "pooled"}
    assert binary(keep=("first", "last", "downsampling", "main")) == {"point"}
    assert binary(keep=()) == {"first", "main", "point", "side", "pooled", "last"}
    assert binary(keep=lambda layer: layer.name != "main") == {"main"}
    reasons = notes(bnn_tf.binarize(model, "bireal"))
    assert reasons["depth"] == (False, "a depthwise convolution")
    assert reasons["grouped"] == (False, "its convolution has groups")
    assert reasons["pooled"] == (False, "a 1×1 convolution where the size shrinks")
    with pytest.raises(UsageError, match="keep names 'firts', which is neither one of first, last"):
        binary(keep=("firts",))


def test_what_cannot_be_binarized():
    with pytest.raises(UserError, match="no convolution to binarize"):
        bnn_tf.binarize(tf.keras.Sequential([layers.Input((4,)), layers.Dense(2)]), "recu")
    with pytest.raises(UserError, match="subclassed or not built"):
        bnn_tf.binarize(tf.keras.Sequential([layers.Conv2D(2, 3)]), "recu")
    with pytest.raises(UsageError, match="no method called"):
        bnn_tf.binarize(plain(), "recoup")
    with pytest.raises(UserError, match="was not made by bnn_tf.binarize"):
        bnn_tf.binarize_report(plain())


def quicknet():
    import larq_zoo

    return larq_zoo.sota.QuickNetSmall(weights=None, input_shape=(32, 32, 3), num_classes=10)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("make", "count", "dense"), [(plain, 3, 0), (binary_net, 5, 2), (quicknet, 16, 0)])
def test_all_converted(make, count, dense, tmp_path, rng):
    set_seeds(2)
    mine = bnn_tf.binarize(make(), method="recu")
    assert len(bnn_tf.binarize_report(mine).binary) == count
    # A step with statistics of its own, so that little lies exactly on a threshold. They have not settled.
    mine.compile("sgd", "mse")
    images = rng.normal(size=(16, *mine.input_shape[1:])).astype("f")
    mine.fit(images, np.zeros((16, mine.output_shape[-1]), "f"), epochs=1, verbose=0)
    report = bnn_tf.convert(mine, tmp_path / "model.tflite", allow_disagreement=True)
    # BinaryNet's dense layers were binary before, and run as 1×1 convolutions.
    assert report.actual_binary_convs == report.expected_binary_convs == count + dense
