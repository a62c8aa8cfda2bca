import json

import numpy as np
import pytest

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, fold, graph, lint, proof
from bnn_tf.deploy.convert import convert
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.deploy.proof import Disagreement
from bnn_tf.layers import HardTanh, LearnableBias

layers = tf.keras.layers


def prove(model, images, **broken):
    deployed = graph.read_frozen(model)
    fold.fold_graph(deployed)
    for call in deployed.calls:
        if call.layer.name in broken:
            broken[call.layer.name](call.layer.weights)
    file = LceFile(to_flatbuffer(deployed.build()))
    return proof.prove(graph.read(model), deployed, file, [images])


def judge(model, images, **broken):
    return prove(model, images, **broken).divergence


@pytest.fixture
def deep(network, conv):
    def trunk(x):
        for number in range(4):
            x = layers.add([x, layers.BatchNormalization(name=f"bn{number}")(conv(f"conv{number}")(x))])
        return x

    return network(trunk)


def test_a_right_conversion_diverges_nowhere(deep, images):
    assert judge(deep, images) is None


@pytest.mark.sample(1)
@pytest.mark.parametrize(("layer", "place"), [("bn0", "'conv1'"), ("bn2", "'conv3'"), ("bn3", "the output")])
def test_the_first_wrong_layer_is_named(deep, images, layer, place):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.1

    divergence = judge(deep, images, **{layer: shift})
    assert place in divergence.place
    assert 0.05 < divergence.difference < 0.5
    assert divergence.share > 0.5
    assert place in str(divergence)


@pytest.mark.slow
def test_layers_that_compute_the_difference_are_named(deep, images):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.1

    assert judge(deep, images, bn0=shift).sources == ("conv0",)
    assert judge(deep, images, bn2=shift).sources == ("conv2",)
    assert judge(deep, images, bn3=shift).sources == ("conv3", "logits")


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
    model = tf.keras.Model(image, x)
    with pytest.raises(ConversionError, match="less than 95%.*each layer by itself agrees"):
        convert(model, tmp_path / "model.tflite")
    report = convert(model, tmp_path / "model.tflite", allow_disagreement=True)
    assert report.parity.moved_share > 0.25
    assert report.parity.layers_agree


def test_flipped_signs_are_counted(deep, images):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.1

    layers = prove(deep, images, bn1=shift).layers
    assert [layer.layer for layer in layers] == ["conv0", "conv1", "conv2", "conv3"]
    assert {layer.signs for layer in layers} == {8 * 8 * 8 * 32}
    assert [layer.wrong > 0 for layer in layers] == [False, False, True, False]
    assert layers[2].flipped > 10
    assert 0.05 < layers[2].largest < 0.11
    assert "not near zero" in str(layers[2])


@pytest.fixture
def bit_packed(network, conv):
    """Max pools, hard-tanh and thresholds, of which folding leaves signs alone."""

    def trunk(x):
        for number in range(3):
            x = layers.BatchNormalization()(conv(f"conv{number}")(HardTanh()(x)))
            x = LearnableBias()(layers.MaxPooling2D(2, 1)(x) if number == 1 else x)
        return layers.BatchNormalization(name="last")(conv("conv3")(HardTanh()(layers.ReLU()(x))))

    return network(trunk)


def test_signs_are_read_from_bit_packed_outputs_and_before_max_pools(bit_packed, images):
    proof = prove(bit_packed, images)
    assert proof.divergence is None
    assert [layer.layer for layer in proof.layers] == ["conv0", "conv1", "conv2", "conv3"]
    assert sum(layer.flipped for layer in proof.layers) == 0


def test_errors_are_found_where_the_file_has_signs_only(bit_packed, images):
    def shift(weights):
        weights["beta"] = weights["beta"] + 0.5

    names = [call.layer.name for call in graph.read_frozen(bit_packed).calls]
    first = names[names.index("conv0") + 1]
    divergence = judge(bit_packed, images, **{first: shift})
    assert "'conv1'" in divergence.place
    assert divergence.sources == ("conv0",)
    assert 0.3 < divergence.difference < 0.6


