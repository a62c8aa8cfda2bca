"""What a name on the command line stands for, and which images a model takes."""

import dataclasses
import json

import numpy as np
import pytest

from bnn_tf import data
from bnn_tf._tensorflow import tf
from bnn_tf.cli.target import ImageSet, Target, sidecar
from bnn_tf.errors import UserError
from bnn_tf.report.page import png


@pytest.fixture
def file(tmp_path):
    """A path at which there is some file; nothing here reads it."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"")
    return path


class TestKinds:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("model.tflite", "tflite"),
            ("model.snn", "snn"),
            ("model.keras", "saved model"),
            ("model.h5", "saved model"),
            ("saved", "saved model"),
            ("run", "run"),
            ("larq-zoo:QuickNet", "larq-zoo"),
            ("cifar_resnet20", "architecture"),
            ("CifarResNet20", "architecture"),
            ("vgg-small", "architecture"),
        ],
    )
    def test_kind(self, tmp_path, monkeypatch, name, kind):
        for file in ("model.tflite", "model.snn", "model.keras", "model.h5"):
            (tmp_path / file).write_bytes(b"")
        for folder, file in (("saved", "saved_model.pb"), ("run", "config.json")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / file).write_bytes(b"")
        monkeypatch.chdir(tmp_path)
        assert Target.open(name).kind == kind

    def test_the_nearest_name_is_offered(self, tmp_path):
        (tmp_path / "recu-cifar10").mkdir()
        with pytest.raises(
            UserError, match=r"there is no run and no model at .*; did you mean .*recu-cifar10"
        ):
            Target.open(tmp_path / "recu-cifar1O")

    def test_a_converted_file_has_no_keras_network(self, file):
        with pytest.raises(UserError, match="not .tflite files"):
            Target.open(file).network()


class TestSidecar:
    """The file beside a converted model."""

    IMAGES = data.Images(training=(data.PadCrop(4), data.Flip()), size=(8, 8), mean=0.5, std=0.25)

    def write(self, file, **changes):
        images = ImageSet("cifar10", "/home/author/data", self.IMAGES.to_dict(), ["cat", "dog"])
        sidecar(file).write_text(json.dumps({**images.contract(), **changes}))

    def test_it_says_what_evaluation_needs_and_nothing_of_the_author(self, file):
        self.write(file)
        text = sidecar(file).read_text()
        assert "author" not in text
        assert "pad_crop" not in text
        images = Target.open(file).images()
        assert (images.dataset, images.data_dir, images.class_names) == ("cifar10", None, ["cat", "dog"])
        assert images.pre() == dataclasses.replace(self.IMAGES, training=())

    def test_a_description_of_the_model_alone_says_nothing_of_images(self, file):
        sidecar(file).write_text(json.dumps({"format": 1, "inputs": [], "outputs": []}))
        assert not Target.open(file).knows_images()

    def test_options_override(self, file):
        self.write(file)
        opened = Target.open(file)
        assert opened.images("cifar100").dataset == "cifar100"
        assert opened.images(data_dir="/new").data_dir == "/new"
        assert opened.images(normalization="cifar").pre().mean == (0.491, 0.482, 0.447)

    @pytest.mark.parametrize("content", ["", "[]", '{"dataset": "digits"}', "null", '{"crop": 3}'])
    def test_damaged(self, file, content):
        sidecar(file).write_text(content)
        with pytest.raises(UserError, match=r"model.tflite.json cannot be read"):
            Target.open(file).images()

    @pytest.mark.parametrize("change", [{"std": [0, 0, 0]}, {"crop": "big"}, {"cover": [9, 12]}])
    def test_impossible(self, file, change):
        self.write(file, **change)
        with pytest.raises(UserError, match=r"model.tflite.json cannot be read"):
            Target.open(file).images()


@pytest.mark.parametrize(("size", "expected"), [((None, None), (32, 32)), ((64, 48), (64, 48))])
def test_models_of_open_size_take_the_usual_one(tmp_path, size, expected):
    image = tf.keras.Input((*size, 3))
    logits = tf.keras.layers.Dense(2)(tf.keras.layers.GlobalAveragePooling2D()(image))
    path = tmp_path / "model.keras"
    tf.keras.Model(image, logits).save(path)
    assert Target.open(path).images("digits", None, "unit").pre().size == expected


@pytest.mark.parametrize("name", ["evaluate", "predict", "device-kit"])
def test_networks_that_tell_no_classes_are_refused(command, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "black.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    image = tf.keras.Input((8, 8, 3), name="photo")
    heads = [tf.keras.layers.Conv2D(10, 1, name=label)(image) for label in ("scores", "boxes")]
    tf.keras.Model(image, heads).save("two.keras")
    tf.keras.Model(image, heads[0]).save("map.keras")
    images = ("--normalization", "unit")
    digits = ("--dataset", "digits", *images)
    more = {
        "evaluate": (*digits, "--limit", 8),
        "predict": ("black.png", *images),
        "device-kit": (*digits, "-o", "kit", "--images", 8),
    }[name]
    code, out, err = command(name, "two.keras", *more)
    assert (code, out) == (1, "")
    assert err == (
        "bnn-tf: two.keras has 2 outputs (scores, boxes); this command takes networks with one of each\n"
    )
    if name != "device-kit":
        assert command("convert", "two.keras", "-o", "two.tflite", "--images", 8)[0] == 0
        code, out, err = command(name, "two.tflite", *more)
        assert (code, out) == (1, "")
        assert "two.tflite has 2 outputs (" in err
        assert err.endswith("); this command takes networks with one of each\n")
        code, out, err = command(name, "map.keras", *more)
        assert (code, out) == (1, "")
        assert err.endswith("gives outputs of shape (8, 8, 10), not one value for each class\n")


class _Branching(tf.keras.layers.Layer):
    """Needs AutoGraph, as somebody's own layer may."""

    def call(self, inputs):
        if tf.reduce_sum(inputs) > 1e9:
            return -inputs
        return inputs


@pytest.mark.parametrize("layer", [tf.keras.layers.ReLU, _Branching])
def test_networks_take_batches_of_all_sizes(tmp_path, monkeypatch, layer):
    monkeypatch.setitem(tf.keras.utils.get_custom_objects(), layer.__name__, layer)
    image = tf.keras.Input((4, 4, 3))
    tf.keras.Model(image, tf.keras.layers.Flatten()(layer()(image))).save(tmp_path / "model.keras")
    predict = Target.open(tmp_path / "model.keras").predict()
    for count in (8, 3):
        images = np.random.default_rng(0).uniform(0, 1, (count, 4, 4, 3))
        np.testing.assert_allclose(predict(images), images.reshape(count, -1), rtol=1e-6)
