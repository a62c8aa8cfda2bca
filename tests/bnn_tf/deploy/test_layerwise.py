import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import convert, folding, freezing, graph, layerwise, lce

layers = tf.keras.layers


def judge(model, images, **broken):
    deployed = freezing.read_frozen(model)
    folding.fold_graph(deployed)
    for call in deployed.calls:
        if call.layer.name in broken:
            broken[call.layer.name](call.layer.weights)
    content = lce.to_flatbuffer(deployed.build())
    return layerwise.first_divergence(graph.read(model), deployed, content, images)


@pytest.fixture
def deep(network, conv):
    def trunk(x):
        for number in range(4):
            x = layers.add([x, layers.BatchNormalization(name=f"bn{number}")(conv(f"conv{number}")(x))])
        return x

    return network(trunk)


def test_a_right_conversion_diverges_nowhere(deep, images):
    assert judge(deep, images) is None


@pytest.mark.parametrize(("layer", "place"), [("bn0", "'conv1'"), ("bn2", "'conv3'"), ("bn3", "the output")])
def test_the_first_wrong_layer_is_named(deep, images, layer, place):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.1

    divergence = judge(deep, images, **{layer: shift})
    assert place in divergence.place
    assert 0.05 < divergence.difference < 0.5
    assert divergence.share > 0.5
    assert place in str(divergence)


def test_networks_without_signs(network, images):
    def halve(weights):
        weights["kernel"] = weights["kernel"] / 2

    model = network(layers.ReLU())
    assert judge(model, images) is None
    assert judge(model, images, stem=halve).place == "the output"


def test_one_wrong_channel_is_found(deep, images):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.1 * np.eye(32)[5].astype(np.float32)

    assert "'conv2'" in judge(deep, images, bn1=shift).place


def test_an_untrained_network_full_of_ties_is_settled(conv, tmp_path, rng):
    # Sums of ±s that cancel are zero for LCE, but some 1e-8 for Keras: every image has flipped signs.
    x = image = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, padding="same")(x)
    for number in range(4):
        x = layers.BatchNormalization()(conv(f"conv{number}", kernel_initializer="glorot_normal")(x))
    x = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    report = convert(tf.keras.Model(image, x), tmp_path / "model.tflite")
    assert report.parity.moved_share > 0.25
    assert report.parity.layers_agree
    assert report.parity.agrees
    assert "each layer by itself agrees" in str(report)