def test_symmetric_padding_at_stride_2_is_found_in_the_right_layer(network, conv, images, tmp_path):
    # LCE computes it as SAME padding, see LCE's list of patterns
    def trunk(x):
        x = lq.quantizers.SteSign(name="conv0")(x)
        x = layers.Conv2D(32, 3, strides=2, padding="valid", name="strided")(layers.ZeroPadding2D(1)(x))
        for number in (1, 2):
            x = layers.BatchNormalization()(conv(f"conv{number}")(HardTanh()(x)))
        return x

    # lint would refuse it before; what it does not know, the proof must see
    with lint.RULES.temporary(dict.fromkeys(lint.RULES)), pytest.raises(Disagreement) as caught:
        convert(network(trunk), tmp_path / "model.tflite", images=images)
    assert "the input of 'conv1' is the first to differ" in str(caught.value)
    assert "computed by 'strided'" in str(caught.value)
    flipped = {layer.layer: layer.wrong / layer.signs for layer in caught.value.report.layers}
    assert flipped["conv0"] == 0
    assert flipped["conv1"] > 0.1
    assert flipped["conv2"] == 0
    assert list(tmp_path.iterdir()) == []


def test_zero_padding_of_tiny_maps_is_found(network, conv, images, tmp_path):
    # LCE corrects zero padding wrongly where the map is smaller than the kernel
    def trunk(x):
        x = layers.BatchNormalization()(conv("conv0")(layers.MaxPooling2D(4)(x)))
        return layers.BatchNormalization()(conv("tiny", pad_values=0.0)(x))

    found = pytest.raises(Disagreement, match="the output is the first to differ.*computed by 'tiny'")
    with lint.RULES.temporary(dict.fromkeys(lint.RULES)), found:
        convert(network(trunk), tmp_path / "model.tflite", images=images)


def test_dense_layers_and_shared_layers(network, conv, images):
    def trunk(x):
        shared = conv("shared")
        x = layers.BatchNormalization()(shared(layers.BatchNormalization()(shared(x))))
        x = layers.Flatten()(x)
        settings = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
        x = layers.BatchNormalization()(lq.layers.QuantDense(36, name="dense", **settings)(x))
        return layers.Reshape((1, 1, 36))(x)

    proof = prove(network(trunk), images)
    assert proof.divergence is None
    assert [layer.layer for layer in proof.layers] == ["shared", "shared", "dense"]


def test_a_kernel_of_one_sign_is_read_from_the_operator_that_fills_it(network, conv, images, tmp_path):
    """As of an untrained sub-bit network, whose kernels start positive."""
    model = network(conv("all_minus", 512), channels=512)
    model.get_layer("all_minus").kernel.assign(tf.fill((3, 3, 512, 512), -0.1))
    content = to_flatbuffer(graph.read_frozen(model).build())
    (tmp_path / "fill.tflite").write_bytes(content)
    assert "FILL" in [operator.name for operator in LceFile(tmp_path / "fill.tflite").operators]
    proof = prove(model, images)
    assert proof.divergence is None
    assert [(layer.layer, layer.flipped) for layer in proof.layers] == [("all_minus", 0)]


def test_the_table_stands_in_the_report(deep, images, tmp_path):
    report = convert(deep, tmp_path / "model.tflite", images=images).parity
    assert report.table().count("signs flipped") == 4
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["layers"][0] == {"layer": "conv0", "signs": 16384, "flipped": 0, "wrong": 0, "largest": 0.0}


def test_digits_lost_behind_a_dead_channel_are_no_error(network, conv, images, monkeypatch):
    """Behind a ReLU that is always 0, BatchNorm has no variance, and LCE's bias a large factor to carry."""

    def trunk(x):
        x = layers.BatchNormalization(name="bn0")(x)
        y = layers.ReLU()(conv("conv1")(x))
        return conv("conv2")(layers.add([layers.BatchNormalization(name="bn1", epsilon=1e-5)(y), x]))

    model = network(trunk)
    first, kernel, norm = (model.get_layer(name) for name in ("bn0", "conv1", "bn1"))
    many, one = np.arange(32) < 20, np.arange(32) == 7
    for variable, where, value in (
        (first.gamma, many, 0.01),  # these channels have the sign 1 everywhere
        (first.beta, many, 1.0),
        (kernel.kernel, one, -0.1),
        (norm.gamma, one, 1000.0),
        (norm.moving_variance, one, 0.0),
        (norm.moving_mean, one, 0.0),
        (norm.beta, one, 0.4321),
    ):
        variable.assign(np.where(where, value, variable.numpy()))
    assert judge(model, images) is None

    def shift(weights):
        weights["beta"] = weights["beta"] + 9.0 * one.astype(np.float32)

    assert judge(model, images, bn1=shift).place == "the input of 'conv2'"
    monkeypatch.setattr(proof, "LAST_DIGIT", 0.0)
    assert judge(model, images).place == "the input of 'conv2'"
