import json

import numpy as np

from bnn_tf import deploy
from bnn_tf._tensorflow import tf
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer


def test_a_layer_computed_from_the_arrays(network, conv, images, tmp_path):
    model = network(lambda x: tf.keras.layers.BatchNormalization(name="norm")(conv("conv", strides=2)(x)))
    deploy.weights(model, tmp_path / "weights.npz")
    arrays = np.load(tmp_path / "weights.npz")
    x = tf.keras.Model(model.input, model.get_layer("conv").input)(images)
    signs = tf.pad(tf.where(x >= 0, 1.0, -1.0), [[0, 0], [0, 1], [0, 1], [0, 0]], constant_values=1.0)
    sums = tf.nn.conv2d(signs, arrays["conv/kernel"].astype(np.float32), 2, "VALID").numpy()
    result = arrays["conv/multiplier"] * sums + arrays["conv/offset"]
    expected = tf.keras.Model(model.input, model.get_layer("norm").output)(images)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)
    above = np.where(
        arrays["conv/multiplier"] > 0, sums >= arrays["conv/threshold"], sums <= arrays["conv/threshold"]
    )
    np.testing.assert_array_equal(above, result >= 0)
    layout = json.loads(str(arrays["layout"]))
    assert layout["format"] == 1
    assert layout["layers"]["conv"]["strides"] == [2, 2]
    np.testing.assert_array_equal(arrays["stem/weight_kernel"], model.get_layer("stem").kernel)


def test_bits_are_those_of_the_file(network, conv):
    model = network(lambda x: conv("conv", 40, kernel_quantizer="ste_sign")(x), channels=48)
    arrays = deploy.weights(model)
    file = LceFile(to_flatbuffer(deploy.fold.fold(model)))
    (binary,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    np.testing.assert_array_equal(arrays["conv/bits"].view("<i4"), file.data(binary.inputs[1]))
