"""Real LCE models: the filter layout, the share of the file, and a model that still runs."""

import numpy as np
import pytest

from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy.lce_file import LceFile
from bnn_tf.subbit import compress, expand

layers = tf.keras.layers


def convert(signs, pad_values=0, normalization=None):
    """A net of one binary convolution per kernel `(cout, 3, 3, cin)`, as LCE's `.tflite`."""
    import larq_compute_engine

    signs = [each.astype(np.float32).transpose(1, 2, 3, 0) for each in signs]
    x = inputs = tf.keras.Input((6, 6, signs[0].shape[2]))
    for kernel in signs:
        convolution = lq.layers.QuantConv2D(
            kernel.shape[3],
            3,
            padding="same",
            pad_values=pad_values,
            use_bias=False,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
        )
        x = convolution(x)
        convolution.set_weights([kernel])
        if normalization:
            norm = layers.BatchNormalization()
            x = norm(x)
            norm.set_weights(normalization(kernel.shape[3]))
    return larq_compute_engine.convert_keras_model(tf.keras.Model(inputs, x))


def stored_words(model, filters):
    return np.frombuffer(model, "<i4", filters.size // 4, filters.offset).reshape(filters.shape)


@pytest.mark.sample(2)
@pytest.mark.parametrize(("cout", "cin"), [(8, 32), (16, 40), (3, 5)])
def test_filter_layout(tools, rng, cout, cin):
    signs = rng.choice([-1, 1], (cout, 3, 3, cin))
    model = convert([signs])
    (filters,) = LceFile(model).binary_filters()
    assert filters.shape == (cout, 3, 3, -(-cin // 32))
    np.testing.assert_array_equal(stored_words(model, filters), tools.pack_filter(signs))


@pytest.mark.sample(1)
@pytest.mark.parametrize("bits", [4, 5, 6])
def test_share_and_results(tools, rng, bits):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    signs = [tools.draw_signs(rng, 128, cin, 2**bits) for cin in (64, 128)]
    model = convert(signs)
    data, report = compress(model)
    restored = expand(data)
    assert restored == model
    books = sum(layer.codebook_bytes for layer in report.layers)
    assert report.coded_bytes <= (bits / 9 + 0.01) * report.raw_bytes + books
    assert len(model) - len(data) >= report.raw_bytes - report.coded_bytes - 200
    image = rng.normal(size=(1, 6, 6, 64)).astype(np.float32)
    np.testing.assert_array_equal(Interpreter(restored).predict(image), Interpreter(model).predict(image))


def test_channels_that_lce_reverses(tools, rng):
    """A negative factor before a fused sign: LCE stores the filter negated (padding excepted)."""

    def normalization(channels):
        factors = np.where(np.arange(channels) % 2, -1.0, 1.0)
        return [factors, rng.normal(size=channels), rng.normal(size=channels), np.ones(channels)]

    signs = [tools.draw_signs(rng, 64, cin, 32) for cin in (40, 64)]
    model = convert(signs, pad_values=1, normalization=normalization)
    reversed_signs = signs[0] * np.where(np.arange(64) % 2, -1, 1)[:, None, None, None]
    first = LceFile(model).binary_filters()[0]
    np.testing.assert_array_equal(stored_words(model, first), tools.pack_filter(reversed_signs))
    data, report = compress(model)
    assert expand(data) == model
    assert [layer.bits for layer in report.layers] == [5, 5]


def test_real_network_is_kept_as_it_is():
    import larq_compute_engine

    x = inputs = tf.keras.Input((6, 6, 3))
    model = larq_compute_engine.convert_keras_model(
        tf.keras.Model(inputs, layers.Conv2D(4, 3, name="real")(x))
    )
    data, report = compress(model)
    assert expand(data) == model
    assert report.layers == ()
    assert report.note
