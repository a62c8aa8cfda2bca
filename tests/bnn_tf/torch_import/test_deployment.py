"""What deployment makes of the flip before the first convolution."""

import pytest

import zoo
from bnn_tf import methods
from bnn_tf._tensorflow import tf
from bnn_tf.deploy import int8
from bnn_tf.deploy.graph import read_frozen
from bnn_tf.layers import Flip
from zoo import blocks


@pytest.fixture
def network():
    return zoo.ResNet18(stages=(1, 1, 1, 1), input_shape=(64, 64, 3), num_classes=5, torch_padding=True)


def test_int8_finds_the_first_convolution_behind_the_flip(network):
    sites = int8.mixed(read_frozen(network))
    assert [call.layer.name for call in sites.layers] == ["stem_conv", "logits"]


def test_a_turned_image_needs_no_range_of_its_own():
    image = tf.keras.Input((8, 8, 3))
    net = blocks.Builder(methods.Real())
    model = tf.keras.Model(image, net.classifier(net.conv(Flip(name="flip")(image), 4, 3, "stem_conv"), 3))
    graph = read_frozen(tf.keras.Model(model.input, model.output))
    rounded = int8.full(graph).tensors
    assert not [call for call in graph.calls if call.layer.name == "flip" and call.outputs[0] in rounded]
