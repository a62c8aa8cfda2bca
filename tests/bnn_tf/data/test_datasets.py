from pathlib import Path

import numpy as np
import pytest

from bnn_tf import data, registry
from bnn_tf.data import datasets
from bnn_tf.errors import UserError


def test_sizes_and_classes():
    source = data.load("digits")
    assert (source.name, source.num_classes, source.train.image_shape) == ("digits", 10, (32, 32, 3))
    assert source.class_names == [str(i) for i in range(10)]
    assert (source.size("train"), source.size("test")) == (1437, 360)


def test_every_class_is_held_out_in_proportion():
    source = data.load("digits")
    train, test = (np.bincount(source.split(name).tensors[1]) for name in ("train", "test"))
    assert (train.sum(), test.sum()) == (1437, 360)
    assert abs(test / (train + test) - 360 / 1797).max() < 1.5 / 174


def test_the_split_never_changes():
    source = data.load("digits")
    assert source.split("test").tensors[1][:12].numpy().tolist() == [0, 7, 0, 7, 4, 8, 3, 8, 3, 7, 4, 6]
    assert source.split("train").tensors[1][:12].numpy().tolist() == [4, 7, 6, 0, 5, 4, 2, 9, 3, 7, 7, 5]


def test_the_two_splits_are_all_the_digits():
    """Each once."""
    source = data.load("digits")
    images = [source.split(name).tensors[0].numpy() for name in ("train", "test")]
    brightness = np.sort(np.concatenate(images)[..., 0].reshape(1797, -1).mean(axis=1))
    with np.load(Path(datasets.__file__).with_name("digits.npz")) as file:
        original = np.sort(file["images"].reshape(1797, -1).mean(axis=1)) * 255 / 16
    assert np.abs(brightness - original).max() < 6


def test_pixels_are_grey_whole_numbers_of_the_full_range():
    images = data.load("digits").split("test").tensors[0].numpy()
    assert images.dtype == np.uint8
    assert images.shape == (360, 32, 32, 3)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(images[..., 0], images[..., 2])


def test_the_first_digits_for_a_quick_try_have_many_classes():
    source = data.load("digits", limit=40)
    assert (source.size("train"), source.size("test")) == (40, 40)
    assert len(set(source.split("train").tensors[1].numpy())) >= 8


class TestOwn:
    """Datasets that others bring."""

    @pytest.fixture
    def stripes(self):
        places = []
        with datasets.DATASETS.temporary():

            @datasets.register("stripes")
            def stripes(data_dir):
                places.append(data_dir)
                images, labels = np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 2
                return data.Source(
                    ("even", "odd"), data.ArraySplit(images, labels), data.ArraySplit(images, labels)
                )

            yield places

    def test_a_registered_function(self, stripes, tmp_path):
        (tmp_path / "train").mkdir()  # looks like an image folder, and is the own function's business
        source = data.load("stripes", tmp_path, limit=4)
        assert (source.name, source.class_names, source.size("test")) == ("stripes", ["even", "odd"], 4)
        assert stripes == [tmp_path]
        assert "stripes" in data.list_datasets()
        assert str(data.facts("stripes")) == "2 classes, 6 + 6 images, 8 px"
        images = data.Images((data.Flip(),), size=8, channels=1)
        pixels, labels = next(iter(data.training_batches(source, images, 4)))
        assert pixels.shape == (4, 8, 8, 1)
        assert sorted(labels.numpy()) == [0, 0, 1, 1]

    def test_a_function_in_a_module(self, tmp_path, monkeypatch):
        mine, wrong = "def mine():\n    return load('digits')\n", "def wrong():\n    return 3\n"
        code = f"from bnn_tf.data import load\n{mine}{wrong}"
        (tmp_path / "their_dataset.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(UserError, match="not installed"):
            data.load("their_dataset:mine")
        with datasets.DATASETS.temporary():
            registry.trust("their_dataset:mine")
            assert data.load("their_dataset:mine").name == "their_dataset:mine"
            with pytest.raises(data.DataError, match="returned int"):
                data.load("their_dataset:wrong")

    def test_a_function_of_an_installed_package_is_not_called(self, capsys):
        for name in ("numpy:show_config", "bnn_tf.cli.app:main", "click:Command"):
            with pytest.raises(UserError, match="which does not register it as a dataset"):
                data.load(name)
        assert capsys.readouterr().out == ""
        assert data.load("bnn_tf.data.datasets:digits").size("test") == 360


def test_what_is_known_of_an_absent_image_folder():
    facts = data.facts("tiny_imagenet")
    assert str(facts) == "200 classes, 100,000 + 10,000 images, 64 px"
    assert facts.class_names == ()
    with pytest.raises(data.AbsentError, match="say where it is"):
        data.facts("folder")
    with pytest.raises(data.AbsentError, match="say where it is"):
        data.load("tiny_imagenet", download=False)


def test_list_datasets():
    names = ["digits", "cifar10", "cifar100", "imagenet2012", "tiny_imagenet", "folder"]
    assert data.list_datasets()[:6] == names
