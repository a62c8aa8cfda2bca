"""Reading files: what stands in them, and that no damage of them comes to more than one clear error."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.deploy import Interpreter, fold
from bnn_tf.deploy.lce_file import DamagedFile, LceFile, to_flatbuffer
from bnn_tf.errors import UserError
from bnn_tf.training import set_seeds

layers = tf.keras.layers
SCRIPT = Path(__file__).parents[3] / "scripts" / "check_tflite_fuzz.py"


@pytest.fixture(scope="module")
def content():
    """A converted network with a binary convolution."""
    from bnn_tf._tensorflow import lq

    set_seeds(0)
    x = image = tf.keras.Input((8, 8, 3), name="photo")
    x = layers.Conv2D(32, 3, padding="same", name="stem")(x)
    x = lq.layers.QuantConv2D(
        40, 3, padding="same", pad_values=1.0, strides=2, use_bias=False, input_quantizer="ste_sign",
        kernel_quantizer="ste_sign", name="binary",
    )(x)  # fmt: skip
    x = layers.BatchNormalization()(x)
    return to_flatbuffer(fold.fold(tf.keras.Model(image, layers.Dense(4)(layers.Flatten()(x)))))


def test_operators_and_their_options(content):
    file = LceFile(content)
    assert list(file.counts()) == [operator.name for operator in file.operators]
    (binary,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    assert (binary.options["stride_height"], binary.options["channels_in"]) == (2, 32)
    assert binary.inputs[1].shape == (40, 3, 3, 1)
    (stem,) = [operator for operator in file.operators if operator.name == "CONV_2D"]
    assert stem.builtin_options.number(1, default=1) == 1  # stride_w
    assert file.data(stem.inputs[1]).shape == (32, 3, 3, 3)
    assert file.inputs[0].shape == (1, 8, 8, 3)
    assert file.outputs[0].shape == (1, 4)


def test_filters_stand_where_it_says(content):
    file = LceFile(content)
    (kernel,) = file.binary_filters()
    assert kernel.shape == (40, 3, 3, 1)
    words = np.frombuffer(content[kernel.offset : kernel.offset + kernel.size], "<i4")
    (binary,) = [operator for operator in file.operators if operator.name == "LceBconv2d"]
    np.testing.assert_array_equal(words, file.data(binary.inputs[1]).ravel())


def test_metadata_is_kept_and_replaced(content):
    once = LceFile(content).with_metadata({"NOTE": b"first", "OTHER": b"kept"})
    twice = LceFile(LceFile(once).with_metadata({"NOTE": b"second"})).metadata
    assert LceFile(once).metadata["NOTE"] == b"first"
    assert (twice["NOTE"], twice["OTHER"]) == (b"second", b"kept")
    images = np.ones((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(
        Interpreter(once, trusted=True).predict(images), Interpreter(content, trusted=True).predict(images)
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:7], "no TFLite model"),
        (lambda content: b"PK" + content[2:4] + b"????" + content[8:], "no TFLite model"),
        (lambda content: content[: len(content) // 2], "damaged or incomplete"),
        (lambda content: b"\xff\xff\xff\x7f" + content[4:], "damaged or incomplete"),
        (lambda content: content[:8] + bytes(len(content) - 8), "damaged or incomplete"),
    ],
)
def test_damage_is_one_clear_error(content, tmp_path, damage, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(damage(content))
    with pytest.raises(DamagedFile, match=f"model.tflite' .*{message}") as caught:
        LceFile(path)
    assert "\n" not in str(caught.value)


def test_endless_file():
    with pytest.raises(UserError, match="'/dev/zero' is no regular file"):
        LceFile("/dev/zero")


def test_a_file_that_ends_the_interpreter_ends_no_other_process(content):
    """A stride of 0, by which native code divides."""
    import flatbuffers
    from flatbuffers import flexbuffers
    from larq_compute_engine.mlir.python import tflite_schema as schema

    file = LceFile(content)
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    names = [operator.name for operator in file.operators]
    binary = file.operators[names.index("LceBconv2d")]
    options = flexbuffers.Dumps({**binary.options, "stride_height": 0, "stride_width": 0})
    parsed.subgraphs[0].operators[names.index("LceBconv2d")].customOptions = np.frombuffer(options, np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    broken = LceFile(bytes(builder.Output()))
    with pytest.raises(UserError, match="does not run on LCE's interpreter"):
        Interpreter(broken).predict(np.zeros((1, 8, 8, 3), np.float32))


def test_mutations(content):
    specification = importlib.util.spec_from_file_location("check_tflite_fuzz", SCRIPT)
    fuzz = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fuzz)
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        change = fuzz.mutated if number % 2 else fuzz.headers_first
        try:
            LceFile(change(content, rng))
        except UserError:
            refused += 1
    assert refused > 30


def test_reading_needs_no_tensorflow(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    code = (
        f"import sys; from bnn_tf.deploy.lce_file import LceFile; print(LceFile({str(path)!r}).counts());"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


class Scaled(layers.Layer):
    """Has a weight for each channel."""

    def build(self, shape):
        three = tf.keras.initializers.Constant([1, -2, 3])
        self.scale = self.add_weight("scale", shape[-1:], initializer=three)


class Branching(Scaled):
    def call(self, x):
        if tf.reduce_sum(x) > 0:  # AutoGraph makes an operator of it
            y = x * self.scale
        else:
            y = x - self.scale
        return y


class Nested(Scaled):
    @tf.function
    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("layer", [Branching, Nested])
def test_layers_that_tensorflow_has_to_follow(layer):
    """Neither AutoGraph nor variables that a function inside of the traced one reads are lost."""
    model = tf.keras.Sequential([tf.keras.Input((4, 4, 3)), layer(), layers.Conv2D(2, 3)])
    images = np.random.default_rng(0).standard_normal((4, 4, 4, 3), np.float32)
    outputs = np.concatenate([model(image[None]) for image in images])
    np.testing.assert_allclose(Interpreter(to_flatbuffer(model)).predict(images), outputs, atol=1e-5)
