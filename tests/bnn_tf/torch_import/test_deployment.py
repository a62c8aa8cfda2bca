"""What deployment makes of the flip before the first convolution."""

import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import int8
from bnn_tf.deploy.graph import read_frozen
from zoo import blocks, resnet


@pytest.fixture
def network():
    return resnet._resnet("small", (1, 1, 1, 1), "recu", (64, 64, 3), 5, 0.0, None, torch_padding=True)


def test_int8_finds_the_first_convolution_behind_the_flip(network):
    sites = int8.mixed(read_frozen(network))
    assert [call.layer.name for call in sites.layers] == ["stem_conv", "logits"]


def test_a_turned_image_needs_no_range_of_its_own():
    image = blocks.inputs((8, 8, 3))
    x = blocks.conv(blocks.oriented(image, True), 4, 3, "stem_conv")
    model = blocks.finish(image, blocks.classifier(x, 3), "small", None)
    graph = read_frozen(tf.keras.Model(model.input, model.output))
    rounded = int8.full(graph).tensors
    assert not [call for call in graph.calls if call.layer.name == "flip" and call.outputs[0] in rounded]
