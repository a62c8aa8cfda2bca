import numpy as np
import pytest

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError, freeze


def outputs(model, inputs):
    return tf.nest.map_structure(np.asarray, model(inputs, training=False))


def larq_layers(model):
    return [layer for layer in model.layers if hasattr(layer, "input_quantizer")]


@pytest.mark.parametrize(
    "quantizer", ["ste_sign", "magnitude_aware_sign", "recu", "scaled_sign", "identity_sign"]
)
def test_kernels_hold_what_their_quantizers_made(network, conv, images, quantizer):
    model = network(
        lambda x: tf.keras.layers.BatchNormalization()(conv("conv", kernel_quantizer=quantizer)(x))
    )
    frozen = freeze(model)
    layer = frozen.get_layer("conv")
    assert layer.kernel_quantizer is None
    assert layer.kernel_constraint is None
    assert layer.input_quantizer is not None
    with lq.context.quantized_scope(True):
        expected = model.get_layer("conv").kernel.numpy()
    np.testing.assert_array_equal(layer.kernel.numpy(), expected)
    assert len(np.unique(np.abs(expected[..., 0]))) == 1
    np.testing.assert_array_equal(outputs(frozen, images), outputs(model, images))


def test_the_model_stays_as_it_is(network, residual):
    model = network(residual)
    before = model.get_weights()
    frozen = freeze(model)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in frozen.layers}
    frozen.get_layer("stem").kernel.assign(0 * frozen.get_layer("stem").kernel)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.get_layer("conv1").kernel_quantizer is not None


def test_every_kind_of_larq_layer(images):
    binary = {"input_quantizer": "ste_sign"}
    model = tf.keras.Sequential(
        [
            lq.layers.QuantDepthwiseConv2D(3, depthwise_quantizer="magnitude_aware_sign", **binary),
            lq.layers.QuantSeparableConv2D(
                8, 3, depthwise_quantizer="ste_sign", pointwise_quantizer="magnitude_aware_sign", **binary
            ),
            tf.keras.layers.Flatten(),
            lq.layers.QuantDense(5, kernel_quantizer="magnitude_aware_sign", **binary),
        ]
    )
    expected = outputs(model, images)
    frozen = freeze(model)
    np.testing.assert_array_equal(outputs(frozen, images), expected)
    for layer in larq_layers(frozen):
        for key in ("kernel_quantizer", "depthwise_quantizer", "pointwise_quantizer"):
            assert getattr(layer, key, None) is None


def test_freezing_twice_changes_nothing(network, residual, images):
    once = freeze(network(residual))
    twice = freeze(once)
    np.testing.assert_array_equal(outputs(once, images), outputs(twice, images))


def test_composite_layers_keep_their_quantizers(network, conv, images):
    class Block(tf.keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.steps = [conv("inner", kernel_quantizer="recu"), tf.keras.layers.BatchNormalization()]

        def call(self, inputs):
            for step in self.steps:
                inputs = step(inputs)
            return inputs

    model = network(Block(name="block"))
    np.testing.assert_array_equal(outputs(freeze(model), images), outputs(model, images))


def test_subclassed_models_are_refused():
    class Own(tf.keras.Model):
        pass

    with pytest.raises(ConversionError, match="build it with tf.keras.Input"):
        freeze(Own())
