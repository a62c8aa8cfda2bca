"""Small datasets in each of the forms that the package reads."""

import functools
from pathlib import Path

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf

CLASSES = ("ant", "bee", "cat")


def picture(rng, height, width, channels=3):
    """A smooth picture, so that JPEG keeps it nearly as it is."""
    coarse = tf.constant(rng.uniform(0, 255, (4, 4, channels)), tf.float32)
    return tf.saturate_cast(tf.image.resize(coarse, (height, width), "bicubic"), tf.uint8)


def _write_picture(path: Path, image) -> None:
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(image).numpy())


def _write_folder(root: Path, rng, train=7, test=3, held_out="val") -> Path:
    """An image folder of JPEG and PNG files of different sizes."""
    for split, count in (("train", train), (held_out, test)):
        for name in CLASSES:
            for i in range(count):
                height, width = rng.integers(24, 60, 2)
                suffix = ".png" if i % 3 == 2 else ".JPEG"
                _write_picture(root / split / name / f"{i}{suffix}", picture(rng, height, width))
    return root


@pytest.fixture
def write_picture():
    """Encodes an image as the suffix of its path says: `write_picture(path, image)`."""
    return _write_picture


@pytest.fixture
def folder(tmp_path, rng):
    return _write_folder(tmp_path / "pictures", rng)


@pytest.fixture(scope="session")
def folder_source(tmp_path_factory):
    return data.load("folder", _write_folder(tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)))


@functools.cache
def tfds_builders():
    """Builders as users of TFDS write them, known to it by their names in snake case."""
    import tensorflow_datasets as tfds

    grey = tfds.features.Image(shape=(12, 12, 1))
    two = tfds.features.ClassLabel(names=["even", "odd"])

    class Base(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None  # TFDS cannot find it for a class in a test
        FEATURES = {"image": grey, "label": two}
        SPLITS = {"train": 23, "test": 9}

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES))

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(count) for name, count in self.SPLITS.items()}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.full((12, 12, 1), 10 * i, np.uint8), "label": i % 2}

    class TinySquares(Base):
        """Grey squares of 12 x 12; example i has the brightness 10 i."""

    class TinyTrainOnly(Base):
        SPLITS = {"train": 20}

    class TinyVaried(Base):
        """Images that differ in size, with more features than one needs."""

        FEATURES = {"image": tfds.features.Image(shape=(None, None, 3)), "label": two, "id": np.int64}

        def _generate_examples(self, count):
            for i in range(count):
                image = np.full((10 + i, 30, 3), 10 * i, np.uint8)
                yield i, {"image": image, "label": i % 2, "id": i}

    class TinyUnlabelled(Base):
        FEATURES = {"image": grey}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.zeros((12, 12, 1), np.uint8)}

    class TinyHiddenLabels(Base):
        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": np.zeros((12, 12, 1), np.uint8), "label": -1}

    class TinyOffline(Base):
        def _split_generators(self, dl_manager):
            raise OSError("no route to host")

    return tfds


def prepare(name: str, root: Path) -> Path:
    """Writes one of `tfds_builders` in three record files per split."""
    tfds = tfds_builders()
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(num_shards=3, try_download_gcs=False)
    builder = tfds.builder(name, data_dir=str(root), try_gcs=False)
    builder.download_and_prepare(file_format="tfrecord", download_config=config)
    return root


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A TFDS directory with the dataset `tiny_squares`, as a user would have it."""
    return prepare("tiny_squares", tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def prepare_tfds(tmp_path):
    """Prepares a dataset by name in a new TFDS directory: `prepare_tfds("tiny_varied")`."""
    return lambda name: prepare(name, tmp_path)


@pytest.fixture
def streamed_source(prepared, monkeypatch):
    """`tiny_squares` where memory holds nothing at all, shuffled by blocks of eight."""
    monkeypatch.setattr("bnn_tf.data.tfds.MEMORY_LIMIT", 0)
    monkeypatch.setattr("bnn_tf.data.tfds.SHUFFLE_BLOCK", 8)
    return data.load("tiny_squares", prepared, download=False)
