"""`bnn-tf predict` of a saved model and of a converted file."""

import json

import numpy as np
import pytest

from bnn_tf._tensorflow import tf
from bnn_tf.report.page import png


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """A model that tells red, green and blue apart, as `.keras` and as `.tflite`, and pictures of them."""
    image = tf.keras.Input((8, 8, 3))
    dense = tf.keras.layers.Dense(3, use_bias=False)
    model = tf.keras.Model(image, dense(tf.keras.layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([5 * np.eye(3, dtype=np.float32)])
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    for index, name in enumerate(("red", "green", "blue")):
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[..., index] = 255
        (tmp_path / f"{name}.png").write_bytes(png(pixels))
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", ["model.keras", "model.tflite"])
def test_top_classes(command, colours, model):
    options = ("--normalization", "none", "--class-names", "names.txt", "--top", "2")
    code, out, err = command("predict", model, "blue.png", "green.png", *options)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    share = np.exp(5) / (np.exp(5) + 2)
    assert first == f"blue.png: blue {share:.1%}, red {(1 - share) / 2:.1%}"
    assert second.startswith("green.png: green ")


def test_a_folder_of_class_folders(command, colours):
    (colours / "all" / "red").mkdir(parents=True)
    (colours / "red.png").rename(colours / "all" / "red" / "1.png")
    code, out, err = command("predict", "model.keras", "all", "--normalization", "none")
    assert (code, out) == (1, "")
    assert "all holds folders, not images; name one of them, such as all/red, or several: all/*" in err


def test_a_folder_stands_for_its_images(command, colours):
    (colours / "folder").mkdir()
    (colours / "red.png").rename(colours / "folder" / "red.png")
    options = ("--normalization", "none", "--json")
    printed = json.loads(command("predict", "model.keras", "folder", "blue.png", *options)[1])
    assert [image["image"] for image in printed["images"]] == ["folder/red.png", "blue.png"]
    (colours / "folder" / "red.png").unlink()
    code, _, err = command("predict", "model.keras", "folder", *options)
    assert code == 1
    assert "there is no image directly in the folder folder (.jpg, " in err


def test_a_damaged_image_is_named(command, colours):
    (colours / "red.png").write_bytes((colours / "red.png").read_bytes()[:40])
    code, _, err = command("predict", "model.keras", "red.png", "--normalization", "none")
    assert (code, err) == (1, "bnn-tf: red.png is a PNG image that is damaged or cut off\n")


def test_images_beside_a_damaged_one_are_classified(command, colours):
    (colours / "empty.png").touch()
    options = ("--normalization", "none", "--class-names", "names.txt")
    code, out, err = command("predict", "model.keras", "empty.png", "red.png", "blue.png", *options)
    assert [line.split()[:2] for line in out.splitlines()] == [["red.png:", "red"], ["blue.png:", "blue"]]
    assert (code, err) == (1, "bnn-tf: empty.png is empty\n")
    code, out, _ = command("predict", "model.keras", "empty.png", "red.png", *options, "--json")
    assert (code, json.loads(out)["unread"]) == (1, {"empty.png": "empty.png is empty"})


def test_json(command, colours):
    printed = json.loads(command("predict", "model.keras", "red.png", "--normalization", "none", "--json")[1])
    (image,) = printed["images"]
    best = image["classes"][0]
    assert (image["image"], best["class"], best["index"]) == ("red.png", "0", 0)
    assert best["logit"] == pytest.approx(5, rel=1e-3)


@pytest.mark.sample(2)
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "softmax"])
def test_what_the_outputs_mean(command, colours, activation):
    """One unit has two classes, and probabilities are printed as they are."""
    image = tf.keras.Input((8, 8, 3))
    red = tf.keras.layers.Lambda(lambda x: 4 * x[..., :1] - 2)(
        tf.keras.layers.GlobalAveragePooling2D()(image)
    )
    units = 2 if activation == "softmax" else 1
    dense = tf.keras.layers.Dense(units, activation, use_bias=False)
    model = tf.keras.Model(image, dense(red))
    dense.set_weights([np.float32([[-1, 1]] if units == 2 else [[1]])])
    (colours / "two.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    (colours / "two.txt").write_text("other\nred\n")
    options = ("--normalization", "none", "--class-names", "two.txt", "--top", 1)
    out = command("predict", "two.tflite", "red.png", "blue.png", *options)[1]
    share = 1 / (1 + np.exp(-4 if activation == "softmax" else -2))
    assert out.splitlines() == [f"red.png: red {share:.1%}", f"blue.png: other {share:.1%}"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("model.keras", "red.png"), 2, "does not say which images it takes; name a --normalization (imag"),
        (
            ("model.keras", "names.txt", "--normalization", "none"),
            1,
            "names.txt is no image of a kind that is read",
        ),
        (
            ("model.keras", "red.png", "--normalization", "none", "--class-names", "two.txt"),
            1,
            "two.txt holds 2 names, the model has 3 classes",
        ),
        (("model.keras", "red.png", "--normalization", "nune"), 2, "did you mean 'none'"),
    ],
)
def test_what_cannot_be_predicted(command, colours, arguments, code, message):
    (colours / "two.txt").write_text("a\nb\n")
    exit_code, out, err = command("predict", *arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1
