import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import Interpreter
from bnn_tf.deploy.lce_file import LceFile, to_flatbuffer
from bnn_tf.errors import UserError


@pytest.fixture(scope="module")
def dense():
    """A plain network of one layer and its converted form."""
    image = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(image, tf.keras.layers.Dense(5)(tf.keras.layers.Flatten()(image)))
    return model, to_flatbuffer(model)


def test_predict_keeps_the_order_of_the_images(dense, rng):
    model, content = dense
    images = rng.standard_normal((3, 4, 4, 3), np.float32)
    interpreter = Interpreter(content)
    np.testing.assert_allclose(
        interpreter.predict(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-5
    )
    assert interpreter.input_shape == (1, 4, 4, 3)
    assert interpreter.output_shape == (1, 5)


def test_predict_takes_doubles_and_no_images(dense):
    interpreter = Interpreter(dense[1], num_threads=1)
    assert interpreter.predict(np.zeros((2, 4, 4, 3))).dtype == np.float32
    assert interpreter.predict(np.zeros((0, 4, 4, 3))).shape == (0, 5)


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (4, 4, 3), (2, 4, 4), ()])
def test_wrong_image_shape_is_refused(dense, shape):
    with pytest.raises(UserError, match=r"takes images of shape \(4, 4, 3\)"):
        Interpreter(dense[1]).predict(np.zeros(shape, np.float32))


def test_reads_files(dense, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(dense[1])
    assert Interpreter(path).output_shape == (1, 5)
    assert Interpreter(str(path)).output_shape == (1, 5)
    assert [op.name for op in LceFile(path).operators] == [op.name for op in LceFile(dense[1]).operators]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read the model file .*nothing.tflite"):
        Interpreter(tmp_path / "nothing.tflite")


@pytest.mark.parametrize("content", [b"", b"not a model at all" * 10, bytes(100)])
def test_a_file_without_the_mark_is_refused(content, tmp_path):
    path = tmp_path / "text.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match="text.tflite' is no TFLite model"):
        Interpreter(path)
    with pytest.raises(UserError, match="text.tflite' is no TFLite model"):
        LceFile(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(dense, kept):
    # unverified, it would crash the process
    content = dense[1]
    with pytest.raises(UserError, match="damaged or incomplete"):
        Interpreter(content[: int(kept * len(content))])


def test_overwritten_bytes_are_refused(dense):
    content = dense[1]
    with pytest.raises(UserError, match="damaged or incomplete"):
        Interpreter(content[:40] + b"\xff" * 60 + content[100:])


def test_operators_tell_types_and_shapes(dense):
    (product,) = [op for op in LceFile(dense[1]).operators if op.name == "FULLY_CONNECTED"]
    assert product.outputs[0].shape == (1, 5)
    assert product.outputs[0].type == "FLOAT32"
    assert product.inputs[1].shape == (5, 48)
    assert [tensor.is_constant for tensor in product.inputs[:2]] == [False, True]


def test_outputs_keep_their_order():
    image = x = tf.keras.Input((4, 4, 1))
    outputs = [x := tf.keras.layers.Conv2D(channels, 1)(x) for channels in range(1, 13)]
    content = to_flatbuffer(tf.keras.Model(image, outputs))
    from bnn_tf.deploy import interpreter

    results = interpreter.run(LceFile(content), [np.ones((1, 4, 4, 1), np.float32)])
    assert [result.shape[-1] for result in results] == list(range(1, 13))
