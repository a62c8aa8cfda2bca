"""The kit's NumPy preprocessing against `bnn_tf.data`, and its command line."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.data import Images
from bnn_tf.device_kit.kit import FILES, rule


@pytest.fixture(scope="module")
def numpy_only():
    """The module files/preprocess.py."""
    spec = importlib.util.spec_from_file_location("kit_preprocess", FILES / "preprocess.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = [
    Images(),
    Images(size=(24, 40), normalization="cifar"),
    Images(evaluation=data.ResizeShort(), size=28, normalization="imagenet"),
    Images(size=(9, 24), normalization="cifar").with_channels(1),
    Images(evaluation=data.ResizeShort(45 / 32), size=(20, 32), normalization="imagenet"),
]
SIZES = [(32, 32), (40, 24), (24, 40), (7, 90), (100, 37), (61, 61), (1, 1), (200, 150), (64, 64)]


def picture(rng, size):
    """Noise over a gradient, so that neighbours differ and all values occur."""
    ramp = np.linspace(0, 255, size[0] * size[1] * 3).reshape(*size, 3)
    return np.clip(ramp + rng.normal(0, 40, ramp.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("pre", RULES, ids=lambda pre: str(pre.evaluation))
@pytest.mark.parametrize("size", SIZES)
def test_it_equals_the_evaluation_preprocessing(numpy_only, rng, pre, size):
    image = picture(rng, size)
    seen = pre.views(tf.constant(image[None]))[0]
    np.testing.assert_array_equal(numpy_only.view(image, rule(pre)), seen.numpy())
    actual = numpy_only.preprocess(image, rule(pre))
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual[0], pre.normalize(seen.numpy()))
    np.testing.assert_allclose(actual[0], pre.normalize(seen).numpy(), atol=1e-6)


@pytest.mark.parametrize("pre", RULES, ids=lambda pre: str(pre.evaluation))
def test_it_equals_what_the_pipeline_gives_for_files(numpy_only, rng, tmp_path, pre):
    """Pictures of several sizes in an image folder, read through TensorFlow and through Pillow."""
    pytest.importorskip("PIL")
    for split in ("train", "test"):
        for number, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            png = tf.io.encode_png(picture(rng, (50 + 13 * number, 44))).numpy()
            (tmp_path / split / name / "0.png").write_bytes(png)
    images, labels = data.take(data.load("folder", tmp_path), pre, 2)
    for image, label in zip(images, labels, strict=True):
        path = tmp_path / "test" / ("ant", "bee")[label] / "0.png"
        actual = numpy_only.preprocess(numpy_only.read_picture(path), rule(pre))
        np.testing.assert_allclose(actual[0], image, atol=1e-6)


def test_resizing_equals_tensorflow_exactly(numpy_only):
    rng = np.random.default_rng(1)
    for _ in range(60):
        have, want = rng.integers(1, 150, 2), rng.integers(1, 150, 2)
        image = picture(rng, have)
        resized = tf.image.resize(image, want, antialias=True)
        resized = tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
        np.testing.assert_array_equal(numpy_only.resize(image, tuple(want)), resized)


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 1)])
def test_grey_pictures(numpy_only, rng, shape):
    grey = rng.integers(0, 256, shape, np.uint8)
    coloured = np.repeat(grey.reshape(9, 11, 1), 3, axis=2)
    sizes = rule(Images(size=8))
    np.testing.assert_array_equal(numpy_only.preprocess(grey, sizes), numpy_only.preprocess(coloured, sizes))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_picture(numpy_only, image):
    with pytest.raises(ValueError, match="a picture"):
        numpy_only.preprocess(image, rule(Images()))


def run(kit, script, *arguments):
    return subprocess.run(
        [sys.executable, kit / script, *map(str, arguments)], capture_output=True, text=True, check=False
    )


class TestCommandLine:
    def test_the_reference_image_becomes_the_reference_input(self, kit, tmp_path):
        for picture in ("reference_image.npy", "reference_image.png"):
            done = run(kit, "preprocess.py", kit / picture, "-o", tmp_path / "input.bin")
            assert (done.returncode, done.stderr) == (0, "")
            assert (tmp_path / "input.bin").read_bytes() == (kit / "reference_input.bin").read_bytes()
            run(kit, "preprocess.py", kit / picture, "-o", tmp_path / "input.npy")
            np.testing.assert_array_equal(
                np.load(tmp_path / "input.npy"), np.load(kit / "reference_input.npy")
            )

    @pytest.mark.parametrize("content", [None, b"not a picture"])
    def test_errors_are_one_line(self, kit, tmp_path, content):
        if content is not None:
            (tmp_path / "x.png").write_bytes(content)
        done = run(kit, "preprocess.py", tmp_path / "x.png", "-o", tmp_path / "input.bin")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("preprocess.py: ")


class TestCompare:
    def outputs(self, kit, change=0.0):
        return np.load(kit / "expected_output.npy") + np.float32(change)

    @pytest.mark.parametrize(("change", "code"), [(0, 0), (0.003, 0), (0.004, 1), (np.nan, 1), (np.inf, 1)])
    def test_the_usual_tolerance(self, kit, tmp_path, change, code):
        np.save(tmp_path / "found.npy", self.outputs(kit, change))
        assert run(kit, "compare.py", tmp_path / "found.npy").returncode == code

    def test_another_tolerance(self, kit, tmp_path):
        (tmp_path / "found.bin").write_bytes(self.outputs(kit, 0.1).tobytes())
        assert run(kit, "compare.py", tmp_path / "found.bin").returncode == 1
        assert run(kit, "compare.py", "--tolerance", 0.2, tmp_path / "found.bin").returncode == 0

    def test_another_winner_disagrees_within_any_tolerance(self, kit, tmp_path):
        (tmp_path / "found.bin").write_bytes(self.outputs(kit)[:, ::-1].tobytes())
        assert run(kit, "compare.py", "--tolerance", 100, tmp_path / "found.bin").returncode == 1

    def test_unreadable(self, kit, tmp_path):
        done = run(kit, "compare.py", tmp_path / "nothing")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
