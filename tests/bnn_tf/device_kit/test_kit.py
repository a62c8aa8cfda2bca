"""What stands in the folder, and which image is the reference."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import device_kit
from bnn_tf.data import Images
from bnn_tf.errors import UserError


def test_files(kit):
    names = {path.name for path in kit.iterdir()}
    assert names == {
        "README.md", "model.tflite", "labels.txt", "preprocessing.json", "preprocess.py", "compare.py",
        "predict.py", "common.sh", "run_lce_on_android.sh", "run_lce_on_pi.sh", "input_shape.txt",
        "expected.json",
        "expected_output.npy", "reference_image.npy", "reference_image.png", "reference_input.npy",
        "reference_input.bin",
    }  # fmt: skip
    assert (kit / "labels.txt").read_text() == "cat\ndog\na bird\n"
    assert (kit / "input_shape.txt").read_text() == "1,8,8,3\n"
    executable = {path.name for path in kit.iterdir() if path.stat().st_mode & 0o111}
    assert executable == {
        "preprocess.py",
        "compare.py",
        "predict.py",
        "run_lce_on_android.sh",
        "run_lce_on_pi.sh",
    }
    readme = (kit / "README.md").read_text()
    for name in names - {"README.md", "common.sh", "input_shape.txt"}:
        stem, _, suffix = name.partition(".")
        assert name in readme or f"`{stem}." in readme and f"`.{suffix}`" in readme, name


def test_expected(kit):
    expected = json.loads((kit / "expected.json").read_text())
    assert [entry["label"] for entry in expected["top"]] == ["a bird", "cat", "dog"]
    assert expected["tolerance"] == pytest.approx(3.25e-3)
    assert json.loads((kit / "preprocessing.json").read_text())["shape"] == [1, 8, 8, 3]


def test_labels_stay_on_their_lines(kit, tmp_path):
    reference = device_kit.Reference(
        np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.eye(2)[:1], 0.0, 0.0
    )
    pre = Images(size=(4, 4))
    device_kit.write(tmp_path / "x", kit / "model.tflite", ["a\nb", "größer"], pre, reference)
    assert (tmp_path / "x" / "labels.txt").read_text(encoding="utf-8") == "a b\ngrößer\n"


def test_a_folder_that_cannot_be_made(kit, tmp_path):
    reference = device_kit.Reference(
        np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.eye(2)[:1], 0.0, 0.0
    )
    pre = Images(size=(4, 4))
    with pytest.raises(UserError, match="cannot write the kit to"):
        device_kit.write(kit / "model.tflite" / "x", kit / "model.tflite", ["a", "b"], pre, reference)


class TestChoice:
    """Of the inputs 0, 1, 2, …, whose outputs are chosen to depend on rounding or not."""

    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, axis=-1)
    inputs = images.astype(np.float32)

    def test_the_image_on_which_keras_and_lce_agree(self):
        def keras(inputs):
            return inputs[:, 0, 0, :2] + np.array([[0.5], [0.2], [0.0], [0.1]])

        choice = device_kit.choose(lambda inputs: inputs[:, 0, 0, :2], keras, self.images, self.inputs)
        assert choice.image[0, 0, 0] == 2
        assert choice.outputs.tolist() == [[2, 2]]
        assert choice.inputs.shape == (1, 1, 1, 3)
        assert choice.spread == pytest.approx(2e-6, rel=0.2)
        assert choice.steady
        assert (choice.keras_gap, choice.agreement) == (0, 1)

    def test_where_keras_never_agrees_the_nudges_decide(self):
        def lite(inputs):
            return (inputs[:, 0, 0, :2] > np.array([[1], [2], [0]])).astype(np.float32)

        choice = device_kit.choose(lite, lambda x: lite(x) + 0.5, self.images[1:], self.inputs[1:])
        assert choice.image[0, 0, 0] == 3
        assert (choice.spread, choice.keras_gap, choice.agreement) == (0, 0.5, 1)

    @pytest.mark.parametrize("nudge", [5e-7, -5e-7])
    def test_not_one_at_a_threshold(self, nudge):
        """Image 2 lies half a nudge above or below where its outputs jump."""

        def lite(inputs):
            return (inputs[:, 0, 0, :2] > 2 * (1 + nudge)).astype(np.float32)

        images, inputs = self.images[[2, 3]], self.inputs[[2, 3]]
        choice = device_kit.choose(lite, lite, images, inputs)
        assert (choice.image[0, 0, 0], choice.spread) == (3, 0)
        assert device_kit.choose(lite, lite, images[:1], inputs[:1]).spread == 1

    def test_where_nothing_is_a_number(self):
        blind = device_kit.choose(
            lambda x: x[:, 0, 0] * np.nan, lambda x: x[:, 0, 0], self.images, self.inputs
        )
        assert blind.spread == np.inf
        assert not blind.steady


class TestInt8:
    """An int8 input is quantized, an int8 output stands for floats."""

    @pytest.fixture
    def int8_kit(self, kit, tmp_path, rng):
        image = rng.integers(0, 256, (8, 8, 3), np.uint8)
        pre = Images(size=(8, 8))
        outputs = np.array([[0.5, -2.0, 3.0]], np.float32)
        reference = device_kit.Reference(image, pre.normalize(image)[None], outputs, 0.0, 0.2)
        ends = ((0.008, -3), (0.25, 4))
        folder = tmp_path / "int8"
        device_kit.write(folder, kit / "model.tflite", ["a", "b", "c"], pre, reference, *ends)
        return folder

    def test_input(self, int8_kit):
        actual = np.load(int8_kit / "reference_input.npy")
        pixels = np.load(int8_kit / "reference_image.npy").astype(np.float64)
        exact = (pixels / 127.5 - 1) / 0.008 - 3
        assert actual.dtype == np.int8
        assert np.abs(actual[0] - np.clip(exact, -128, 127)).max() < 0.5001
        assert (int8_kit / "reference_input.bin").read_bytes() == actual.tobytes()
        rule = json.loads((int8_kit / "preprocessing.json").read_text())
        assert (rule["dtype"], rule["quantization"]) == ("int8", [0.008, -3])

    @pytest.mark.parametrize(("actual", "code"), [([6, -4, 16], 0), ([6, -4, 17], 1)])
    def test_output(self, int8_kit, tmp_path, actual, code):
        (tmp_path / "out.bin").write_bytes(np.array(actual, np.int8).tobytes())
        command = [sys.executable, int8_kit / "compare.py", tmp_path / "out.bin"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "c  (class 2, output 3." in done.stdout


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_program(tmp_path, tiny, rng):
    """The C file compiles with the kit's Makefile, and names the class that Keras names."""
    network, pre = tiny(), Images(size=(8, 8))
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    inputs = pre.normalize(image)[None]
    outputs = network.predict_on_batch(inputs)
    (tmp_path / "model.tflite").write_bytes(b"a model")
    names = [f"class{number}" for number in range(10)]
    reference = device_kit.Reference(image, inputs, outputs, 1e-6, 1e-6)
    device_kit.write(tmp_path / "kit", tmp_path / "model.tflite", names, pre, reference, network=network)
    subprocess.run(["make", "-s"], cwd=tmp_path / "kit", check=True)
    said = subprocess.run(
        ["./net", "reference_image.ppm"], cwd=tmp_path / "kit", check=True, capture_output=True, text=True
    ).stdout
    assert said.startswith(f"reference_image.ppm: {names[int(outputs.argmax())]} (")
